"""A small part of `make faults`; the scripts that kill have their own small parts beside them."""

import os
import subprocess
import sys
from pathlib import Path


def test_what_must_hold_holds_when_something_fails(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.run", "--small"],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
