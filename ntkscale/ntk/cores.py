"""Independent pieces of one piece of work, a core for each.

Torch shares every single operation between all cores, and in small ones, such as the tiles of a
kernel, they wait for each other at each. Here each core has pieces of its own.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

MOST = 8
"""Pieces worked on at once, each with memory of its own; more cores share the operations again."""

Piece = TypeVar("Piece")


def at_once(device: torch.device) -> int:
    """How many pieces are worked on at once."""
    return min(torch.get_num_threads(), MOST) if device.type == "cpu" else 1


def over_cores(
    pieces: Sequence[Piece], work: Callable[[Iterator[Piece]], object], device: torch.device
) -> None:
    """Call `work` on every core with an iterator; each piece is handed out once, in order.

    The pieces must not write to the same memory. Torch's number of threads is what it was
    afterwards. What one core raises ends the others at their next piece, and is raised here.

    Args:
        pieces: all of them, the long ones first.
        work: runs what its iterator gives, with memory that it makes for itself.
        device: of the tensors; anything but a processor is given all pieces by this thread.
    """
    cores, team = torch.get_num_threads(), min(at_once(device), len(pieces))
    if team <= 1:
        work(iter(pieces))
        return
    waiting, one_by_one, stop = iter(pieces), threading.Lock(), threading.Event()
    failures: list[BaseException] = []

    def handed_out() -> Iterator[Piece]:
        while not stop.is_set():
            with one_by_one:
                piece = next(waiting, stop)
            if isinstance(piece, threading.Event):
                return
            yield piece

    def run() -> None:
        try:
            torch.set_num_threads(cores // team)
            work(handed_out())
        except BaseException as error:  # raised again in the thread that asked
            failures.append(error)
            stop.set()

    helpers = [threading.Thread(target=run, daemon=True) for _ in range(team - 1)]
    try:
        for helper in helpers:
            helper.start()
        run()
    except BaseException:
        stop.set()
        raise
    finally:
        try:
            for helper in helpers:
                if helper.ident is not None:
                    helper.join()
        finally:  # also where Ctrl-C comes while they are waited for
            torch.set_num_threads(cores)
    if failures:
        raise failures[0]
