"""Real commands on tiny networks, each in a forked process whose end is waited for."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ntkscale.experiments import EXPERIMENTS
from ntkscale.faces import train
from ntkscale.runs import atomic
from ntkscale.training import Trainer
from tests.experiments.killed_training import contents

__all__ = ["Ended", "circle", "contents", "ended", "images", "rows_of", "run_of", "start", "train"]

CIRCLE = "circle --lazy 0 --angles 8 --points 32"
STEPS = 80
_WHOLE: dict[tuple[str, ...], dict[str, bytes]] = {}
"""What commands leave, by their words without the folder."""

_SAID: dict[int, Path] = {}
"""Where stderr of the processes that were started goes."""

IMAGES = "images --size 120 --width 16 --gamma0 0.5 --batch-size 20 --wandb disabled --workers 1"


def circle(
    folder: Path,
    *more: str,
    steps: int = STEPS,
    width: int = 32,
    workers: int = 1,
    wandb: str = "disabled",
) -> list[str]:
    """Words of a run of gradient flow that takes so many steps a cell; two cells."""
    words = [*CIRCLE.split(), "--beta", "0.5", "1.25", "--steps", str(steps), "--horizon", "1e9"]
    words += ["--width", str(width), "--workers", str(workers), "--wandb", wandb]
    return [*words, *more, "--runs", str(folder), "--name", "run"]


def sweep(folder: Path, *more: str, steps: int = STEPS) -> list[str]:
    """Words of a local sweep `s` of two such runs, one after the other."""
    words = circle(folder, "--gamma0", "0.5,2", steps=steps)[:-2]
    return [*words, "--sweep", "s", "--launcher", "local", "--jobs", "1", *more]


def images(folder: Path, *more: str, steps: int = 200) -> list[str]:
    """Words of a run with mini-batches."""
    where = ["--runs", str(folder), "--name", "run"]
    return [*IMAGES.split(), "--steps", str(steps), *where, *more]


def run_of(words: Sequence[str]) -> Path:
    """Run folder of a command."""
    return Path(words[words.index("--runs") + 1]) / words[0] / "run"


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (below zero: a signal), and what it said on stderr."""

    code: int
    said: str

    def one_sentence(self) -> str:
        """What it said, which must be a single line without a traceback."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        assert len(lines) == 1 and "Traceback" not in self.said, self.said
        return lines[0]


def start(
    words: Sequence[str],
    prepare: Callable[[], object] | None = None,
    *,
    judged: bool = False,
    program: Any = train,
) -> int:
    """Start a command in a forked process; its number.

    Args:
        words: of the command.
        prepare: called in the process before.
        judged: whether the verdict and the report follow, which take most of the time.
        program: with a `main` that takes the words.
    """
    number, said = tempfile.mkstemp(prefix="said-")
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(number, 2)
        code = 1
        try:
            # A real sync takes long, and only a power cut could tell.
            atomic.os.fsync = lambda _: None
            if not judged:
                train._train = _only_run
            if prepare is not None:
                prepare()
            code = program.main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(number)
    _SAID[process] = Path(said)
    return process


def ended(words: Sequence[str], process: int | None = None, **more: Any) -> Ended:
    """Wait for a command that was started, or start it and wait."""
    process = start(words, **more) if process is None else process
    _, status = os.waitpid(process, 0)
    said = _SAID.pop(process)
    found = Ended(os.waitstatus_to_exitcode(status), said.read_text(errors="replace"))
    said.unlink()
    return found


def whole(words: Sequence[str]) -> dict[str, bytes]:
    """What a command leaves that nobody disturbs; the same command elsewhere is not run again."""
    asked = tuple(words[: words.index("--runs")])
    if asked not in _WHOLE:
        done = ended(words)
        assert done.code == 0, done.said
        _WHOLE[asked] = contents(run_of(words))
    return _WHOLE[asked]


def warm_up(folder: Path) -> None:
    """Do once in this process what the first training of each does, for those forked from it."""
    if torch.cuda.is_available():
        return  # threads of the device would not survive the fork
    train._train, kept = _only_run, train._train
    try:
        train.main(circle(folder))
    finally:
        train._train = kept
    whole(circle(folder))


def rows_of(run: Path) -> int:
    """Whole lines of its metrics."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_rows(run: Path, process: int, rows: int = 1, seconds: float = 60.0) -> None:
    """Wait until a run has written so many rows; it must not end before."""
    until = time.monotonic() + seconds
    while rows_of(run) < rows:
        done, status = os.waitpid(process, os.WNOHANG)
        assert not done, f"ended before row {rows}, status {status}"
        assert time.monotonic() < until, f"no row {rows} within {seconds} s"
        time.sleep(0.002)


def saving_often(seconds: float = 0.2) -> Callable[[], None]:
    """Prepares a process whose trainings save that often."""

    def prepare() -> None:
        defaults = Trainer.run.__kwdefaults__
        assert defaults is not None
        defaults["checkpoint_seconds"] = seconds

    return prepare


def different(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same."""
    return sorted(
        name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
    )


def leftovers(folder: Path) -> list[str]:
    """Half-written files that are still there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))


def _only_run(settings: Any) -> None:
    next(e for e in EXPERIMENTS.values() if type(settings) is e.settings).run(settings)
