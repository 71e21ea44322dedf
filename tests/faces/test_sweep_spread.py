"""How a run that torchrun spreads is ended: asked once, then for certain, and soon."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_sweep import writer

from ntkscale.faces.sweep import spread
from ntkscale.runs.lock import LOCK

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """Whom the handler signals in a run that process 12345 records, instead of signalling it."""
    (tmp_path / LOCK).write_text("12345")
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(spread, "busy", lambda run: True)
    monkeypatch.setattr(spread.os, "kill", lambda pid, number: found.append((pid, number)))
    monkeypatch.setattr(spread.signal, "alarm", lambda seconds: None)
    return found


def test_a_repeated_sigterm_lets_the_step_finish(
    told: list[tuple[int, int]], tmp_path: Path
) -> None:
    ending = spread._Ending(tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        ending(number, None)
    assert told == [(12345, signal.SIGINT)]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGALRM])
def test_who_does_not_end_is_ended_once(
    second: int, told: list[tuple[int, int]], tmp_path: Path
) -> None:
    ending = spread._Ending(tmp_path)
    ending(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        ending(second, None)
    # While torchrun waits for its processes nothing makes it leave them alone.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        ending(number, None)
    assert told == [(12345, signal.SIGINT)]


def test_nobody_records_yet(
    told: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "busy", lambda run: False)
    with pytest.raises(KeyboardInterrupt):
        spread._Ending(tmp_path)(signal.SIGTERM, None)
    assert told == []


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [False, True])
def test_sigterm_ends_a_launcher_and_all_its_processes_soon(
    everybody: bool, tmp_path: Path
) -> None:
    words = ["circle", "--lazy", "0", "--gamma0", "0.5,1", "--width", "64", "--angles", "8"]
    words += ["--points", "32", "--steps", "90000000", "--horizon", "1e9", "--wandb", "disabled"]
    words += ["--runs", str(tmp_path), "--sweep", "s", "--launcher", "torchrun", "--jobs", "2"]
    launcher = subprocess.Popen(
        [sys.executable, "train.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    run = tmp_path / "sweeps" / "s" / "circle" / "gamma0=0.5"
    while writer(run) is None or not (run / "metrics.jsonl").exists():
        assert launcher.poll() is None
        time.sleep(0.05)
    family = _family(launcher.pid)
    assert len(family) >= 4  # launcher, torchrun and two of its own
    for process in family if everybody else [launcher.pid]:
        os.kill(process, signal.SIGTERM)
    assert launcher.wait(timeout=18) == 75
    assert writer(run) is None
    said = (tmp_path / "sweeps" / "s" / "logs" / "gamma0=0.5.log").read_text()
    assert "the same command resumes" in said and "SignalException" not in said
    until = time.monotonic() + 10
    while any(map(_trains, family)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_trains, family))


def _family(process: int) -> list[int]:
    """The process and everybody below it that trains."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in said.stdout.splitlines()]
    found = [process]
    for one in found:
        found += [pid for pid, parent in pairs if parent == one]
    return [one for one in found if one == process or _trains(one)]


def _trains(process: int) -> bool:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return b"resource_tracker" not in words and b"ntkscale.faces.train" in words
