"""Groups of cells trained side by side, in processes of their own, and put together in order.

Small networks keep one core busy and leave the others idle: their operations are too short to be
split. Each process trains every n-th group into a run folder of its own under `parts/`, resumable
like any other; when all are done the parts become one run, byte for byte that of a single process.
"""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ntkscale.experiments.cells import Cell
from ntkscale.runs import Run, RunFolder, load, open_run

PARTS = "parts"
_POLL_SECONDS = 0.1

Report = Callable[[float, str], None]
"""Called with the number of groups done, fractions included, and a text."""

Train = Callable[[RunFolder, Sequence[Sequence[Cell]], Report], None]
"""Trains groups in order into an open folder and marks it finished."""


def train_side_by_side(
    folder: RunFolder,
    config: dict[str, Any],
    groups: Sequence[Sequence[Cell]],
    train: Train,
    workers: int,
    report: Report,
) -> None:
    """Train the groups in `workers` processes and record them in `folder`, in order.

    Args:
        folder: the open run.
        config: its configuration, which is that of every part.
        groups: cells that are trained together; their closures reach the processes by fork.
        train: what each process does with its share.
        workers: number of processes.
        report: told how far they are, all together.

    Raises:
        KeyboardInterrupt: Ctrl-C, after every process has saved its state.
        RuntimeError: a process failed; its traceback stands above.
    """
    context = multiprocessing.get_context("fork")
    messages = context.SimpleQueue()
    parent = os.getpid()
    paths = [folder.path / PARTS / str(index) for index in range(min(workers, len(groups)))]

    def work(index: int) -> None:
        def tell(done: float, text: str) -> None:
            if os.getppid() != parent:  # killed: a resumed run must find the part free
                os._exit(1)
            messages.put((index, done, text))

        try:
            with open_run(paths[index], config) as part:
                if not part.finished:
                    train(part, groups[index :: len(paths)], tell)
        except KeyboardInterrupt:
            os._exit(128 + signal.SIGINT)

    processes = [context.Process(target=work, args=(index,)) for index in range(len(paths))]
    for process in processes:
        process.start()
    done = [0.0] * len(paths)
    interrupted = False
    while True:
        alive = any(process.is_alive() for process in processes)
        while not messages.empty():
            index, done[index], text = messages.get()
            report(sum(done), text)
        if not alive:
            break
        try:
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:  # the terminal sends it to every process
            interrupted = True
    if interrupted or any(process.exitcode == 128 + signal.SIGINT for process in processes):
        raise KeyboardInterrupt
    if any(process.exitcode for process in processes):
        codes = ", ".join(str(process.exitcode) for process in processes)
        raise RuntimeError(f"a training process failed (exit codes {codes}); see above for why.")
    _put_together(folder, groups, paths)


def _put_together(
    folder: RunFolder, groups: Sequence[Sequence[Cell]], paths: Sequence[Path]
) -> None:
    """Write everything the parts hold into the run, group by group, and remove them."""
    parts = [load(path) for path in paths]
    for position, cells in enumerate(groups):
        part = parts[position % len(parts)]
        for row in _rows(part, {cell.name for cell in cells}):
            folder.append(row)
        for cell in cells:
            for step in part.kernels.steps(cell.name):
                folder.write_kernel(cell.name, step, part.kernels[cell.name, step])
            folder.write_weights(cell.name, part.weights(cell.name))
            folder.write_result(cell.name, part.results[cell.name])
            for line in part.timings:
                if line["cell"] == cell.name:
                    folder.append_timing(line)
    folder.finish()
    shutil.rmtree(folder.path / PARTS)


def _rows(part: Run, names: set[str]) -> list[dict[str, Any]]:
    """Rows of some cells exactly as they were appended."""
    lines = (part.path / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["cell"] in names]
