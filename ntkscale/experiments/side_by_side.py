"""Groups of cells trained side by side, in processes of their own, and put together in order.

Small networks keep one core busy and leave the others idle: their operations are too short to be
split. Each process trains every n-th group, and each group has a run folder of its own under
`parts/`, resumable like any other. When all are done the parts become one run, byte for byte that
of a single process.
"""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from ntkscale.runs import RunFolder, copy_cells, load, open_run

PARTS = "parts"
_POLL_SECONDS = 0.1

Report = Callable[[float, str], None]
"""Called with the number of groups done, fractions included, and a text."""


class Named(Protocol):
    """A cell, or a piece of work."""

    @property
    def name(self) -> str:
        """Its name on disk."""
        ...


Unit = TypeVar("Unit", bound=Named)


def train_side_by_side(
    folder: RunFolder,
    config: dict[str, Any],
    groups: Sequence[Sequence[Unit]],
    train: Callable[[RunFolder, Sequence[Sequence[Unit]], Report], None],
    workers: int,
    report: Report,
) -> None:
    """Train the groups in `workers` processes and record them in `folder`, in order.

    Args:
        folder: the open run.
        config: its configuration, which is that of every part.
        groups: cells that are trained together; their closures reach the processes by fork.
        train: does groups in order into an open folder and marks it finished.
        workers: number of processes.
        report: told how far they are, all together.

    Raises:
        KeyboardInterrupt: Ctrl-C or another signal to stop, after every process has saved its
            state.
        ValueError, OSError: what a process found wrong, in its words.
        ChildProcessError: a process was killed from outside; the sentence names its group.
        RuntimeError: a process failed; its traceback stands above.
    """
    context = multiprocessing.get_context("fork")
    parent = os.getpid()
    # One part a group, so that any number of processes can take them up again.
    paths = [folder.path / PARTS / str(index) for index in range(len(groups))]
    workers = min(workers, len(groups))

    def work(worker: int, messages: Connection) -> None:
        torch.set_num_threads(1)  # a forked process may not use its parent's threads
        try:
            for index in range(worker, len(groups), workers):

                def tell(done: float, text: str, index: int = index) -> None:
                    if os.getppid() != parent:  # killed: a resumed run must find the part free
                        os._exit(1)
                    messages.send((index, done, text))

                with open_run(paths[index], config) as part:
                    if not part.finished:
                        train(part, [groups[index]], tell)
                    tell(1.0, groups[index][0].name)
        except KeyboardInterrupt:
            os._exit(128 + signal.SIGINT)
        except (ValueError, OSError) as error:
            # A full disk is no reason to refuse the run: what is done is worth keeping.
            messages.send((None, float(isinstance(error, OSError)), _words(error)))
            os._exit(2)

    processes: list[ForkProcess] = []
    # A pipe each: one that is killed while it writes must not hold up the others.
    pipes: list[Connection] = []
    for worker in range(workers):
        reading, writing = context.Pipe(duplex=False)
        processes.append(context.Process(target=work, args=(worker, writing)))
        processes[-1].start()
        writing.close()  # so that the pipe ends with its process
        pipes.append(reading)
    done, doing = [0.0] * len(groups), [group[0].name for group in groups]
    wrong, of_system, interrupted = "", False, False
    while True:
        try:
            alive = any(process.is_alive() for process in processes)
            for index, share, text in _told(pipes):
                if index is None:
                    wrong, of_system = text, bool(share)
                else:
                    # A name comes first, then how far it is.
                    done[index], doing[index] = share, text.partition("  ")[0]
                    report(sum(done), text)
            if wrong:
                for process in processes:
                    process.terminate()
            if not alive:
                break
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            interrupted = True
            # The terminal tells every process, others only this one; being told twice does no harm.
            for process in processes:
                process.terminate()
    if interrupted:
        raise KeyboardInterrupt
    if wrong:
        raise OSError(wrong) if of_system else ValueError(wrong)
    if any(process.exitcode == 128 + signal.SIGINT for process in processes):
        raise KeyboardInterrupt
    for worker, process in enumerate(processes):
        if process.exitcode is not None and process.exitcode < 0:
            own = range(worker, len(groups), workers)
            at = next((index for index in own if done[index] < 1), own[-1])
            raise ChildProcessError(
                f"the process that was at {doing[at]} was killed by "
                f"{signal.Signals(-process.exitcode).name}, as happens when memory runs out; "
                f"{sum(share >= 1 for share in done)} of {len(groups)} groups are done, they and "
                "all that was saved of the others are kept, and the same command goes on."
            )
    if any(process.exitcode for process in processes):
        codes = ", ".join(str(process.exitcode) for process in processes)
        raise RuntimeError(f"a training process failed (exit codes {codes}); see above for why.")
    _put_together(folder, paths)


def _told(pipes: list[Connection]) -> Iterator[Any]:
    """Messages that are there; pipes that have ended are taken out."""
    for pipe in list(pipes):
        try:
            while pipe.poll():
                yield pipe.recv()
        except (EOFError, OSError):  # also half a message, of a process that was killed
            pipes.remove(pipe)


def _words(error: ValueError | OSError) -> str:
    """An error as a sentence without its number."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'a file'}: {(error.strerror or 'unknown error').lower()}"
    return str(error)


def _put_together(folder: RunFolder, paths: Sequence[Path]) -> None:
    """Write everything the parts hold into the run, group by group, and remove them."""
    for path in paths:
        copy_cells(folder, load(path))
    folder.finish()
    shutil.rmtree(folder.path / PARTS)
