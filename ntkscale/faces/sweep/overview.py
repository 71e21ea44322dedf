"""A sweep's first table: one row a point, with what it varies, how far it is and what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ntkscale.experiments import Verdict
from ntkscale.faces.sweep.axes import Point
from ntkscale.faces.sweep.folder import SweepFolder
from ntkscale.reporting import Table
from ntkscale.runs import Run

_ASKED = ("which regime?", "does feature learning help?")
_FOUND = "what was found"
_LETTERS = 240


def overview(folder: SweepFolder, judged: Sequence[tuple[Run, Verdict]]) -> Table:
    """Every point in the order of the list.

    Args:
        folder: of the sweep.
        judged: its finished runs, or those that they were put together to.
    """
    verdicts = {run.path.resolve(): verdict for run, verdict in judged}
    axes = [axis.option for axis in folder.plan.axes]
    found = [_row(folder, point, axes, verdicts) for point in folder.plan.points]
    columns = [name for name in (*axes, "state", *_ASKED, _FOUND) if any(name in r for r in found)]
    done = sum(row["state"] == "done" for row in found)
    note = f"{done} of {len(found)} runs are finished."
    if done < len(found):
        note += " Give the command of the sweep again and the others go on."
    return Table(f"Sweep {folder.path.name}: {len(found)} runs", columns, found, note)


def _row(
    folder: SweepFolder, point: Point, axes: Sequence[str], verdicts: Mapping[Path, Verdict]
) -> dict[str, str]:
    row = {name: " ".join(point.options[name]) for name in axes}
    verdict = verdicts.get(folder.run(point).resolve())
    begun = "unfinished" if folder.run(point).exists() else "not started"
    row["state"] = "done" if folder.finished(point) else begun
    if verdict is None:
        return row
    answers = [answer.row("") for answer in verdict.answers]
    for question in _ASKED:
        said = dict.fromkeys(answer[question] for answer in answers)
        if said:
            row[question] = "; ".join(said)
    if not answers:
        text = verdict.summary
        row[_FOUND] = text if len(text) <= _LETTERS else f"{text[:_LETTERS].rpartition(' ')[0]} …"
    return row
