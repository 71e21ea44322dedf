"""Ctrl-C as a request to stop after the current step, instead of in the middle of it."""

import signal
import threading
from types import FrameType

import torch

from ntkscale.training.distributed import ranks, sum_over_ranks


class Interruption:
    """Context in which the first SIGINT is remembered; the second interrupts as usual.

    Outside the main thread, where Python delivers no signals, it only ever says no.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: object = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)  # pyright: ignore[reportArgumentType]
            self._before = None

    def anywhere(self, device: torch.device) -> bool:
        """Whether any process was interrupted; every process must ask at the same step."""
        if ranks() == 1:
            return self.requested
        flag = torch.tensor(float(self.requested), device=device)
        sum_over_ranks([flag])
        return bool(flag > 0)

    def _remember(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
