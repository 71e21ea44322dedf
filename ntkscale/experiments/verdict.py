"""What an experiment concludes from a run, and what it cost to find out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkscale.experiments.answer import Answer
from ntkscale.reporting import Picture, Section, Table, draw_kernel_pictures, save_figure
from ntkscale.runs import Run


@dataclass(frozen=True)
class Verdict:
    """The conclusion of one run.

    Attributes:
        title: of the report.
        summary: what was found, in a few sentences.
        tables: the verdict table and those that support it, printed and put first in the report.
        sections: the rest of the report, with its figures.
        answers: one a task, for the table that all runs share.
    """

    title: str
    summary: str
    tables: Sequence[Table]
    sections: Sequence[Section]
    answers: Sequence[Answer] = ()


def tracker_cost(run: Run) -> str:
    """What following the kernel cost in this run, in a sentence or two."""
    # Wall times decide nothing: a line that lacks one counts as none.
    last = {line.get("cell"): line for line in run.timings}.values()
    total, spent, spectrum = (
        sum(t for line in last if isinstance(t := line.get(name), int | float))
        for name in ("seconds", "tracker_seconds", "spectrum_seconds")
    )
    if total <= 0:
        return "The cost of the kernel tracker was not recorded."
    said = (
        f"Following the kernel took {spent:.0f} s of {total:.0f} s of training, "
        f"{100 * spent / total:.1f} %."
    )
    if spectrum:
        said += f" The larger kernels at initialisation, for alpha and beta, took {spectrum:.0f} s."
    return said


def kernel_strip(run: Run, key: dict[str, float | int], note: str) -> list[Picture]:
    """The kernel of one cell at up to five of the times it was kept, first and last among them.

    Args:
        run: the run; the picture goes to its `figures/`.
        key: entries of `results.json` that single the cell out.
        note: what rows and columns are, for the caption.
    """
    name = next((n for n, one in run.results.items() if key.items() <= one.items()), "")
    rows = run.metrics.filter(run.metrics["cell"] == name)
    # Adam has no flow time: its axis is steps.
    clock = "step" if rows["time"].is_null().all() else "time"
    moments = dict(zip(rows["step"].to_list(), rows[clock].to_list(), strict=True))
    # A kernel is written before its row.
    steps = [step for step in run.kernels.steps(name) if moments.get(step) is not None]
    if not steps:
        return []
    last = len(steps) - 1
    kept = list(dict.fromkeys(steps[round(i * last / 4)] for i in range(5)))
    kernels = [run.kernels[name, step]["kernel"].numpy() for step in kept]
    # A rich network's kernel grows a hundredfold; what a picture can show is its shape.
    scales = [float(np.diagonal(kernel).mean()) or 1.0 for kernel in kernels]
    figure = draw_kernel_pictures(
        [kernel / scale for kernel, scale in zip(kernels, scales, strict=True)],
        [moments[step] for step in kept],
        axis=clock,
    )
    return [
        Picture(
            save_figure(figure, run.path / "figures", "kernel_pictures")[0],
            "The kernel matrix of the probe at up to five times.",
            f"{name}; {note} Each is divided by its mean diagonal entry: "
            f"{', '.join(f'{scale:.3g}' for scale in scales)}.",
        )
    ]
