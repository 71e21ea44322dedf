"""The figures of a finished run as images of its W&B group."""

from collections.abc import Callable
from pathlib import Path

from ntkscale.experiments.settings import WandbMode
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import WandbLog
from ntkscale.runs import Run


def log_figures(mode: WandbMode, run: Run, judge: Callable[[Run], Verdict]) -> None:
    """Draw the figures of a run and record them, in a W&B run named ``figures``.

    Args:
        mode: of the record.
        run: finished.
        judge: of its experiment.
    """
    pictures = [figure for section in judge(run).sections for figure in section.figures]
    named = {one.png.stem: one.png for one in pictures if isinstance(one.png, Path)}
    log = WandbLog(
        mode,
        run.path,
        name="figures",
        group=f"{run.config['experiment']}/{run.path.name}",
        config=run.config,
    )
    log.log_figures(named)
    log.finish()
