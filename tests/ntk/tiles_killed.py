"""Kills the writing of a kernel at its system calls, goes on and compares; run by the kill test.

Usage: python tiles_killed.py FOLDER STRIDE, to kill at every STRIDE-th moment of each story.
A process of its own, so that it may fork freely.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiles_problem import Job

from ntkscale.ntk import tiles

OLD = Job((30, 30), fingerprint="a" * 64, block=10)
NEW = Job((40, 40, 2, 2), block=11)


class Killer:
    """Counts the moments at which a kill is dangerous, and kills at the one asked for."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def pass_by(self) -> None:
        self.count += 1
        if self.count - 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put moments of death before and after every change of a file, and inside of writes."""

        def around(change: Callable[..., Any]) -> Callable[..., Any]:
            def changed(*arguments: Any, **keywords: Any) -> Any:
                self.pass_by()
                result = change(*arguments, **keywords)
                self.pass_by()
                return result

            return changed

        write, pwrite = os.write, os.pwrite

        def torn_write(descriptor: int, content: bytes) -> int:
            half = len(content) // 2
            written = write(descriptor, content[:half])
            self.pass_by()
            return written + write(descriptor, content[half:])

        def torn_pwrite(descriptor: int, content: memoryview, offset: int) -> int:
            half = len(content) // 2
            pwrite(descriptor, content[:half], offset)
            if random.random() < 0.1:  # one run of many
                self.pass_by()
            return half + pwrite(descriptor, content[half:], offset + half)

        os.write, os.pwrite = torn_write, torn_pwrite  # type: ignore[assignment]
        for name in ("ftruncate", "posix_fallocate", "open"):
            setattr(os, name, around(getattr(os, name)))
        os.fsync = lambda descriptor: self.pass_by()  # only a power cut could tell
        Path.replace, Path.unlink = around(Path.replace), around(Path.unlink)  # type: ignore[method-assign]


def child(path: Path, at: int | None, tally: Path, seconds: float = 0.0) -> tuple[bool, int]:
    """Compute in a forked process; whether it was killed, and how many moments it passed."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        report = os.write
        code = 1
        try:
            random.seed(5)  # of the moments inside of writes
            counting = tally.open("ab", buffering=0)
            killer = Killer(at)
            killer.install()

            def compute(rows: slice, columns: slice) -> torch.Tensor:
                counting.write(b".")
                if seconds:
                    time.sleep(0.002)
                return NEW.compute(rows, columns)

            NEW.run(path, compute=compute)
            report(writing, str(killer.count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    if seconds:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    count = os.read(reading, 16)
    os.close(reading)
    _, status = os.waitpid(process, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the job in {path} failed, killed at moment {at}")
    return killed, int(count or 0)


def check(path: Path, story: str) -> None:
    """What must hold after any kill: a manifest never lies beside a kernel it does not describe."""
    manifest = path.with_name("k.npy.manifest.json")
    if manifest.exists():
        damaged = tiles.verify(path)
        assert len(damaged) <= (story == "repair"), damaged


def begin(folder: Path, story: str) -> tuple[Path, Path]:
    """What lies there before the job that is killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "k.npy"
    if story == "replace":
        OLD.run(path)
    elif story == "repair":
        NEW.run(path)[5, 20, 1, 0] += 1
    return path, folder / "tally"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "tally"}


def compare(found: dict[str, bytes], expected: dict[str, bytes], what: str) -> None:
    names = sorted(found.keys() | expected.keys())
    different = [name for name in names if found.get(name) != expected.get(name)]
    assert not different, f"{what}: {different} differ"


def main() -> None:
    root, stride = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    draw = random.Random(seed := random.randrange(2**32))
    blocks = 10  # of NEW
    kills = twice = 0
    for story in ("new", "replace", "repair"):
        path, tally = begin(root / story, story)
        _, moments = child(path, None, tally)
        expected = contents(root / story)
        for at in range(draw.randrange(stride), moments, stride):
            path, tally = begin(root / story, story)
            killed, _ = child(path, at, tally)
            assert killed, f"moment {at} of {moments} was not reached"
            check(path, story)
            again, _ = child(path, draw.randrange(moments), tally)
            check(path, story)
            child(path, None, tally)
            kills, twice = kills + 1, twice + again
            compare(contents(root / story), expected, f"{story}, killed at {at} (seed {seed})")
            # A kill costs the block in the writer's hands and the one being computed.
            limit = (1 if story == "repair" else blocks) + 2 * (1 + again)
            assert tally.stat().st_size <= limit, f"{story}, killed at {at}: blocks done again"
    for _ in range(max(12, 100 // stride)):
        path, tally = begin(root / "random", "new")
        while child(path, None, tally, seconds=draw.uniform(0.001, 0.06))[0]:
            kills += 1
            check(path, "new")
        compare(contents(root / "random"), expected, f"killed at random (seed {seed})")
    sys.stdout.write(json.dumps({"killed": kills, "killed twice": twice}))


if __name__ == "__main__":
    main()
