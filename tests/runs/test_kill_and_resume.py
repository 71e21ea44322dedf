"""A run killed at any of its writes ends bitwise like one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def kills(folder: Path, stride: int) -> int:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_runs.py")), str(folder), str(stride)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed twice"] >= 3  # a resumed run may be killed too
    return report["killed"]


def test_killed_at_some_writes_and_resumed(tmp_path: Path) -> None:
    assert kills(tmp_path, 9) >= 18


@pytest.mark.slow
def test_killed_at_every_write_and_resumed(tmp_path: Path) -> None:
    assert kills(tmp_path, 1) > 150
