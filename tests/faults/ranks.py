"""Processes that train one network together under torchrun, of which one dies or is told to end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.kills_of_workers import children
from tests.faults.row import Bench, Row, Skipped
from tests.faults.toys import contents, different, images, rows_of, run_of

ROOT = Path(__file__).parents[2]
STEPS = 1500


def torchrun(words: list[str]) -> "subprocess.Popen[str]":
    """Two processes of a command."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [sys.executable, *agent, "-m", "ntkscale.faces.train", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(bench: Bench) -> str:
    """Rank 0, rank 1, and SIGTERM to all of them."""
    if not Path("/proc/self/task").exists():
        raise Skipped("needs /proc to find the ranks")
    words = [*images(bench.folder / "whole", steps=STEPS)]
    process = torchrun(words)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    expected = contents(run_of(words))
    slowest = 0.0
    for what in ("rank 0", "rank 1", "SIGTERM"):
        words = images(bench.folder / what.replace(" ", ""), steps=STEPS)
        run = run_of(words)
        process = torchrun(words)
        until = time.monotonic() + 120
        while rows_of(run) < 12:
            assert process.poll() is None, f"{what}: ended before it was killed"
            assert time.monotonic() < until, f"{what}: nothing is measured"
            time.sleep(0.01)
        lock = int((run / ".lock").read_text())  # of rank 0, which records
        ranks = children(process.pid)
        begun = time.monotonic()
        if what == "SIGTERM":
            os.kill(process.pid, signal.SIGTERM)
        else:
            other = next(one for one in ranks if one != lock)
            os.kill(lock if what == "rank 0" else other, signal.SIGKILL)
            bench.killed += 1
        _, said = process.communicate(timeout=120)
        slowest = max(slowest, time.monotonic() - begun)
        assert process.returncode != 0, f"{what}: ended as if the run were complete"
        left = [one for one in ranks if Path(f"/proc/{one}").exists()]
        assert not left, f"{what}: processes {left} stay behind"
        if what == "SIGTERM":
            assert (run / "checkpoints/last.safetensors").exists(), f"nothing was saved: {said}"
        process = torchrun(words)
        _, said = process.communicate(timeout=180)
        assert process.returncode == 0, said
        wrong = different(contents(run), expected)
        assert not wrong, f"{what}: {wrong} differ"
    return f"all ended within {slowest:.0f} s, nothing stays behind, the same bits"


ROWS = (
    Row(
        "one of two ranks under torchrun dies, or the job is told to end",
        "the others end soon; the same command ends with the same bits",
        check,
        in_suite=False,
    ),
)
