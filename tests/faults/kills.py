"""SIGKILL at every writer: the project's scripts that kill, run in full and counted."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.faults.row import Bench, Row

ROOT = Path(__file__).parents[2]


def script(name: str, *arguments: str) -> str:
    """What a script prints; it must end well."""
    path = ROOT / "tests" / name
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{path.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


def run_folders(bench: Bench) -> str:
    """A toy run of two cells passes some 170 moments of death."""
    stride = max(1, 170 // bench.share(0.28))
    found = json.loads(script("runs/killed_runs.py", str(bench.folder), str(stride)))
    bench.killed += found["killed"] + found["killed twice"]
    return f"{found['killed']} runs killed, {found['killed twice']} of them twice, all bits equal"


def tiles(bench: Bench) -> str:
    """Three stories of a kernel on disk pass some 300 moments of death."""
    stride = max(1, 300 // bench.share(0.3))
    found = json.loads(script("ntk/tiles_killed.py", str(bench.folder), str(stride)))
    bench.killed += found["killed"] + found["killed twice"]
    return f"{found['killed']} kernels killed, {found['killed twice']} twice, all bits equal"


def trainings(bench: Bench) -> str:
    """Real commands; a third of the deaths are in the middle of a write. Some seconds each."""
    kills = bench.share(0.04)
    words = ["--kills", str(kills), "--inside", str(kills // 3)]
    words += ["--seed", str(bench.draw.randrange(1000))]
    said = script("experiments/killed_training.py", str(bench.folder), *words)
    found = re.search(r"(\d+) runs were killed, (\d+) of them inside a write", said)
    assert found is not None, said
    bench.killed += int(found[1])
    return f"{found[1]} trainings killed, {found[2]} inside a write, all bits equal"


def sweeps(bench: Bench) -> str:
    """Runs of a local sweep, whose launcher starts them again."""
    kills = bench.share(0.03)
    words = ["--points", str(2 * kills), "--kills", str(kills)]
    words += ["--seed", str(bench.draw.randrange(1000))]
    said = script("faces/killed_sweep.py", str(bench.folder), *words)
    bench.killed += kills
    return said.strip().splitlines()[-1].removeprefix("local: ").rstrip(".")


ROWS = (
    Row(
        "SIGKILL before, inside and after every write of a run folder",
        "the same command ends with the same bits",
        run_folders,
        in_suite=False,
    ),
    Row(
        "SIGKILL before, inside and after every write of a kernel's tiles",
        "blocks that are done stay, none is taken for done; the same bits",
        tiles,
        in_suite=False,
    ),
    Row(
        "SIGKILL at random moments of training",
        "the same command ends with the same bits",
        trainings,
        in_suite=False,
    ),
    Row(
        "SIGKILL of runs of a sweep",
        "each is finished exactly once, with the same bits",
        sweeps,
        in_suite=False,
    ),
)
