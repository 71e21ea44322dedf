"""A sweep on disk: the list in `sweep.json`, what happened in `events.jsonl`, runs and logs.

| below `runs/sweeps/<name>/` | |
| --- | --- |
| `sweep.json` | experiment, axes, every point with its options and its run; never rewritten |
| `<experiment>/<point>/` | an ordinary run folder |
| `logs/<point>.log` | what the run printed, all attempts one after the other |
| `events.jsonl` | one JSON object a line: a point started, died, failed or finished, and when |
| `jobs.json` | the last job of each point on a cluster |
| `report.html` | written by `analyze.py` |
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from ntkscale.faces.sweep.axes import MOST_POINTS, Axis, Plan, Point
from ntkscale.runs import RunFolderError
from ntkscale.runs.folder import RESULTS
from ntkscale.runs.lock import LOCK, Lock
from ntkscale.runs.strict_json import MOST_BYTES, parse, read_json, write_json

SWEEPS = "sweeps"
LIST = "sweep.json"
EVENTS = "events.jsonl"
JOBS = "jobs.json"

_WORD = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*|-[0-9.][A-Za-z0-9_.+-]*|-inf")
_JOB = re.compile(r"[0-9]+(_[0-9]+)?")
_LETTERS = 240  # of the name of a run folder


class SweepFolder:
    """Where a sweep and its runs lie; `open_sweep` makes it, `read_sweep` finds it again.

    Attributes:
        path: the folder, absolute.
        plan: the list of its runs.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path.resolve()
        self.plan = plan

    def run(self, point: Point) -> Path:
        """Run folder of a point."""
        return self.path / self.plan.experiment / point.name

    def log(self, point: Point) -> Path:
        """Where a point's output goes."""
        return self.path / "logs" / f"{point.name}.log"

    def command(self, point: Point) -> list[str]:
        """The words after `train.py` that do this run, or go on with it."""
        where = ["--runs", str(self.path), "--name", point.name]
        return [self.plan.experiment, *point.words(), *self.plan.beside, *where]

    def finished(self, point: Point) -> bool:
        """Whether the run of a point is complete."""
        return finished(self.run(point))

    def note(self, point: Point, event: str, **more: object) -> None:
        """Append a line to `events.jsonl`; `time` is in seconds since 1970."""
        line = {"time": round(time.time(), 2), "point": point.name, "event": event, **more}
        with (self.path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def events(self) -> list[dict[str, Any]]:
        """All lines of `events.jsonl`; one that a kill left half written is passed over."""
        if not (self.path / EVENTS).is_file():
            return []
        found = []
        with (self.path / EVENTS).open("rb") as file:
            while (line := file.readline(MOST_BYTES)) and len(line) < MOST_BYTES:
                try:
                    event = parse(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    found.append(event)
        return found

    def jobs(self) -> dict[str, dict[str, str]]:
        """The last job of each point on a cluster, by name.

        Raises:
            RunFolderError: `jobs.json` is damaged.
        """
        path = self.path / JOBS
        jobs = read_json(path, of="sweep").get("jobs") if path.exists() else {}
        if not isinstance(jobs, dict) or not all(map(_is_job, jobs.values())):
            raise RunFolderError(f"{path} lists no jobs; delete it once no job runs any more.")
        return jobs

    def write_jobs(self, jobs: Mapping[str, Mapping[str, str]]) -> None:
        """Replace `jobs.json`."""
        write_json(self.path / JOBS, {"jobs": jobs})


def finished(run: Path) -> bool:
    """Whether a run folder holds a complete run."""
    return (run / RESULTS).exists() and bool(read_json(run / RESULTS).get("finished"))


def busy(run: Path) -> bool:
    """Whether a process is writing into a run folder now."""
    if not (run / LOCK).exists():
        return False
    try:
        Lock(run).release()
    except RunFolderError:
        return True
    return False


def sweep_path(plan: Plan, name: str) -> Path:
    """Folder of a sweep; without a name it is that of the list.

    Raises:
        ValueError: the name is that of no single folder.
    """
    name = name or hashlib.sha256(json.dumps(_listed(plan)).encode()).hexdigest()[:8]
    if Path(name).name != name:
        raise ValueError(f"--sweep {name} is no name of one folder: say with --runs where it lies.")
    return Path(plan.runs or "runs") / SWEEPS / name


def inspect(path: Path, plan: Plan) -> None:
    """Check that this sweep may be run in a folder; creates nothing.

    Raises:
        RunFolderError: another list lies there, or something that is no sweep.
    """
    if (path / LIST).exists():
        there = read_sweep(path).plan
        if _listed(there) != _listed(plan):
            raise RunFolderError(
                f"{path} holds a sweep of another list ({_summary(there)}, now {_summary(plan)}); "
                "choose another --sweep, or remove this one."
            )
    elif path.exists() and (
        not path.is_dir() or any(entry.name != LOCK for entry in path.iterdir())
    ):
        raise RunFolderError(f"{path} is there but holds no {LIST}; choose another --sweep.")


def open_sweep(path: Path, plan: Plan) -> tuple[SweepFolder, Lock]:
    """Create a sweep's folder, or take up the one that is there.

    Returns:
        The folder, and the lock that keeps a second launcher out until it is released.

    Raises:
        RunFolderError: as `inspect`, or another process runs this sweep.
        OSError: it cannot be written.
    """
    inspect(path, plan)
    path.mkdir(parents=True, exist_ok=True)
    lock = Lock(path)
    if not (path / LIST).exists():
        write_json(path / LIST, _listed(plan))
    return SweepFolder(path, plan), lock


def read_sweep(path: Path) -> SweepFolder:
    """The sweep in a folder.

    Raises:
        RunFolderError: `sweep.json` is missing or damaged.
    """
    there = read_json(path / LIST, of="sweep")
    try:
        axes = tuple(Axis(_word(one["option"]), _words(one["values"])) for one in there["axes"])
        fixed = {_word(name): _words(words) for name, words in there["fixed"].items()}
        plan = Plan(_word(there["experiment"]), axes, fixed)
        for axis in axes:
            _distinct(axis.values)
            for value in axis.values:
                _word(value)  # it becomes part of the name of a folder
        if prod(len(axis.values) for axis in axes) > MOST_POINTS:
            raise ValueError("too many runs")
        _distinct([*fixed, *(axis.option for axis in axes), ""])
        if sum(len(axis.option) + max(map(len, axis.values)) + 2 for axis in axes) > _LETTERS:
            raise ValueError("a name too long")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = ascii(str(error))[1:81]
        raise RunFolderError(
            f"{path / LIST} is no list of runs ({said}); restore it from a copy, or give the "
            "command of the sweep again with another --sweep."
        ) from error
    return SweepFolder(path, plan)


def is_sweep(path: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (path / LIST).exists()


def _word(value: Any) -> str:
    """A name or value that may become part of the name of a folder.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"{str(value)[:40]} is no name or value")
    return value


def _words(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("the values of an option are no list of words")
    return tuple(values)


def _distinct(words: Sequence[str]) -> None:
    if not words or len(set(words)) < len(words):
        raise ValueError("nothing, or twice the same")


def _is_job(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("cluster") in ("local", "slurm")
        and isinstance(entry.get("folder"), str)
        and isinstance(entry.get("id"), str)
        and _JOB.fullmatch(entry["id"]) is not None
    )


def _listed(plan: Plan) -> dict[str, Any]:
    """All that `sweep.json` holds; options in the order of their names, as it means nothing."""
    return {
        "experiment": plan.experiment,
        "axes": [{"option": axis.option, "values": list(axis.values)} for axis in plan.axes],
        "fixed": _sorted(plan.fixed),
        "points": [
            {
                "name": point.name,
                "run": f"{plan.experiment}/{point.name}",
                "options": _sorted(point.options),
            }
            for point in plan.points
        ],
    }


def _sorted(options: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {name: list(options[name]) for name in sorted(options)}


def _summary(plan: Plan) -> str:
    axes = " ".join(f"{axis.option}={','.join(axis.values)}" for axis in plan.axes)
    return " ".join([plan.experiment, axes, *Point("", plan.fixed).words()]).replace("  ", " ")
