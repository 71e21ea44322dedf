"""Worker processes: started fresh for each measurement, watched for time and memory, and ended."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.ntk_peers.worker import MARK

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300.0
"""Imports and the making of the network; TensorFlow, which neural-tangents imports, is slow."""
COMPILE_SECONDS = 900.0
"""The same with compilation."""

BUSY = 8
"""How many times longer than its process time a call may take on a busy machine."""

Outcome = dict[str, Any]
"""status "ok" with process, wall and memory; or another status with its reason."""


@dataclass(frozen=True)
class Limits:
    """What a worker may take.

    Attributes:
        seconds: of one call, in process time for each thread, which other work on the machine
            does not lengthen; wall time on a GPU.
        memory: resident bytes.
    """

    seconds: float
    memory: int


def interpreter(environment: str) -> Path:
    """Python of a virtual environment; this one where it is asked for by its usual name."""
    found = ROOT / environment / "bin" / "python"
    return Path(sys.executable) if environment == ".venv" else found


def run(request: dict[str, Any], environment: str, limits: Limits, *, compiles: bool) -> Outcome:
    """Have one worker do the request; what it said, or why it said nothing."""
    python = interpreter(environment)
    if not python.exists():
        return {"status": "absent", "reason": f"no {environment}: run `make bench-environment`"}
    said: Outcome = {}
    with _worker(python, request, limits) as (process, lines, errors):
        allowed = COMPILE_SECONDS if compiles else START_SECONDS
        deadline = _Deadline(process.pid, allowed, None)
        cpu = request["threads"] if request["device"] == "cpu" else None
        while True:
            try:
                line = lines.get(timeout=0.02)
            except queue.Empty:
                if deadline.over():
                    return said | _late(said, limits, allowed)
                if _resident(process.pid) > limits.memory:
                    gib = limits.memory / 2**30
                    return said | {"status": "memory", "reason": f"over {gib:.3g} GiB"}
                continue
            if line is None:
                return said | _death(process, errors)
            event = line.pop("event")
            said |= line
            if event in ("ready", "warm"):
                said["stage"] = event
                deadline = _Deadline(process.pid, limits.seconds, cpu)
            elif event == "timed":
                deadline = _Deadline(process.pid, START_SECONDS, None)
            elif event == "done":
                return said | {"status": "ok"}
            elif event == "failed":
                return said | {"status": "failed"}


class _Deadline:
    """When a stage of a worker has taken too long."""

    def __init__(self, pid: int, seconds: float, threads: int | None):
        self.pid, self.seconds, self.threads = pid, seconds, threads
        self.started = time.monotonic(), _processor_seconds(pid)

    def over(self) -> bool:
        wall, processor = self.started
        spent = time.monotonic() - wall
        if self.threads is None:
            return spent > self.seconds
        # A worker that sleeps, or that a busy machine starves, ends by the clock, later.
        used = (_processor_seconds(self.pid) - processor) / self.threads
        return used > self.seconds or spent > self.seconds * (BUSY if used > 0 else 1)


@contextmanager
def _worker(
    python: Path, request: dict[str, Any], limits: Limits
) -> Iterator[tuple[subprocess.Popen[str], "queue.Queue[Any]", IO[str]]]:
    threads = str(request["threads"])
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    if request["device"] == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.ntk_peers.worker"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdin is not None
            json.dump(request, process.stdin)
            process.stdin.close()
            lines: queue.Queue[Any] = queue.Queue()
            threading.Thread(target=_read, args=(process, lines), daemon=True).start()
            yield process, lines, errors
        finally:
            process.kill()
            process.wait()


def _read(process: subprocess.Popen[str], lines: "queue.Queue[Any]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(MARK):
            lines.put(json.loads(line.removeprefix(MARK)))
    lines.put(None)


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        # Ended just now, or a system without /proc, where nothing watches the memory.
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _processor_seconds(pid: int) -> float:
    try:
        # Behind the name, which may hold anything: state is field 0, utime 11 and stime 12.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _late(said: Outcome, limits: Limits, allowed: float) -> Outcome:
    if "stage" not in said:
        return {"status": "failed", "reason": f"not ready, compiled or not, after {allowed:.0f} s"}
    return {
        "status": "time",
        "reason": f"over {limits.seconds:.0f} s",
        "limit": limits.seconds,
    }


def _death(process: subprocess.Popen[str], errors: IO[str]) -> Outcome:
    code = process.wait()
    if code < 0:
        return {"status": "died", "reason": f"died: killed by signal {-code}"}
    errors.seek(0)
    lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    last = f": {lines[-1][:160]}" if lines else ""
    return {"status": "died", "reason": f"died with exit code {code}{last}"}
