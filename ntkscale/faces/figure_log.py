"""The figures of a finished run as images of its W&B group."""

from pathlib import Path

from ntkscale.experiments import Verdict
from ntkscale.reporting import WandbLog
from ntkscale.runs import Run


def log_figures(mode: str, run: Run, verdict: Verdict) -> None:
    """Record the figures of a verdict in a W&B run of their own, named ``figures``.

    Args:
        mode: of the record: offline, online or disabled.
        run: what was judged.
        verdict: with the figures drawn.
    """
    pictures = [figure for section in verdict.sections for figure in section.figures]
    named = {one.png.stem: one.png for one in pictures if isinstance(one.png, Path)}
    if not named:
        return
    log = WandbLog(
        mode,  # pyright: ignore[reportArgumentType]
        run.path,
        name="figures",
        group=f"{run.config['experiment']}/{run.path.name}",
        config=run.config,
    )
    log.log_figures(named)
    log.finish()
