"""Jobs of submitit on a Slurm: asked to make room, killed, and each run once, unharmed."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import fake_slurm
import pytest
from killed_sweep import contents, writer

from ntkscale.faces import train
from ntkscale.faces.sweep import read_sweep, slurm

pytest.importorskip("submitit", reason="submitit is not installed")

COMMAND = "circle --lazy 0 --width 32 --angles 8 --points 32 --steps 1500 --horizon 1e9"
COMMAND += " --wandb disabled --workers 1"
SIGNALS = {
    "gamma0=0.5": signal.SIGUSR2,  # submitit's own, before the time is up
    "gamma0=1": signal.SIGUSR1,
    "gamma0=2": signal.SIGKILL,
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Slurm that is on PATH."""
    place = tmp_path / "slurm"
    fake_slurm.install(place)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


class Sender(threading.Thread):
    """Sends each run its signal once it trains; until `over` is set."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self.sent: dict[str, int] = {}
        self.over = threading.Event()
        self._runs = runs

    def run(self) -> None:
        while not self.over.wait(0.002):
            for name, number in SIGNALS.items():
                run = self._runs / name
                begun = (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size
                process = writer(run) if begun and name not in self.sent else None
                if process is not None:
                    os.kill(process, number)
                    self.sent[name] = process


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_job_is_queued_again_when_its_run_has_saved(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "write_to", lambda log: None)
    happened: list[str] = []

    def trains(words: Sequence[str]) -> int:
        try:
            signal.raise_signal(number)
            happened.append("goes on")
        except KeyboardInterrupt:
            happened.append("saves")
        return 130

    def queue_again(*_: object) -> None:  # as submitit's own handler, which does not return
        signal.raise_signal(number)  # they come twice
        happened.append("queued again")
        raise SystemExit(-1)

    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        with pytest.raises(SystemExit):
            slurm.PointJob(trains, [], tmp_path / "run", tmp_path / "log")()
        assert signal.getsignal(signal.SIGUSR2) == queue_again
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert happened == ["saves", "queued again"]
    assert not (tmp_path / "log.code").exists()  # or the job would count as over


@pytest.mark.slow
def test_jobs_that_are_asked_to_make_room_and_one_that_is_killed(
    cluster: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*COMMAND.split(), "--gamma0", "0.5,1,2", "--runs", str(tmp_path), "--sweep", "s"]
    words += ["--launcher", "submitit", "--slurm", "partition=gpu", "time=5"]
    sweep = tmp_path / "sweeps" / "s"
    sender = Sender(sweep / "circle")
    sender.start()
    try:
        assert train.main(words) == 0
    finally:
        sender.over.set()
    assert sender.sent.keys() == SIGNALS.keys()
    assert "3 of 3 runs are done" in capfd.readouterr().out

    events = read_sweep(sweep).events()
    assert Counter(e["point"] for e in events if e["event"] == "finished") == Counter(
        SIGNALS.keys()
    )
    # A job that made room is the same job still; the killed one was handed over anew.
    died = {e["point"]: e["why"] for e in events if e["event"] == "died"}
    assert died == {"gamma0=2": "its job ended without a result"}
    first, again = (Path(call[0]).read_text() for call in fake_slurm.calls(cluster, "sbatch"))
    for line in ("--partition=gpu", "--time=5", "--signal=USR2@90", "--array=0-2%3"):
        assert f"#SBATCH {line}\n" in first
    assert "--array" not in again
    asked = sorted(fake_slurm.calls(cluster, "scontrol"))
    assert asked == [["requeue", "101_0"], ["requeue", "101_1"]]
    assert fake_slurm.states(cluster)["101_2"] == "FAILED"

    for name in SIGNALS:
        log = (sweep / "logs" / f"{name}.log").read_text()
        # One that was asked saved what it had, and went on from there.
        asked_first = SIGNALS[name] != signal.SIGKILL
        assert log.count("the same command resumes") == asked_first and "Traceback" not in log, log
        assert log.count("report: ") == 1
        alone = [*COMMAND.split(), "--gamma0", name.partition("=")[2], "--name", name]
        assert train.main([*alone, "--runs", str(tmp_path / "whole")]) == 0
        assert contents(sweep / "circle" / name) == contents(tmp_path / "whole" / "circle" / name)
