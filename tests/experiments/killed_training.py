"""Kills real training runs at any moment, resumes each by the same command, compares bit by bit.

Usage: python tests/experiments/killed_training.py FOLDER [--kills 20] [--inside 5] [--seed 0]

A circle run (gradient flow, two gamma0) and an images run (mini-batches) are trained once without
harm. Then they are started again and again in fresh folders and killed with SIGKILL: at moments
uniform over the run, and `--inside` of them in the middle of a write. What the second start of the
same command ends with must be the same metrics, kernels and weights, byte for byte.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from ntkscale.faces import train
from ntkscale.runs import atomic, checkpoint, metrics, tensor_files
from ntkscale.training import Trainer

COMMANDS = {
    "circle": "circle --beta 0.5 --gamma0 0.1 1 --width 128 --angles 32 --points 64 --steps 6000",
    "images": "images --size 300 --width 32 --gamma0 0.5 1 --steps 3000 --method momentum",
}
SAME = ("metrics.jsonl", "results.json", "config.json")


def command(experiment: str, folder: Path) -> list[str]:
    """The words of the command that trains into `folder`/<experiment>/run."""
    where = ["--runs", str(folder), "--name", "run"]
    where += ["--wandb", "disabled", "--workers", "1"]
    return [*COMMANDS[experiment].split(), *where]


def kill_inside(write: int) -> None:
    """Die in the middle of write number `write`: half a file, half a line, before a rename."""
    count = 0
    replace, append = Path.replace, metrics.JsonLines.append

    def due() -> bool:
        nonlocal count
        count += 1
        return count == write

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half_save(tensors: dict[str, torch.Tensor], path: Path, **keywords: object) -> None:
        save_file(tensors, path, **keywords)  # pyright: ignore[reportArgumentType]
        if due():
            os.truncate(path, path.stat().st_size // 2)
            die()

    def half_append(lines: metrics.JsonLines, row: dict[str, object]) -> None:
        if due():
            with lines.path.open("a") as file:
                file.write('{"cell": "beta=0.5,ga')
            die()
        append(lines, row)

    def no_replace(source: Path, target: Path) -> Path:
        if due():
            die()
        return replace(source, target)

    checkpoint.save_file = tensor_files.save_file = half_save  # pyright: ignore[reportPrivateImportUsage]
    metrics.JsonLines.append = half_append  # type: ignore[method-assign]
    Path.replace = no_replace  # type: ignore[method-assign]
    # A real sync takes long here, and only a power cut could tell.
    atomic.os.fsync = lambda _: None


def start(words: list[str], prepare: Callable[[], None] | None = None) -> int:
    """Train in a forked process; its number."""
    process = os.fork()
    if process == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 1
        try:
            # Often enough that a kill falls between checkpoints as well as before the first.
            defaults = Trainer.run.__kwdefaults__
            assert defaults is not None
            defaults["checkpoint_seconds"] = 0.3
            if prepare is not None:
                prepare()
            code = train.main(words)
        finally:
            os._exit(code)
    return process


def finish(words: list[str], what: str) -> float:
    """Train to the end; seconds it took."""
    begun = time.monotonic()
    _, status = os.waitpid(start(words), 0)
    if status != 0:
        raise SystemExit(f"{what} failed with status {status}")
    return time.monotonic() - begun


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run that must come out the same."""
    files = [run / name for name in SAME]
    files += [file for part in ("kernels", "weights") for file in (run / part).rglob("*")]
    return {str(f.relative_to(run)): f.read_bytes() for f in files if f.is_file()}


def main() -> int:
    """Kill, resume, compare; exit code 0 if every run came out the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--inside", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked process may not use the parent's threads
    draw = random.Random(options.seed)

    whole: dict[str, tuple[dict[str, bytes], float]] = {}
    for experiment in COMMANDS:
        folder = options.folder / "whole"
        seconds = finish(command(experiment, folder), f"{experiment} without harm")
        whole[experiment] = contents(folder / experiment / "run"), seconds
        print(f"{experiment}: {len(whole[experiment][0])} files, {seconds:.1f} s", flush=True)

    same = killed = 0
    number = inside = 0
    while killed < options.kills:  # a run that ends before its kill does not count
        experiment = draw.choice(list(COMMANDS))
        expected, seconds = whole[experiment]
        folder = options.folder / f"kill{number}"
        words = command(experiment, folder)
        if inside < options.inside:
            write = draw.randint(1, 120)
            where = f"inside write {write}"
            process = start(words, lambda write=write: kill_inside(write))
        else:
            moment = draw.uniform(0, seconds)
            where = f"after {moment:.2f} s"
            process = start(words)
            time.sleep(moment)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        died = os.WIFSIGNALED(status)
        killed, inside = killed + died, inside + (died and inside < options.inside)
        number += 1
        finish(words, f"{experiment} resumed, killed {where}")
        found = contents(folder / experiment / "run")
        equal = found == expected
        same += equal
        verdict = (
            "same"
            if equal
            else "DIFFERENT: "
            + ", ".join(
                sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
            )
        )
        print(
            f"{number:3} {experiment:7} {where:20} {'killed' if died else 'ended first'} {verdict}",
            flush=True,
        )
    print(
        f"{killed} runs were killed, {inside} of them inside a write; of {number} resumed runs "
        f"{same} are bitwise the same."
    )
    return 0 if same == number else 1


if __name__ == "__main__":
    sys.exit(main())
