"""What an experiment concludes from a run, and what it cost to find out."""

from collections.abc import Sequence
from dataclasses import dataclass

from ntkscale.reporting import Section, Table
from ntkscale.runs import Run


@dataclass(frozen=True)
class Verdict:
    """The conclusion of one run.

    Attributes:
        title: of the report.
        summary: what was found, in a few sentences.
        tables: the verdict table and those that support it, printed and put first in the report.
        sections: the rest of the report, with its figures.
    """

    title: str
    summary: str
    tables: Sequence[Table]
    sections: Sequence[Section]


def tracker_cost(run: Run) -> str:
    """What following the kernel cost in this run, in a sentence or two."""
    last = {line["cell"]: line for line in run.timings}.values()
    total = sum(line["seconds"] for line in last)
    spent = sum(line["tracker_seconds"] for line in last)
    spectrum = sum(line["spectrum_seconds"] for line in last)
    if total <= 0:
        return "The cost of the kernel tracker was not recorded."
    said = (
        f"Following the kernel took {spent:.0f} s of {total:.0f} s of training, "
        f"{100 * spent / total:.1f} %."
    )
    if spectrum:
        said += f" The larger kernels at initialisation, for alpha and beta, took {spectrum:.0f} s."
    return said
