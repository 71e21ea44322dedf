"""The signals of a batch system: SIGTERM at the end of a job, SIGUSR1 some time before it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ntkscale.faces.command_line import INTERRUPTED, REQUEUE
from tests.faces.killed_sweep import writer
from tests.faults.row import Bench, Row
from tests.faults.toys import (
    circle,
    contents,
    different,
    ended,
    run_of,
    start,
    sweep,
    wait_for_rows,
    whole,
)

ROOT = Path(__file__).parents[2]
CODES = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: INTERRUPTED}
SOON = 20.0  # seconds; Slurm waits for 30 before it kills


def check_runs(bench: Bench) -> str:
    """To one process, and to the parent of two alone; some signals come twice."""
    expected = whole(circle(bench.folder / "whole"))
    slowest, count = 0.0, 0
    for number in range(bench.times(2, 12)):
        how = list(CODES)[number % 3]
        workers = 1 + (number // 3) % 2
        words = circle(bench.folder / f"{number}", workers=workers)
        run = run_of(words)
        process = start(words)
        watched = run if workers == 1 else run / "parts" / "0"
        wait_for_rows(watched, process, bench.draw.randrange(2, 30))
        os.kill(process, how)
        begun = time.monotonic()
        if how != signal.SIGINT:  # twice, as Slurm does; a second Ctrl-C would not wait
            os.kill(process, how)
        done = ended(words, process)
        slowest = max(slowest, time.monotonic() - begun)
        assert done.code == CODES[how], f"{how.name}: exit code {done.code}, {done.said}"
        said = done.one_sentence()
        assert "the same command resumes" in said, said
        assert how == signal.SIGINT or how.name in said, said
        # The usual time between checkpoints is long: this one was written for the signal.
        assert list(run.rglob("checkpoints/last.safetensors")), f"{how.name}: nothing was saved"
        assert slowest < SOON, f"{how.name}: ended after {slowest:.0f} s"
        again = ended(words)
        assert again.code == 0, again.said
        wrong = different(contents(run), expected)
        assert not wrong, f"{wrong} differ after {how.name}"
        count += 1
    return f"{count} runs stopped within {slowest:.1f} s with their state saved, the same bits"


def check_between(bench: Bench) -> str:
    """At any moment, also before the first step: never a traceback, never half a run."""
    words = circle(bench.folder / "whole")
    begun = time.monotonic()
    expected = whole(words)
    seconds = time.monotonic() - begun
    stopped = 0
    count = bench.times(2, 12)
    for number in range(count):
        how = bench.draw.choice([signal.SIGTERM, signal.SIGUSR1])
        words = circle(bench.folder / f"{number}")
        process = start(words)
        time.sleep(bench.draw.uniform(0.05, seconds))
        os.kill(process, how)
        done = ended(words, process)
        # Before it listens a process dies of the signal, as any other does.
        assert done.code in (0, REQUEUE, -how), f"exit code {done.code}: {done.said}"
        assert "Traceback" not in done.said, done.said
        stopped += done.code == REQUEUE
        again = ended(words)
        assert again.code == 0, again.said
        assert contents(run_of(words)) == expected, f"other bits after {how.name}"
    return f"{count} signals at random, {stopped} stopped a run; the same bits"


def check_launcher(bench: Bench) -> str:
    """The launcher of a sweep lets its runs save, and ends."""
    words = sweep(bench.folder / "runs", steps=90_000_000)
    launcher = subprocess.Popen(
        [sys.executable, "train.py", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = bench.folder / "runs" / "sweeps" / "s" / "circle" / "gamma0=0.5"
    while writer(run) is None or not (run / "metrics.jsonl").exists():
        assert launcher.poll() is None, "the launcher ended by itself"
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(launcher.pid, signal.SIGTERM)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == REQUEUE, said
    assert writer(run) is None, "a run outlives its launcher"
    assert (run / "checkpoints" / "last.safetensors").exists(), "its run saved nothing"
    return f"exit code {REQUEUE}, its run saved its state and ended"


ROWS = (
    Row(
        "SIGTERM, SIGUSR1, Ctrl-C while networks train, once and twice",
        "the step ends, all is saved, the exit code says why; the same bits",
        check_runs,
    ),
    Row(
        "SIGTERM, SIGUSR1 at any moment of a command",
        "no traceback; the same command ends with the same bits",
        check_between,
    ),
    Row(
        "SIGTERM to the launcher of a sweep",
        "its runs save their state and end with it",
        check_launcher,
        in_suite=False,
    ),
)
