"""From memory to disk, one block behind the one that is being computed.

**What a kill costs.** A block gets its line in the journal right after its bytes went to the
system, which keeps them when the process dies. So the block being computed and the one being
written are lost, and no more.

**What a power cut costs.** Every `SYNC` seconds the data are brought to disk, and then the journal.
In between a line may reach the disk before its bytes. That does no harm, because no line is
believed: whoever goes on reads every block back and compares checksums, and one whose bytes never
arrived is computed again like one that was damaged. The manifest, which says that a kernel is
complete, is written after all bytes are on disk.
"""

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from torch import Tensor

from ntkscale.ntk.tiles.disk import digest, open_own, write_region
from ntkscale.ntk.tiles.job import Block, Job
from ntkscale.ntk.tiles.manifest import Journal, Sums
from ntkscale.ntk.tiles.store import Store

SYNC = 10.0
"""Seconds of work a power cut may cost."""


class Writer:
    """Writes the blocks of one rank, in a thread of its own, while the next one is computed.

    Files are closed in that thread too, so never under its hands, however often one presses Ctrl-C.

    Attributes:
        sums: checksums of the blocks written so far.

    Raises:
        OSError: the partial file or the journal cannot be opened.
    """

    def __init__(self, store: Store, job: Job, rank: int) -> None:
        self.sums: Sums = {}
        self._job = job
        self._data = open_own(store.partial, os.O_RDWR)
        self._journal = Journal(store.journal(rank), job)
        self._hand = ThreadPoolExecutor(1, "ntkscale-tiles")
        self._pending: Future[None] | None = None
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._hand.submit(self._close)
        self._hand.shutdown(wait=True)

    def put(self, at: Block, block: Tensor) -> None:
        """Write a block, after waiting for the last one.

        Args:
            at: its place in the grid.
            block: the content, (rows, columns, ...), on the CPU in the file's dtype.

        Raises:
            OSError: the last one could not be written.
        """
        self._wait()
        self._pending = self._hand.submit(self._write, at, block)

    def flush(self) -> None:
        """Wait until all blocks are on disk.

        Raises:
            OSError: one of them could not be written.
        """
        self._wait()
        self._hand.submit(self._sync).result()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def _write(self, at: Block, block: Tensor) -> None:
        sums: list[str] = []
        for target in self._job.places(at):
            if target != at:
                # K_cd(x, x') = K_dc(x', x).
                block = block.permute(1, 0, *reversed(range(2, block.ndim)))
            content = block.contiguous().numpy()
            write_region(self._data, self._job, self._job.region(target), content)
            sums.append(digest(content))
        self._journal.append(at, tuple(sums))
        self.sums[at] = tuple(sums)
        if time.monotonic() - self._synced > SYNC:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._data)
        self._journal.sync()
        self._synced = time.monotonic()

    def _close(self) -> None:
        os.close(self._data)
        self._journal.close()
