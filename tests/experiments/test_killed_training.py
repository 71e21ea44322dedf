"""Killed runs end as whole ones do; see killed_training.py for the full count."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "killed_training.py"


def kill(folder: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    kill(tmp_path, "--kills", "3", "--inside", "1", "--seed", "3")


@pytest.mark.slow
def test_twenty_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    kill(tmp_path, "--kills", "20", "--inside", "6", "--seed", "4")
