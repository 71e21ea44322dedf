"""One run after the other, each spread over processes by `torchrun`."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from ntkscale.faces.command_line import INTERRUPTED
from ntkscale.faces.sweep.folder import busy
from ntkscale.faces.sweep.local import Work
from ntkscale.faces.sweep.point import Train, run_point
from ntkscale.runs.lock import LOCK

SPREADING = ("circle", "images")
"""The experiments whose batches several processes share."""

_STEP_SECONDS = 15  # for the step and the checkpoint of those that were asked to end
_KILL_SECONDS = 5  # between SIGTERM and SIGKILL


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
        The exit code of the first process that failed; 0: none did; 130: all were ended.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    ending = _Ending(run)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, ending)
    # Unless told otherwise torchrun takes these signals for itself: each interrupts whatever it
    # does, also the wait for its processes, which then go on alone.
    own = ["--signals-to-handle=SIGHUP", f"--shutdown-timeout={_KILL_SECONDS}"]
    try:
        torchrun(["--standalone", *own, f"--nproc-per-node={processes}", "-m", module, *words])
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.alarm(0)
    return 0


class _Ending:
    """Handler of the signals that end a run, in the process of torchrun.

    The first goes to the process that records, which tells the others at the end of a step. A
    second Ctrl-C, or a while without an end, makes torchrun end its processes: by SIGTERM, and
    soon after by SIGKILL. From then on nothing disturbs it.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._told = self._over = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """What the system calls.

        Raises:
            KeyboardInterrupt: torchrun is to end its processes now.
        """
        if self._over or (self._told and number == signal.SIGTERM):  # batch systems repeat it
            return
        if not self._told and busy(self._run):
            self._told = True
            os.kill(int((self._run / LOCK).read_text()), signal.SIGINT)
            signal.alarm(_STEP_SECONDS)
        else:  # or nobody records: nothing is lost
            self._over = True
            raise KeyboardInterrupt
