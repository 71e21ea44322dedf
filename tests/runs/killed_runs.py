"""Kills a toy run at its writes, resumes it and compares; run by the kill test.

Usage: python killed_runs.py FOLDER STRIDE, to kill at every STRIDE-th of its writes.
A process of its own, so that it may fork freely.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from ntkscale.runs import atomic, checkpoint, metrics, open_run, strict_json, tensor_files

CONFIG = {"width": 8, "seed": 3, "steps": 12}


class Killer:
    """Counts the moments at which a kill is dangerous, and kills at the one asked for."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def due(self) -> bool:
        self.count += 1
        return self.count - 1 == self.at

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put moments of death before, inside and after every kind of write."""
        replace, unlink, write_text = Path.replace, Path.unlink, Path.write_text
        append = metrics.JsonLines.append

        def killing_sync(descriptor: int) -> None:
            # No real sync: it costs time, and only a power cut could tell.
            if self.due():
                self.kill()

        def killing_replace(source: Path, target: Path) -> Path:
            if self.due():
                self.kill()
            done = replace(source, target)
            if self.due():
                self.kill()
            return done

        def killing_unlink(path: Path, missing_ok: bool = False) -> None:
            if self.due():
                self.kill()
            unlink(path, missing_ok=missing_ok)

        def killing_write(path: Path, text: str, **keywords: str) -> int:
            if self.due():
                write_text(path, text[: len(text) // 2], **keywords)
                self.kill()
            return write_text(path, text, **keywords)

        def killing_save(tensors: dict[str, torch.Tensor], path: Path, **keywords: object) -> None:
            save_file(tensors, path, **keywords)  # pyright: ignore[reportArgumentType]
            if self.due():
                os.truncate(path, path.stat().st_size // 2)
                self.kill()

        def killing_append(lines: metrics.JsonLines, row: dict[str, object]) -> None:
            if self.due():
                text = json.dumps(strict_json.finite(row, ""))
                with lines.path.open("a") as file:
                    file.write(text[: len(text) // 2])
                self.kill()
            append(lines, row)
            if self.due():
                self.kill()

        atomic.os.fsync = killing_sync
        Path.replace, Path.unlink = killing_replace, killing_unlink  # type: ignore[method-assign]
        Path.write_text = killing_write  # type: ignore[method-assign]
        checkpoint.save_file = tensor_files.save_file = killing_save  # pyright: ignore[reportPrivateImportUsage]
        metrics.JsonLines.append = killing_append  # type: ignore[method-assign]


def train(path: Path) -> None:
    """Two cells of a chaotic map whose state is only in checkpoints."""
    with open_run(path, CONFIG) as folder:
        if folder.finished:
            return
        saved = folder.load_checkpoint()
        for number in range(2):
            cell = f"gamma0={10.0**-number:g},seed=3"
            if cell in folder.results():
                continue
            state, first = torch.linspace(0.1, 0.9, 8, dtype=torch.float64) + 0.01 * number, 0
            if saved is not None and saved[1]["cell"] == cell:
                state, first = saved[0]["state"], saved[1]["step"]
            for step in range(first, CONFIG["steps"]):
                if step % 3 == 0:
                    folder.append({"cell": cell, "step": step, "loss": float(state.mean())})
                    folder.append_timing({"cell": cell, "seconds": float(step)})
                if step % 4 == 0:
                    folder.write_kernel(cell, step, {"kernel": torch.outer(state, state)})
                state = 3.9 * state * (1 - state)
                if step % 5 == 4:
                    folder.save_checkpoint({"state": state}, {"cell": cell, "step": step + 1})
            folder.write_weights(cell, {"state": state})
            folder.write_result(cell, {"status": "finished", "last": float(state[0])})
            folder.save_checkpoint({}, {"cell": None})
        folder.finish()


def child(path: Path, at: int | None) -> tuple[bool, int]:
    """Train in a forked process; whether it was killed, and how many moments it passed."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        killer = Killer(at)
        killer.install()
        code = 1
        try:
            train(path)
            os.write(writing, str(killer.count).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    count = os.read(reading, 16)
    os.close(reading)
    _, status = os.waitpid(process, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the run in {path} failed, killed at moment {at}")
    return killed, int(count or 0)


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a run that must come out the same."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in ("timing.jsonl", "environment.json", ".lock")
    }


def main() -> None:
    root, stride = Path(sys.argv[1]), int(sys.argv[2])
    # The facts of the environment take a git call, which has no place in a hundred toy runs.
    import ntkscale.runs.folder

    ntkscale.runs.folder.environment = lambda: {"python": "3"}  # pyright: ignore[reportPrivateImportUsage]
    _, moments = child(root / "whole", None)
    expected = contents(root / "whole")
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    twice, chosen = 0, range(draw.randrange(stride), moments, stride)
    for at in chosen:
        path = root / f"killed-{at}"
        killed, _ = child(path, at)
        assert killed, f"moment {at} of {moments} was not reached"
        again, _ = child(path, draw.randrange(moments))
        twice += again
        child(path, None)
        found = contents(path)
        different = [
            name
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
        assert not different, f"killed at {at} (seed {seed}): {different} differ"
    sys.stdout.write(json.dumps({"killed": len(chosen), "killed twice": twice}))


if __name__ == "__main__":
    main()
