"""Several processes that want the same run folder."""

import os
import signal

from tests.faults.row import Bench, Row
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


def check_second(bench: Bench) -> str:
    """The second one is told who is at work; when the first is killed it may go on at once."""
    expected = whole(circle(bench.folder / "whole"))
    for number in range(bench.times(1, 4)):
        words = circle(bench.folder / f"runs{number}")
        first = start(words, saving_often())
        wait_for_rows(run_of(words), first, bench.draw.randrange(1, 20))
        done = ended(words)
        assert done.code == 2, f"exit code {done.code}: {done.said}"
        said = done.one_sentence()
        assert f"another process (pid {first})" in said and "wait for it" in said, said
        if number % 2:
            os.kill(first, signal.SIGKILL)
            bench.killed += 1
            assert ended(words, first).code == -signal.SIGKILL
            # The lock file of the dead is still there and blocks nobody.
            assert int((run_of(words) / ".lock").read_text()) == first
            assert ended(words).code == 0
        else:
            assert ended(words, first).code == 0
        wrong = different(contents(run_of(words)), expected)
        assert not wrong, f"{wrong} differ"
    return "the owner is named, a dead owner blocks nobody; the same bits"


def check_race(bench: Bench) -> str:
    """Five at once: one works, the others say so, or find it finished."""
    expected = whole(circle(bench.folder / "whole"))
    refused = 0
    for number in range(bench.times(1, 5)):
        words = circle(bench.folder / f"runs{number}")
        for process in [start(words) for _ in range(5)]:
            done = ended(words, process)
            assert done.code in (0, 2), f"exit code {done.code}: {done.said}"
            if done.code == 2:
                said = done.one_sentence()
                assert "being written by another process" in said, said
                refused += 1
        assert ended(words).code == 0
        assert contents(run_of(words)) == expected, "other bits"
    return f"{refused} refused in one sentence, the same bits"


ROWS = (
    Row(
        "a second process on the same run folder, whose first is then killed",
        "it is told the owner and changes nothing; a stale lock blocks nobody",
        check_second,
    ),
    Row(
        "five processes that start the same run at once",
        "one of them does it, the others say so; the same bits",
        check_race,
    ),
)
