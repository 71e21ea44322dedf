"""All runs of a sweep at a glance, while they run."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ntkscale.faces.sweep.folder import SweepFolder
from ntkscale.faces.sweep.schedule import State, Status
from ntkscale.runs.folder import METRICS, RESULTS

_COLOURS: dict[State, str] = {"waiting": "dim", "running": "cyan", "done": "green", "failed": "red"}
_FIRST: dict[State, int] = {"running": 0, "failed": 1, "waiting": 2, "done": 3}
_REDRAW_SECONDS = 1.0
_LINE_SECONDS = 30.0
_TAIL_BYTES = 8192


class Board:
    """Context that shows a sweep: a live table on a terminal, else lines.

    Elsewhere there is a line whenever a point changes, and every 30 seconds one for the whole.

    Args:
        folder: of the sweep.
        slots: runs at once, for the time left.
        file: default: stdout.
    """

    def __init__(self, folder: SweepFolder, slots: int, file: TextIO | None = None) -> None:
        self._folder, self._slots = folder, slots
        self._file = sys.stdout if file is None else file
        self._console = Console(file=self._file)
        self._live: Live | None = None
        self._began = self._shown = time.monotonic()
        self._known: dict[str, tuple[State, int]] = {}

    def __enter__(self) -> "Board":
        if self._file.isatty():
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, statuses: Sequence[Status]) -> None:
        """Say how the points are; called as often as one likes."""
        now = time.monotonic()
        changed = [
            status
            for status in statuses
            if self._known.get(status.point.name) != (status.state, status.attempts)
        ]
        first = not self._known
        self._known |= {one.point.name: (one.state, one.attempts) for one in changed}
        if self._live is not None:
            if changed or now - self._shown >= _REDRAW_SECONDS:
                self._shown = now
                self._live.update(self.draw(statuses, self._console.height), refresh=True)
            return
        for status in changed:
            # At the start only what is not simply waiting is news.
            if status.state == "running" or status.note or (not first and status.state == "done"):
                again = f" (start {status.attempts})" if status.attempts > 1 else ""
                spent = f" in {status.seconds:.1f} s" if status.state == "done" else ""
                why = f": {status.note}" if status.note else ""
                self._line(f"{status.point.name}: {status.state}{again}{spent}{why}")
        if first or now - self._shown >= _LINE_SECONDS:
            self._shown = now
            self._line(self.whole(statuses))

    def whole(self, statuses: Sequence[Status]) -> str:
        """The sweep in one line: how many are where, and the time left."""
        states = [status.state for status in statuses]
        parts = [f"{states.count('done')} of {len(states)} done"]
        parts += [f"{n} {name}" for name in _FIRST if name != "done" and (n := states.count(name))]
        done_here = [one for one in statuses if one.state == "done" and one.seconds > 0]
        left = states.count("waiting") + states.count("running")
        if done_here and left:
            mean = sum(one.seconds for one in done_here) / len(done_here)
            spent = sum(
                min(time.monotonic() - one.began, mean)
                for one in statuses
                if one.state == "running"
            )
            seconds = (mean * left - spent) / max(min(self._slots, left), 1)
            # Runs that take longer than those that are done say nothing of their end.
            parts += [f"about {_clock(seconds)} left"] if seconds > 0 else []
        return ", ".join(parts)

    def draw(self, statuses: Sequence[Status], height: int) -> Group:
        """The table, no higher than `height` lines: running and failed points come before others.

        Args:
            statuses: of all points.
            height: lines of the terminal.
        """
        room = max(height - 8, 4)
        ranked = sorted(range(len(statuses)), key=lambda i: (_FIRST[statuses[i].state], i))
        kept = [statuses[i] for i in sorted(ranked[:room])]
        ascii_only = self._console.options.ascii_only
        table = Table(box=ASCII if ascii_only else SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", overflow="fold")
        table.add_column("state")
        table.add_column("progress", overflow="fold")
        table.add_column("s", justify="right")
        for status in kept:
            running = status.state == "running"
            seconds = status.seconds + (time.monotonic() - status.began if running else 0.0)
            said = status.note
            if running:
                said = progress(self._folder.run(status.point))
                if status.attempts > 1:
                    said = f"start {status.attempts}  {said}"
            table.add_row(
                Text(status.point.name),
                Text(status.state, style=_COLOURS[status.state]),
                Text(said),
                f"{seconds:.0f}" if seconds else "",
            )
        more = len(statuses) - len(kept)
        rest = f"and {more} more; " if more else ""
        return Group(table, Text(f"{rest}{self.whole(statuses)}"))

    def _line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()


def progress(run: Path) -> str:
    """How far a run is, as its folder tells: cells that ended, last step and its mse."""
    parts = []
    try:
        results = json.loads((run / RESULTS).read_text())["results"]
        if results:
            parts.append(f"{len(results)} cell{'s' if len(results) > 1 else ''} done")
    except (OSError, ValueError, KeyError):
        pass
    row = _last_row(run / METRICS)
    parts += [f"{name} {row[name]:.4g}" for name in ("step", "mse") if _is_number(row.get(name))]
    return ", ".join(parts)


def _last_row(path: Path) -> dict[str, float]:
    """The last whole line of `metrics.jsonl`; empty: there is none."""
    try:
        with path.open("rb") as file:
            file.seek(-min(_TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
            lines = file.read().split(b"\n")
        row = json.loads(lines[-2])
    except (OSError, ValueError, IndexError):
        return {}
    return row if isinstance(row, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(max(seconds, 0.0)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
