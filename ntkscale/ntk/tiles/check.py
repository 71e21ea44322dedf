"""Whether the bytes on disk are still those that were computed."""

import os
from pathlib import Path

from ntkscale.ntk.tiles.disk import header, region_digest
from ntkscale.ntk.tiles.job import Job, Region
from ntkscale.ntk.tiles.manifest import Sums, read_manifest
from ntkscale.ntk.tiles.store import Store


def intact(path: Path, job: Job, claimed: Sums) -> Sums:
    """The blocks of a file that are as it is said of them, in the same order.

    Raises:
        OSError: the file cannot be read.
    """
    if not claimed:
        return {}
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return {
            block: sums
            for block, sums in claimed.items()
            if all(
                region_digest(descriptor, job, job.region(place)) == checksum
                for place, checksum in zip(job.places(block), sums, strict=True)
            )
        }
    finally:
        os.close(descriptor)


def verify(path: str | Path) -> list[Region]:
    """The blocks of a finished kernel file whose bytes are no longer those that were computed.

    Args:
        path: of the `.npy` file; its manifest lies beside it.

    Returns:
        Rows and columns of every damaged block, so that `kernel[region]` is its content; an empty
        list if the file is as it was written.

    Cost: one read and SHA-256 of the file, 1.2 GB/s on a free core. Memory: a few MiB.

    Raises:
        FileNotFoundError: there is no such file, or no manifest beside it.
        ValueError: the manifest is damaged, or belongs to a kernel of another shape or dtype.
    """
    store = Store(Path(path))
    if not store.manifest.exists():
        raise FileNotFoundError(
            f"{store.path} has no manifest {store.manifest.name} beside it, so it cannot be "
            "checked; restore the manifest, or compute the kernel again."
        )
    job, grid = read_manifest(store.manifest)
    descriptor = os.open(store.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        expected = header(job)
        if os.pread(descriptor, len(expected), 0) != expected:
            raise ValueError(
                f"{store.path} does not begin like the kernel its manifest describes, of shape "
                f"{job.shape}; restore the file, or compute the kernel again."
            )
        return [
            job.region(place)
            for place, checksum in grid.items()
            if region_digest(descriptor, job, job.region(place)) != checksum
        ]
    finally:
        os.close(descriptor)
