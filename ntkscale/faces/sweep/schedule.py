"""Every run of a sweep once: started, watched, taken up again when its process died."""

import hashlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ntkscale.faces.command_line import BAD_INPUT
from ntkscale.faces.sweep.axes import Point
from ntkscale.faces.sweep.folder import SweepFolder

State = Literal["waiting", "running", "done", "failed"]

NO_CODE = 255
"""Exit code of a job that ended without telling one."""

_POLL_SECONDS = 0.25


class Crew(Protocol):
    """Whatever runs points: processes of this machine, or jobs on a cluster.

    Attributes:
        slots: how many at once.
    """

    slots: int

    def adopt(self) -> set[str]:
        """Names of points that run already, started by an earlier launcher."""
        ...

    def start(self, points: Sequence[Point]) -> None:
        """Start these."""
        ...

    def ended(self, seconds: float) -> list[tuple[str, int]]:
        """Names and exit codes of those that ended since; waits up to `seconds`."""
        ...

    def stop(self) -> None:
        """What Ctrl-C asks for."""
        ...


@dataclass
class Status:
    """How far a point is.

    Attributes:
        point: which.
        state: of it.
        attempts: how often it was started in this session.
        began: moment (`time.monotonic`) of its last start.
        seconds: spent on it in this session, up to its last end.
        note: why it failed, or what went wrong on the way.
        fruitless: deaths in a row that got no further than one before.
        reached: fingerprints of its run folder at every death.
    """

    point: Point
    state: State = "waiting"
    attempts: int = 0
    began: float = 0.0
    seconds: float = 0.0
    note: str = ""
    fruitless: int = 0
    reached: set[str] = field(default_factory=set)


Show = Callable[[Sequence[Status]], None]


def run_all(folder: SweepFolder, crew: Crew, *, retries: int, show: Show) -> list[Status]:
    """Run every point that is not done.

    A run that was killed, or failed in an unforeseen way, is started again and resumes by itself;
    bad input is not.

    Args:
        folder: of the sweep.
        crew: runs the points.
        retries: how many deaths in a row a run may have without having got further.
        show: called several times a second.

    Returns:
        How each point ended.

    Raises:
        KeyboardInterrupt: Ctrl-C, after `crew.stop()`.
    """
    statuses = {point.name: Status(point) for point in folder.plan.points}
    for status in statuses.values():
        status.reached.add(fingerprint(folder.run(status.point)))
    try:
        adopted = crew.adopt()
        for name, status in statuses.items():
            if name in adopted:
                status.state, status.began = "running", time.monotonic()
            elif folder.finished(status.point):
                status.state = "done"
        while True:
            here = [status for status in statuses.values() if status.state == "running"]
            waiting = [status for status in statuses.values() if status.state == "waiting"]
            if not here and not waiting:
                break
            free = max(crew.slots - len(here), 0)
            _start(folder, crew, waiting[:free])
            show(list(statuses.values()))
            for name, code in crew.ended(_POLL_SECONDS):
                _judge(folder, statuses[name], code, retries)
        show(list(statuses.values()))
    except BaseException:
        crew.stop()
        raise
    return list(statuses.values())


def _start(folder: SweepFolder, crew: Crew, chosen: Sequence[Status]) -> None:
    if not chosen:
        return
    for status in chosen:
        folder.note(status.point, "started")
        status.state, status.began = "running", time.monotonic()
        status.attempts += 1
    crew.start([status.point for status in chosen])


def _judge(folder: SweepFolder, status: Status, code: int, retries: int) -> None:
    """What becomes of a point whose process or job ended."""
    point = status.point
    status.seconds += time.monotonic() - status.began
    seconds = round(status.seconds, 2)
    if folder.finished(point):
        status.state, status.note = "done", ""
        if code != 0:  # all is trained and measured; the page can be had again
            status.note = f"its report is missing ({why(folder, point, code)})"
        folder.note(point, "finished", code=code, seconds=seconds)
        return
    status.note = why(folder, point, code)
    if code == BAD_INPUT:
        status.state = "failed"
    else:
        now = fingerprint(folder.run(point))
        status.fruitless = status.fruitless + 1 if now in status.reached else 0
        status.reached.add(now)
        status.state = "failed" if status.fruitless > retries else "waiting"
        if status.state == "failed" and retries:
            status.note += f"; {status.fruitless} times without getting further"
    event = "failed" if status.state == "failed" else "died"
    folder.note(point, event, code=code, seconds=seconds, why=status.note)


def why(folder: SweepFolder, point: Point, code: int) -> str:
    """Why a run ended, in a few words: its own sentence, the error, or the signal."""
    log = folder.log(point)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    if code == BAD_INPUT:
        sentences = [line for line in said if line.startswith("train.py")]
        return sentences[-1].partition(": ")[2] if sentences else "bad input"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code == 0:
        return "ended before it was finished"
    if code == NO_CODE:
        return "its job ended without a result"
    return f"exit code {code}{f': {said[-1][:200]}' if said else ''}"


def fingerprint(run: Path) -> str:
    """What a run goes on from: the same twice means that nothing was gained between.

    Its results and checkpoints, also those of its parts; they hold no wall times.
    """
    found = hashlib.sha256()
    for path in sorted([*run.rglob("results.json"), *run.rglob("checkpoints/*.safetensors")]):
        found.update(str(path.relative_to(run)).encode())
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
