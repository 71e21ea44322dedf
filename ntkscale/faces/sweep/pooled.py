"""The runs of a sweep as one run, so that seeds get intervals and lazy stands beside rich.

A run with several seeds, or several gamma0, trains a cell of each. Runs of a sweep that differ in
such options alone hold the same cells, one run each: put together they are that run, and its
verdict is that of the sweep.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from ntkscale.experiments import EXPERIMENTS
from ntkscale.faces.sweep.axes import Point, takes_several
from ntkscale.faces.sweep.folder import SweepFolder
from ntkscale.runs import Run, copy_cells, load, open_run

POOLED = "pooled"


def pooled(sweep: SweepFolder) -> list[Path]:
    """Folders to judge in place of the sweep's finished runs, made anew in `<sweep>/pooled/`.

    Runs that differ in an option of one value stay apart, as do all where a cell of one name came
    out differently in two runs. Costs reading and writing all that the runs hold.

    Args:
        sweep: with its runs, of which some may be unfinished.

    Raises:
        RunFolderError: a run is damaged.
        OSError: the folder cannot be written.
    """
    plan, home = sweep.plan, sweep.path / POOLED
    if home.exists():
        shutil.rmtree(home)
    hints = get_type_hints(EXPERIMENTS[plan.experiment].settings)
    joined = [axis.option for axis in plan.axes if takes_several(hints.get(axis.option))]
    apart = [axis.option for axis in plan.axes if axis.option not in joined]
    groups: dict[str, list[Point]] = {}
    for point in plan.points:
        name = ",".join(f"{option}={point.options[option][0]}" for option in apart)
        groups.setdefault(name or "all", []).append(point)
    found: list[Path] = []
    for name, points in groups.items():
        done = [sweep.run(point) for point in points if sweep.finished(point)]
        path = home / plan.experiment / name
        together = len(done) > 1 and _put(path, done, joined, whole=len(done) == len(points))
        found += [path] if together else done
    return found


def _put(path: Path, parts: Sequence[Path], joined: Sequence[str], *, whole: bool) -> bool:
    """Make the run that has all cells of the parts; whether they go together."""
    every = [load(part) for part in parts]
    config = _config([part.config for part in every], joined)
    results: dict[str, Any] = {}
    alike = all(
        results.setdefault(name, record) == record
        for part in every
        for name, record in part.results.items()
    )
    if config is None or not alike:
        return False
    seen: set[str] = set()
    with open_run(path, config) as folder:
        for part in every:
            copy_cells(folder, part, but=seen)
            seen |= _names(part)
        if whole:
            folder.finish()
        else:
            folder.save_checkpoint({}, {})
    return True


def _config(parts: Sequence[dict[str, Any]], joined: Sequence[str]) -> dict[str, Any] | None:
    """The configuration of all parts, with every value of the joined options, or None."""
    first = {name: value for name, value in parts[0].items() if name != "version"}
    for part in parts[1:]:
        for name, value in first.items():
            others = part.get(name)
            if name in joined and isinstance(value, list) and isinstance(others, list):
                value += [one for one in others if one not in value]
            elif part.get(name) != value:
                return None
    return first


def _names(part: Run) -> set[str]:
    """Everything that something is written under."""
    return {*part.results, *part.metrics["cell"], *part.weighted}
