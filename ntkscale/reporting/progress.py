"""A live bar with rate, time left and the current loss; a line now and then where none can be."""

import math
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

_LINE_SECONDS = 30.0
_REFRESH_SECONDS = 0.2


class Progress:
    """Context that shows how far the work is.

    On a terminal a bar, redrawn at most five times a second and gone at the end, also after
    Ctrl-C. Elsewhere one line every 30 seconds, so a log stays short. Work that goes on when all
    should be done was estimated too low: then neither a percentage nor a time left is shown.

    Args:
        unit: of what is counted, e.g. ``"cells"``.
        file: default: stderr.
    """

    def __init__(self, unit: str = "cells", file: TextIO | None = None) -> None:
        self._unit = unit
        self._file = sys.stderr if file is None else file
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        self._began: tuple[float, float] | None = None  # moment, done
        self._shown = 0.0

    def __enter__(self) -> "Progress":
        self._shown = time.monotonic()
        if self._file.isatty():
            self._bar = RichProgress(
                BarColumn(bar_width=16),
                TextColumn(
                    "{task.description}",
                    table_column=Column(no_wrap=True, overflow="ellipsis"),
                ),
                console=Console(file=self._file),
                auto_refresh=False,
                transient=True,
            )
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, total: float, text: str) -> None:
        """Say how far the work is.

        Args:
            done: in units, fractions included.
            total: what there is to do, perhaps an estimate.
            text: what is done now and how it goes, e.g. the cell and its loss.
        """
        now = time.monotonic()
        if self._began is None:
            # Work done before (a resumed run) says nothing of today's rate.
            self._began = (now, done)
        if now - self._shown < (_REFRESH_SECONDS if self._bar is not None else _LINE_SECONDS):
            return
        self._shown = now
        known = done < total
        # Rounded down: what is not done is not 100 %.
        share = f"{math.floor(100 * done / total):3d}" if known else "  ?"
        pace = self._pace(now, done, total) if known else ""
        parts = "  ".join(filter(None, [pace, text]))
        if self._bar is not None:
            # Brackets in the text are no markup. A bar without a total moves to and fro.
            line = f"{share} %  {parts}".replace("[", r"\[")
            self._bar.update(self._task, description=line)
            self._bar.tasks[0].total = total if known else None
            self._bar.update(self._task, completed=done)
            self._bar.refresh()
        else:
            self._file.write(f"{share}%  {parts}\n")
            self._file.flush()

    def _pace(self, now: float, done: float, total: float) -> str:
        assert self._began is not None
        seconds, advanced = now - self._began[0], done - self._began[1]
        if seconds <= 0 or advanced <= 0:
            return ""
        rate = advanced / seconds
        name, per = next(
            (name, per)
            for name, per in (("s", 1), ("min", 60), ("h", 3600), ("day", 86400))
            if rate * per >= 1 or name == "day"
        )
        left = max(total - done, 0.0) / rate
        return f"{rate * per:.1f} {self._unit}/{name}, {_clock(left)} left"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
