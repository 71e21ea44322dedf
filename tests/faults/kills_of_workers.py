"""SIGKILL of one of several training processes, or of the one they belong to."""

import os
import signal
import time
from pathlib import Path

from tests.faults.row import Bench, Row, Skipped
from tests.faults.toys import (
    circle,
    contents,
    different,
    ended,
    run_of,
    saving_often,
    start,
    wait_for_rows,
    whole,
)

STEPS = 300


def children(process: int) -> list[int]:
    """Numbers of the processes that a process has started."""
    try:
        return [
            int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    except OSError:
        return []


def check(bench: Bench) -> str:
    """A worker, then the parent, in turn; both leave parts that the next start goes on from."""
    if not Path("/proc/self/task").exists():
        raise Skipped("needs /proc to find the processes")
    expected = whole(circle(bench.folder / "whole", steps=STEPS))
    kills = bench.times(1, bench.share(0.03))
    for number in range(kills):
        words = circle(bench.folder / f"kill{number}", steps=STEPS, workers=2)
        process = start(words, saving_often())
        wait_for_rows(run_of(words) / "parts" / "0", process, bench.draw.randrange(2, 40))
        workers = children(process)
        parent = number % 2 == 1
        os.kill(process if parent else bench.draw.choice(workers), signal.SIGKILL)
        # One that was just done is not missed; what is there then must be whole all the same.
        done = ended(words, process)
        bench.killed += done.code != 0
        if done.code and not parent:
            said = done.one_sentence()
            assert done.code == 1 and "was killed by SIGKILL" in said, f"{done.code}: {said}"
            assert "at beta=" in said and "of 2 groups are done" in said, said
            assert said.endswith("the same command goes on."), said
        until = time.monotonic() + 30
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < until, "workers outlive their run"
            time.sleep(0.02)
        again = ended(words)
        assert again.code == 0, again.said
        wrong = different(contents(run_of(words)), expected)
        assert not wrong, f"{wrong} differ after {'the parent' if parent else 'a worker'} died"
    return f"{bench.killed} killed; workers end with their parent, the same bits"


ROWS = (
    Row(
        "SIGKILL of one training process of several, and of their parent",
        "one sentence names the work; no process stays behind; the same command ends with the same "
        "bits",
        check,
    ),
)
