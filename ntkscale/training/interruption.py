"""Signals that ask for an end: after the current step, with all that is done on disk."""

import signal
import threading
from types import FrameType

import torch

from ntkscale.training.distributed import ranks, sum_over_ranks

Handler = object
"""What `signal.signal` takes and returns."""


class StopSignals:
    """Context in which SIGTERM and SIGUSR1 interrupt as Ctrl-C does, by a KeyboardInterrupt.

    A batch system sends them at the end of a job, or some time before. They often come more than
    once, so that only the first one raises; every Ctrl-C does. Signals that somebody else handles
    are left alone, and so are all outside the main thread, where Python delivers none.

    Attributes:
        by: the last signal that came, remembered by an `Interruption` or raised; None: none did.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self._raised = False
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            usual = {
                signal.SIGINT: signal.default_int_handler,
                signal.SIGTERM: signal.SIG_DFL,
                signal.SIGUSR1: signal.SIG_DFL,
            }
            for number, handler in usual.items():
                if signal.getsignal(number) is handler:
                    self._before[number] = signal.signal(number, self)
        return self

    def __exit__(self, *_: object) -> None:
        _put_back(self._before)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """What the system calls."""
        self.by = signal.Signals(number)
        if self.by == signal.SIGINT or not self._raised:
            self._raised = True
            raise KeyboardInterrupt


class Interruption:
    """Context in which a signal that asks for an end is remembered, for the end of the step.

    That is SIGINT, of which the second interrupts as usual, and what `StopSignals` listens to, of
    which more change nothing. One that came too late for the training before it counts as well.
    Outside the main thread, where Python delivers no signals, it only ever says no.
    """

    def __init__(self) -> None:
        self.requested = False
        self._outer: StopSignals | None = None
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                there = signal.getsignal(number)
                if isinstance(there, StopSignals):
                    self._outer = there
                    self.requested = self.requested or there.by is not None
                if number == signal.SIGINT or isinstance(there, StopSignals):
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        _put_back(self._before)

    def anywhere(self, device: torch.device) -> bool:
        """Whether any process was interrupted; every process must ask at the same step."""
        if ranks() == 1:
            return self.requested
        flag = torch.tensor(float(self.requested), device=device)
        sum_over_ranks([flag])
        return bool(flag > 0)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._outer is not None:
            self._outer.by = signal.Signals(number)
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def _put_back(handlers: dict[signal.Signals, Handler]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # one that was not set from Python cannot be
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
    handlers.clear()
