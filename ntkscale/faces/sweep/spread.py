"""One run after the other, each spread over processes by `torchrun`."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from ntkscale.faces.sweep.folder import busy
from ntkscale.faces.sweep.local import Work
from ntkscale.faces.sweep.point import Train, run_point
from ntkscale.runs.lock import LOCK

SPREADING = ("circle", "images")
"""The experiments whose batches several processes share."""


def refuse_alone(experiment: str) -> None:
    """Refuse an experiment that runs in one process.

    Raises:
        ValueError: it does.
    """
    if experiment not in SPREADING:
        raise ValueError(f"{experiment} does not spread over torchrun's processes: start it alone.")


def spread_over(processes: int) -> Work:
    """Work that does each run by that many processes."""
    return partial(_spread_point, processes)


def _spread_point(processes: int, train: Train, words: Sequence[str], run: Path) -> int:
    return run_point(partial(_torchrun, processes, train.__module__, run), words, run)


def _torchrun(processes: int, module: str, run: Path, words: Sequence[str]) -> int:
    """`torchrun --standalone --nproc-per-node N -m MODULE WORDS` within this process.

    Returns:
        The exit code of the first process that failed; 0: none did.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # Ctrl-C is for the process that records: it tells the others at the end of a step.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"
    signal.signal(signal.SIGINT, partial(_pass_on, run))
    try:
        torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", module, *words])
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    return 0


def _pass_on(run: Path, _signal: int, _frame: FrameType | None) -> None:
    if not busy(run):  # nobody records yet: torchrun ends its processes
        raise KeyboardInterrupt
    os.kill(int((run / LOCK).read_text()), signal.SIGINT)
