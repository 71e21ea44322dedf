"""Sweeps that run: killed, restarted, with a point that cannot be; one run a point, unharmed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from killed_sweep import COMMAND, Killer, sweep_words, unharmed, writer

from ntkscale.faces import analyze, train
from ntkscale.faces.sweep import read_sweep
from ntkscale.faces.sweep.folder import finished

ROOT = Path(__file__).parents[2]


def finishes(sweep: Path) -> Counter[str]:
    """How often each point was finished."""
    return Counter(
        line["point"] for line in read_sweep(sweep).events() if line["event"] == "finished"
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Killer]:
    """A finished sweep of eight runs, three of which were killed."""
    folder = tmp_path_factory.mktemp("runs")
    sweep = folder / "sweeps" / "killed"
    runs = [sweep / COMMAND[0] / f"points={16 + number}" for number in range(8)]
    killer = Killer(runs, 3, 0.1, random.Random(3))
    killer.start()
    assert train.main(sweep_words(folder, "local", 8, "--jobs", "2")) == 0
    killer.over.set()
    killer.join()
    return sweep, killer


def test_killed_runs_are_finished_once_and_unharmed(
    killed: tuple[Path, Killer], tmp_path: Path
) -> None:
    sweep, killer = killed
    assert killer.killed
    assert finishes(sweep) == Counter({f"points={16 + number}": 1 for number in range(8)})
    died = [line for line in read_sweep(sweep).events() if line["event"] == "died"]
    assert {line["why"] for line in died} == {"killed by SIGKILL"}
    assert len(died) == len(killer.killed)
    assert unharmed(killer.killed[0], tmp_path)
    assert "report: " in (sweep / "logs" / "points=16.log").read_text()


def test_a_point_that_cannot_be_stops_no_other(
    killed: tuple[Path, Killer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweeps" / "killed"
    shutil.copytree(killed[0], sweep)
    bad, gone = (sweep / COMMAND[0] / f"points={number}" for number in (17, 20))
    for run in (bad, gone):
        shutil.rmtree(run)
    bad.mkdir()
    (bad / "thesis.txt").write_text("")
    begun = (sweep / COMMAND[0] / "points=16" / "results.json").stat().st_mtime_ns
    assert train.main(sweep_words(tmp_path, "local", 8)) == 1
    said = capsys.readouterr().out
    assert "failed: points=17: " in said and "holds 'thesis.txt' but no config.json" in said
    assert "7 of 8 runs are done" in said and "give the same command again" in said
    assert finished(gone) and not finished(bad)
    assert (sweep / COMMAND[0] / "points=16" / "results.json").stat().st_mtime_ns == begun
    # Bad input is no death: it was tried once.
    assert [e["event"] for e in read_sweep(sweep).events() if e["point"] == "points=17"][-2:] == [
        "started",
        "failed",
    ]
    assert analyze.main([str(sweep)]) == 0
    said = capsys.readouterr().out
    assert "1 of 8 runs are unfinished" in said
    page = (sweep / "report.html").read_text()
    first = page.split("<section")[1]
    assert "Sweep killed: 8 runs" in first and "7 of 8 runs are finished" in first
    assert "<td>unfinished</td>" in first and first.count("<td>done</td>") == 7
    assert "points=20" in page.split("<section")[2]


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT]
)
def test_a_launcher_that_goes_takes_its_runs_along(how: signal.Signals, tmp_path: Path) -> None:
    # Runs that cannot be over before their launcher.
    words = ["circle", "--lazy", "0", "--gamma0", "0.5,1", "--width", "64", "--angles", "8"]
    words += ["--points", "32", "--steps", "90000000", "--horizon", "1e9", "--wandb", "disabled"]
    words += ["--runs", str(tmp_path), "--sweep", "s", "--launcher", "local"]
    launcher = subprocess.Popen(
        [sys.executable, "train.py", *words, "--jobs", "1"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "sweeps" / "s" / "circle" / "gamma0=0.5"
    while writer(run) is None or not (run / "metrics.jsonl").exists():
        assert launcher.poll() is None
        time.sleep(0.02)
    os.kill(launcher.pid, how)
    try:
        _, said = launcher.communicate(timeout=120)
    finally:
        launcher.kill()
    until = time.monotonic() + 30
    while writer(run) is not None and time.monotonic() < until:
        time.sleep(0.02)
    assert writer(run) is None
    assert not finished(run)
    if how == signal.SIGINT:
        assert launcher.returncode == 130
        assert "the same command resumes" in said


def test_without_the_server_that_forks_runs_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(_: object) -> None:  # what it says when the server has been killed
        raise EOFError("unexpected EOF")

    with monkeypatch.context() as patch:
        patch.setattr(ForkServerProcess, "start", start)
        assert train.main(sweep_words(tmp_path, "local", 1)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith("the same command goes on.\n"), said


def test_a_sweep_goes_on_under_a_new_launcher(tmp_path: Path) -> None:
    words = sweep_words(tmp_path, "local", 2, "--jobs", "1")
    launcher = subprocess.Popen(
        [sys.executable, "train.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    sweep = tmp_path / "sweeps" / "killed"
    run = sweep / COMMAND[0] / "points=16"
    while writer(run) is None:
        assert launcher.poll() is None
        time.sleep(0.01)
    launcher.kill()
    launcher.wait()
    assert train.main(words) == 0
    assert finishes(sweep) == Counter({"points=16": 1, "points=17": 1})
    assert unharmed(run, tmp_path / "whole")


def test_jobs_of_submitit(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    words = sweep_words(tmp_path, "submitit", 2, "--cluster", "local", "--jobs", "2")
    assert train.main(words) == 0
    sweep = tmp_path / "sweeps" / "killed"
    assert finishes(sweep) == Counter({"points=16": 1, "points=17": 1})
    jobs = read_sweep(sweep).jobs()
    assert set(jobs) == {"points=16", "points=17"}
    assert "report: " in (sweep / "logs" / "points=16.log").read_text()
    # All is done: nothing is submitted again.
    assert train.main(words) == 0
    assert read_sweep(sweep).jobs() == jobs


@pytest.mark.slow
def test_torchrun_spreads_each_run(tmp_path: Path) -> None:
    words = "circle --lazy 0 --width 32 --angles 8 --points 32 --steps 30 --wandb disabled"
    words += f" --seed 0..1 --launcher torchrun --jobs 2 --sweep s --runs {tmp_path}"
    assert train.main(words.split()) == 0
    assert finishes(tmp_path / "sweeps" / "s") == Counter({"seed=0": 1, "seed=1": 1})


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "submitit"])
def test_a_hundred_runs_and_twenty_kills(launcher: str, tmp_path: Path) -> None:
    if launcher == "submitit":
        pytest.importorskip("submitit", reason="submitit is not installed")
    script = Path(__file__).with_name("killed_sweep.py")
    found = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "--launcher", launcher],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
