"""A row of the table: one failure, what must hold, and the check that it does."""

import json
import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Skipped(Exception):
    """The failure cannot be made here; the words say why."""


@dataclass
class Bench:
    """What a check works with.

    Attributes:
        folder: an empty folder of its own.
        draw: all that is random in it.
        kills: how many processes all rows together are to kill.
        small: whether only a small part is asked for.
        killed: processes that this check has killed.
    """

    folder: Path
    draw: random.Random
    kills: int
    small: bool
    killed: int = 0

    def share(self, part: float) -> int:
        """That part of all kills, one at least."""
        return max(1, round(part * self.kills))

    def times(self, small: int, whole: int) -> int:
        """How often something is done."""
        return small if self.small else whole


Check = Callable[[Bench], str]
"""Returns what was seen in a few words; raises AssertionError where the row fails, or Skipped."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        fault: what goes wrong.
        holds: what must hold all the same.
        check: makes it go wrong, and looks.
        in_suite: whether a small part runs in the normal test suite; others run there by themselves
            already, or take too long.
    """

    fault: str
    holds: str
    check: Check
    in_suite: bool = True


@dataclass(frozen=True)
class Seen:
    """How a row came out: ok, FAILED or skipped; what was seen; processes killed; seconds, and
    those of a processor."""

    verdict: str
    said: str
    killed: int
    seconds: float
    cpu: float


def look(row: Row, folder: Path, seed: int, kills: int, *, small: bool, seconds: float) -> Seen:
    """Check a row in a process group of its own, which is gone at the end.

    Args:
        row: which.
        folder: made for it, and removed unless it fails.
        seed: of what is random in it.
        kills: of all rows.
        small: see `Bench`.
        seconds: it may take.
    """
    begun, before = time.monotonic(), os.times()
    folder.mkdir(parents=True)
    answer = folder / "answer.json"
    process = os.fork()
    if process == 0:
        os.setsid()
        bench = Bench(folder / "work", random.Random(seed), kills, small)
        bench.folder.mkdir()
        verdict, said = "ok", ""
        try:
            said = row.check(bench)
        except Skipped as reason:
            verdict, said = "skipped", str(reason)
        except BaseException as error:
            verdict, said = "FAILED", traceback.format_exc()
            if isinstance(error, AssertionError) and error.args:
                said = f"{error.args[0]}\n{said}"
        answer.write_text(json.dumps([verdict, said, bench.killed]))
        os._exit(0)
    verdict, said, killed = "FAILED", f"no answer within {seconds:.0f} s", 0
    done = 0
    try:
        while not done and time.monotonic() - begun < seconds:
            done, _ = os.waitpid(process, os.WNOHANG)
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(process, signal.SIGKILL)
    if not done:
        os.waitpid(process, 0)
    elif answer.exists():
        verdict, said, killed = json.loads(answer.read_text())
    if verdict != "FAILED":
        shutil.rmtree(folder, ignore_errors=True)
    now = os.times()
    cpu = now.children_user + now.children_system - before.children_user - before.children_system
    return Seen(verdict, said, killed, time.monotonic() - begun, cpu)
