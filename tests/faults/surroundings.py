"""A clock that runs backwards, packages that are missing, W&B that fails at any call."""

import itertools
import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ntkscale.faces import workspace
from tests.faults.row import Bench, Row
from tests.faults.toys import circle, contents, different, ended, run_of, saving_often, sweep, whole

OPTIONAL = {"submitit": "sweeps", "wandb_workspaces": "dashboards"}


def clock_set_back(draw: random.Random) -> Callable[[], None]:
    """Prepares a process whose clock goes back by up to a day at every look."""

    def prepare() -> None:
        saving_often(0.01)()
        now = time.time()

        def looks() -> Iterator[float]:
            at = now
            while True:
                at -= draw.uniform(0, 86_400)
                yield at

        moments = looks()
        time.time = lambda: next(moments)
        time.time_ns = lambda: int(next(moments) * 1e9)

    return prepare


def check_clock(bench: Bench) -> str:
    """Before, during and after a stop."""
    expected = whole(circle(bench.folder / "whole"))
    words = circle(bench.folder / "runs")
    done = ended(words, prepare=clock_set_back(bench.draw))
    assert done.code == 0, done.said
    wrong = different(contents(run_of(words)), expected)
    assert not wrong, f"{wrong} differ"
    if not bench.small:
        done = ended(sweep(bench.folder / "sweep"), prepare=clock_set_back(bench.draw))
        assert done.code == 0, done.said
    return "the same bits" if bench.small else "the same bits; a sweep does each run once"


def without(*packages: str) -> Callable[[], None]:
    """Prepares a process in which these packages cannot be imported."""

    def prepare() -> None:
        for package in packages:
            gone = [name for name in sys.modules if name.partition(".")[0] == package]
            for name in gone:
                del sys.modules[name]
            sys.modules[package] = None  # type: ignore[assignment]

    return prepare


def check_packages(bench: Bench) -> str:
    """Where an optional package is needed one sentence says how to get it."""
    words = sweep(bench.folder / "runs", "--launcher", "submitit")
    done = ended(words, prepare=without("submitit"))
    assert done.code == 2 and "pip install 'ntkscale[sweeps]'" in done.one_sentence(), done.said
    assert not (bench.folder / "runs").exists()

    page = bench.folder / "dashboard.json"
    asked = ["--entity", "me", "--json", str(page)]
    done = ended(asked, prepare=without("wandb_workspaces"), program=workspace)
    assert done.code == 2 and "pip install" in done.one_sentence(), done.said
    assert not page.exists()

    words = circle(bench.folder / "logged")
    expected = whole(words)
    words = circle(bench.folder / "offline", wandb="offline")
    done = ended(words, prepare=without("wandb"))
    assert done.code == 0, done.said
    assert "W&B" in done.one_sentence(), done.said
    wrong = different(contents(run_of(words)), expected)
    assert not wrong, f"without wandb {wrong} differ"
    return "submitit, wandb-workspaces: one sentence; without wandb the same bits"


ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: RuntimeError("the service\nis gone"),
    lambda: OSError(28, "No space left on device"),
    lambda: ConnectionResetError(104, "Connection reset by peer"),
    lambda: KeyError("run"),
    lambda: AssertionError(),
    lambda: MemoryError(),
    lambda: SystemExit(1),
)


class Anything:
    """Has every attribute and can be called; its calls are counted, and one of them raises."""

    def __init__(self, calls: Iterator[int], at: int, error: BaseException, tally: Path) -> None:
        self._said = calls, at, error, tally

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(*self._said)

    def __call__(self, *_: object, **__: object) -> Any:
        calls, at, error, tally = self._said
        number = next(calls)
        if number == at:
            raise error
        tally.write_text(str(number + 1))
        return Anything(*self._said)


def raising(at: int, error: BaseException, tally: Path) -> Callable[[], None]:
    """Prepares a process in which call number `at` into W&B raises."""

    def prepare() -> None:
        module = types.ModuleType("wandb")
        anything = Anything(itertools.count(), at, error, tally)
        module.__getattr__ = lambda name: getattr(anything, name)  # type: ignore[method-assign]
        sys.modules["wandb"] = module

    return prepare


def check_wandb(bench: Bench) -> str:
    """Every kind of error at calls all over the run."""
    expected = whole(circle(bench.folder / "whole"))
    tally = bench.folder / "tally"

    def attempt(number: int, at: int, error: BaseException) -> None:
        words = circle(bench.folder / f"runs{number}", wandb="offline")
        done = ended(words, prepare=raising(at, error, tally))
        where = f"{type(error).__name__} at call {at}"
        assert done.code == 0, f"{where}: exit code {done.code}, {done.said}"
        if at >= 0:
            assert done.one_sentence().startswith("W&B: "), f"{where}: {done.said}"
        wrong = different(contents(run_of(words)), expected)
        assert not wrong, f"{where}: {wrong} differ"

    attempt(0, -1, RuntimeError())
    calls = int(tally.read_text())
    count = bench.times(2, 21)
    for number in range(1, count + 1):
        at = number - 1 if number <= count // 2 else bench.draw.randrange(calls)
        attempt(number, at, ERRORS[number % len(ERRORS)]())
    return f"{count} of {calls} calls raise: one line each, the same bits"


ROWS = (
    Row("the clock is set back again and again", "the same bits", check_clock),
    Row(
        "missing packages: submitit, wandb-workspaces, wandb",
        "one sentence with the cure; training does without",
        check_packages,
    ),
    Row(
        "W&B raises, at any call, anything",
        "one line on stderr; the same bits",
        check_wandb,
    ),
)
