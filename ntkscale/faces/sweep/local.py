"""Runs as processes of this machine: by themselves, or one that `torchrun` spreads."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from ntkscale.faces.sweep.axes import Point
from ntkscale.faces.sweep.folder import SweepFolder
from ntkscale.faces.sweep.point import Train, detach, run_point, write_to

Work = Callable[[Train, Sequence[str], Path], int]
"""What a process does: `run_point`, or `spread_point`."""

_STOP_SECONDS = 20.0


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def threads() -> int:
    """Threads of one run: OMP_NUM_THREADS, else 1."""
    typed = os.environ.get("OMP_NUM_THREADS", "")
    return int(typed) if typed.isdigit() and int(typed) > 0 else 1


class LocalProcesses:
    """Starts runs as processes and says how they ended.

    They are forked from a server that has imported everything once, so that a run starts at once.

    Args:
        train: `train.py` itself, by name importable.
        folder: of the sweep.
        slots: how many at once.
        work: what each process does.
        gently: end a process whose launcher is gone by SIGTERM, so that it can end its own.
        gpus: process number n sees GPU n modulo this; 0: all see what the launcher sees.
    """

    def __init__(
        self,
        train: Train,
        folder: SweepFolder,
        slots: int,
        work: Work = run_point,
        *,
        gently: bool = False,
        gpus: int = 0,
    ) -> None:
        self.slots = slots
        self._train, self._folder, self._work = train, folder, work
        self._last = signal.SIGTERM if gently else signal.SIGKILL
        self._gpus = gpus
        self._processes: dict[str, ForkServerProcess] = {}
        self._places: dict[str, int] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([train.__module__, "ntkscale.faces.sweep.local"])
        # Held by this process alone: it closes when this process ends.
        self._watched, self._alive = self._context.Pipe(duplex=False)
        # The server takes its environment from here when it starts.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads()))

    def adopt(self) -> set[str]:
        """Names of points that are being run already: none, processes end with their launcher."""
        return set()

    def start(self, points: Sequence[Point]) -> None:
        """Start these runs.

        Raises:
            ChildProcessError: the server that they are forked from was killed.
        """
        for point in points:
            place = min(set(range(self.slots)) - set(self._places.values()))
            process = self._context.Process(
                target=_work,
                args=(
                    self._work,
                    self._train,
                    self._folder.command(point),
                    self._folder.run(point),
                    self._folder.log(point),
                    self._watched,
                    self._last,
                    str(place % self._gpus) if self._gpus else "",
                ),
                name=point.name,
            )
            try:
                process.start()
            except (EOFError, ConnectionError) as error:
                raise ChildProcessError(
                    f"the process that starts the runs of this sweep was killed before "
                    f"{point.name} began; what the runs have saved is kept, and the same command "
                    "goes on."
                ) from error
            self._processes[point.name], self._places[point.name] = process, place

    def ended(self, seconds: float) -> list[tuple[str, int]]:
        """Names and exit codes of runs that ended; waits up to `seconds` for one.

        A code below zero is the number of the signal that killed the process.
        """
        wait([process.sentinel for process in self._processes.values()], timeout=seconds)
        found = []
        for name, process in list(self._processes.items()):
            if not process.is_alive():
                found.append((name, process.exitcode or 0))
                process.close()
                del self._processes[name], self._places[name]
        return found

    def stop(self) -> None:
        """Let every run save what it has and end: asked twice, then killed.

        Raises:
            KeyboardInterrupt: a second Ctrl-C; all of them are killed then.
        """
        try:
            for _ in range(2):
                self._signal(signal.SIGINT)
                until = time.monotonic() + _STOP_SECONDS
                while self._processes and time.monotonic() < until:
                    self.ended(0.2)
        finally:
            # Their launcher goes: whoever is left ends as if it had been killed.
            self._signal(self._last)
            while self._processes:
                self.ended(0.2)

    def close(self) -> None:
        """Let go of the pipe; no run is left."""
        self._alive.close()
        self._watched.close()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)


def _work(
    work: Work,
    train: Train,
    words: Sequence[str],
    run: Path,
    log: Path,
    launcher: Connection,
    last: signal.Signals,
    gpu: str,
) -> None:
    """What a process does from beginning to end."""
    detach(launcher, last)
    write_to(log)
    if gpu:
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = given[int(gpu)] if int(gpu) < len(given) > 1 else gpu
    torch.set_num_threads(threads())
    raise SystemExit(work(train, words, run))
