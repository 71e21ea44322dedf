"""The processes that compute one kernel together: those `torchrun` started, or one alone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch.distributed as dist

from ntkscale.ntk.tiles.lock import is_held

T = TypeVar("T")

PATIENCE = timedelta(days=365)
"""For another rank. A dead one is known by its closed connection, a slow one may take its time."""

POLL = 0.02
"""Seconds between looks at whether all ranks have arrived; signals are seen to in between."""

_GO_ON = "run the same command again to go on."

_calls = count()


@dataclass(frozen=True)
class _Failure:
    """An error of rank 0, on its way to the others."""

    error: Exception


class Ranks:
    """This process among those that compute one kernel.

    Attributes:
        rank: number of this process; 0 looks after the files.
        count: number of processes.
        watched: files that the ranks hold locked while they live, by rank; where set, they tell
            which one died.
    """

    def __init__(self, rank: int, count: int, group: dist.ProcessGroup | None) -> None:
        self.rank, self.count, self._group = rank, count, group
        self.watched: list[Path] = []

    def exchange(self, value: T) -> list[T]:
        """The values of all ranks, in order, once each of them has called this.

        Raises:
            RuntimeError: another rank has stopped.
        """
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.count
        try:
            # Waiting inside of gloo would keep signals from being handled.
            arrival = dist.barrier(group=self._group, async_op=True)
            while arrival is not None and not arrival.is_completed():
                time.sleep(POLL)
            if arrival is not None:
                arrival.wait()
            dist.all_gather_object(values, value, group=self._group)
        except RuntimeError:
            raise RuntimeError(self.loss("another rank")) from None
        return values

    def first(self, action: Callable[[], T]) -> T:
        """What `action` returns on rank 0, for all; an error it raises there is raised by all.

        Raises:
            RuntimeError: another rank has stopped.
        """
        outcome: Any = None
        if self.rank == 0:
            try:
                outcome = action()
            except Exception as error:
                self.exchange(_Failure(error))
                raise
        outcome = self.exchange(outcome)[0]
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def loss(self, unknown: str) -> str:
        """Which ranks have died (`unknown` if none is known to have), and what to do."""
        dead = [
            rank
            for rank, path in enumerate(self.watched)
            if rank != self.rank and not is_held(path)
        ]
        who = unknown
        if dead:
            who = f"rank{'s' * (len(dead) > 1)} {', '.join(map(str, dead))}"
        return f"{who} stopped before the kernel was complete; {_GO_ON}"


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this job: those of the process group, or of `torchrun` if there is no group yet.

    Every rank must get here. All that is set up for it is taken down again.

    Raises:
        RuntimeError: the other processes cannot be reached.
        SystemExit: `torchrun` ends this process, because another one died.
    """
    ours = (
        dist.is_available()
        and not dist.is_initialized()
        and int(os.environ.get("WORLD_SIZE", "1")) > 1
        and "RANK" in os.environ
    )
    if ours:
        # Not there where torch was built without them.
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, rank, world = next(rendezvous("env://"))
        # The store outlives the group and would send a second group to the first one's addresses.
        store = PrefixStore(f"ntkscale.tiles.{next(_calls)}", store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            yield Ranks(0, 1, None)
            return
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        assert isinstance(group, dist.ProcessGroup)
        try:
            ranks = Ranks(dist.get_rank(), dist.get_world_size(), group)
            with _ends_with_a_word(ranks):
                yield ranks
        finally:
            dist.destroy_process_group(group)
    finally:
        if ours:
            dist.destroy_process_group()


@contextmanager
def _ends_with_a_word(ranks: Ranks) -> Iterator[None]:
    """Say why, when `torchrun` ends this process (by SIGTERM) because another one died."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(ranks.loss("this job was"))

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
