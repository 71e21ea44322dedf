"""Computing a kernel into a file block by block, on one rank or several, in one go or many."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ntkscale.ntk.tiles.check import intact
from ntkscale.ntk.tiles.disk import header
from ntkscale.ntk.tiles.job import Block, Job, Region, deal
from ntkscale.ntk.tiles.lock import alone
from ntkscale.ntk.tiles.manifest import Sums
from ntkscale.ntk.tiles.ranks import joined
from ntkscale.ntk.tiles.store import Found, Store
from ntkscale.ntk.tiles.writer import Writer

_log = logging.getLogger(__name__)


def stream(
    path: str | Path,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    block: int,
    symmetric: bool,
    fingerprint: str,
    compute: Callable[[slice, slice], Tensor],
    progress: Callable[[int, int], object] | None = None,
) -> np.memmap:
    """Compute a kernel block by block into a `.npy` file; what is there already is not computed.

    A job that was killed, interrupted or cut off goes on when it is called again: blocks that are
    done are read back and checked, and the file ends with the bits of one that was never
    interrupted. A complete file with an equal fingerprint is checked and returned (damaged blocks
    are logged as a warning and computed again); with another fingerprint, or none, it is replaced
    when the new kernel is complete.

    Under `torchrun`, or with a process group, every rank must call it, and each computes a run of
    the blocks into the one file, which all must reach by that path. The bits do not depend on the
    number of ranks, which may change when a job goes on. When one dies the others stop, and say so.

    Args:
        path: of the file, ending in `.npy`; folders above it are created. Beside it lie
            `.npy.manifest.json` and, until the end, `.npy.partial`, `.npy.partial.*.jsonl` and
            `.npy.lock`.
        shape: of the kernel, (n1, n2), (n1, n2, C) or (n1, n2, C, C).
        dtype: float32 or float64.
        block: rows and columns of a block. The job that goes on needs the same.
        symmetric: K_cd(x, x') = K_dc(x', x): the blocks above the diagonal are the mirrors of those
            below. Blocks on the diagonal are written as they come.
        fingerprint: equal exactly for equal kernels, see `fingerprint`.
        compute: gives rows and columns of the kernel, (rows, columns, ...), on any device and in
            any floating dtype. It must depend on nothing but its arguments, and must leave a tensor
            alone that it has returned: that is written while the next one is computed. Called in
            the serpentine order of `Job.walk`.
        progress: called on rank 0 with the pairs of samples done and their total, n1 n2, first with
            those that were there; what other ranks have done is estimated from what this one has.

    Returns:
        The complete file as a memory map (mode "r+"), on all ranks.

    Cost: beside `compute`, one SHA-256 and one write of each byte, and one read and SHA-256 of what
    is there already. Memory: four blocks; none of the rest of the file.

    Raises:
        ValueError: a shape, dtype or block that cannot be; ranks with different kernels; another
            kernel half written under this name.
        BlockingIOError: another process is at work on this path.
        OSError: there is no room for the whole file, found out before anything is computed; the
            file cannot be written.
        RuntimeError: another rank has stopped.
        SystemExit: `torchrun` ended this rank, because another one stopped.
    """
    path = Path(path)
    if path.suffix != ".npy" or path.is_dir():
        raise ValueError(f"the kernel's path is {str(path)!r}; give the path of a .npy file.")
    job = Job(tuple(int(n) for n in shape), np.dtype(dtype), int(block), symmetric, fingerprint)
    store = Store(path)
    with ExitStack() as stack:
        ranks = stack.enter_context(joined())
        for rank, given in enumerate(ranks.exchange((job, str(path)))):
            if given != (job, str(path)):
                raise ValueError(
                    f"ranks {ranks.rank} and {rank} were given different kernels or paths; start "
                    "all with the same model, seed and inputs."
                )

        def look() -> Found:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(store.lock, path))
            return store.look(job)

        found = ranks.first(look)
        job, blocks = found.job, found.job.walk()
        share = dict(list(found.sums.items())[ranks.rank :: ranks.count])
        sums: Sums = {}
        for checked in ranks.exchange(intact(store.data(found), job, share)):
            sums |= checked
        rest = [at for at in blocks if at not in sums]
        mine = deal(job, rest, ranks.count)[ranks.rank]
        tell = _scaled(job, blocks, rest, mine, progress if ranks.rank == 0 else None)
        tell(None)
        if found.complete and not rest:
            ranks.first(store.tidy)
            return _opened(path, job)
        if ranks.rank == 0 and found.sums:
            _report(path, len(sums), len(found.sums), len(blocks))
        ranks.first(lambda: store.begin(found, sums))
        writer = stack.enter_context(Writer(store, job, ranks.rank))
        ranks.watched = [store.journal(rank) for rank in range(ranks.count)]
        for at in mine:
            rows, columns = job.region(at)
            writer.put(at, _on_cpu(compute(rows, columns), job, (rows, columns)))
            tell(at)
        writer.flush()
        for written in ranks.exchange(writer.sums):
            sums |= written
        ranks.first(lambda: store.finish(job, sums))
        return _opened(path, job)


def _on_cpu(block: Tensor, job: Job, region: Region) -> Tensor:
    sides = [part.stop - part.start for part in region]
    if tuple(block.shape) != (*sides, *job.shape[2:]):
        raise ValueError(
            f"a block of shape {(*sides, *job.shape[2:])} was asked for, and compute= gave "
            f"{tuple(block.shape)}."
        )
    dtype = torch.float64 if job.dtype.itemsize == 8 else torch.float32
    return block.detach().to("cpu", dtype)


def _report(path: Path, intact: int, claimed: int, total: int) -> None:
    if intact < claimed:
        _log.warning(
            "%s: %d of %d finished blocks do not match their checksums and are computed again.",
            path,
            claimed - intact,
            claimed,
        )
    _log.info("%s goes on: %d of %d blocks are there.", path, intact, total)


def _scaled(
    job: Job,
    blocks: list[Block],
    rest: list[Block],
    mine: list[Block],
    progress: Callable[[int, int], object] | None,
) -> Callable[[Block | None], None]:
    """Reports each block of this rank as this rank's part of what all of them do."""
    total, missing, share = (sum(map(job.entries, part)) for part in (blocks, rest, mine))
    done = 0

    def tell(at: Block | None) -> None:
        nonlocal done
        done += job.entries(at) if at is not None else 0
        if progress is not None:
            progress(total - missing + missing * done // max(share, 1), total)

    return tell


def _opened(path: Path, job: Job) -> np.memmap:
    return np.memmap(path, job.dtype, "r+", offset=len(header(job)), shape=job.shape)
