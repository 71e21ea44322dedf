"""One run of a sweep, seen from the process that does it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from ntkscale.faces.command_line import BAD_INPUT
from ntkscale.faces.sweep.folder import busy, finished

Train = Callable[[Sequence[str]], int]
"""`train.py` itself: words in, exit code out."""

_WAIT_SECONDS = 0.2


def run_point(train: Train, words: Sequence[str], run: Path) -> int:
    """Do a run unless it is done, and unless another process does it: then wait for that one.

    So a run whose last process has not quite ended, or that was submitted twice, is done once.

    Returns:
        The exit code of `train.py`.
    """
    while True:
        while busy(run):
            time.sleep(_WAIT_SECONDS)
        if finished(run):
            return 0
        try:
            code = train(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        if code != BAD_INPUT:
            return code
        # Not bad input, perhaps, but a folder that another process took first.
        time.sleep(_WAIT_SECONDS)
        if not busy(run) and not finished(run):
            return code


def write_to(log: Path) -> None:
    """Send stdout and stderr of this process, and of all it starts, to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)


def detach(launcher: Connection, last: signal.Signals) -> None:
    """Leave the terminal to the launcher, and end when it ends, however that happens.

    Ctrl-C then reaches the launcher alone, which passes it on once.

    Args:
        launcher: the end of a pipe whose other end only the launcher holds.
        last: signal that ends this process.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        try:
            launcher.recv_bytes()
        except (EOFError, OSError):
            os.kill(os.getpid(), last)

    threading.Thread(target=watch, daemon=True).start()
