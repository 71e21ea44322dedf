"""The bytes of a kernel on disk: where a block lies, writing it, reading it back.

Files are written by `pwrite` and never through a memory map, whose changed pages would count as
memory of the process until the system finds time to write them.
"""

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from ntkscale.ntk.tiles.job import Job, Region

CHUNK = 4 << 20
"""Bytes read at a time, whatever the size of a block."""


def header(job: Job) -> bytes:
    """The first bytes of the `.npy` file (format 1.0), a multiple of 64.

    Written here and not by numpy, whose padding has changed between releases: a file begun under
    one goes on under another.
    """
    text = repr({"descr": job.dtype.str, "fortran_order": False, "shape": job.shape})
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")


def file_bytes(job: Job) -> int:
    """Size of the whole file."""
    return len(header(job)) + prod(job.shape) * job.dtype.itemsize


def reserve(descriptor: int, job: Job, path: Path) -> None:
    """Write the header and give the file its full size, with room on disk for all of it.

    Raises:
        OSError: there is no such room; nothing was computed in vain.
    """
    size = file_bytes(job)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        os.ftruncate(descriptor, size)
        _write(descriptor, memoryview(header(job)), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        reason = (error.strerror or str(error)).lower()
        raise OSError(
            f"{path} takes {size:,} bytes, for which there is no room ({reason}); make room or "
            "choose another path."
        ) from error


def digest(content: np.ndarray) -> str:
    """Checksum (SHA-256, hexadecimal) of an array's bytes.

    1.8 GB/s on one core where the processor has instructions for it; blake2b does half of that.
    """
    return hashlib.sha256(content.data.cast("B")).hexdigest()


def write_region(descriptor: int, job: Job, region: Region, content: np.ndarray) -> None:
    """Put a C-contiguous array where it belongs in the file.

    Raises:
        OSError: the file cannot be written.
    """
    view = content.data.cast("B")
    done = 0
    for offset, length in _runs(job, region):
        _write(descriptor, view[done : done + length], offset)
        done += length


def region_digest(descriptor: int, job: Job, region: Region) -> str | None:
    """Checksum of what the file holds there; None if it ends before. Memory: `CHUNK`."""
    found = hashlib.sha256()
    for start, length in _runs(job, region):
        offset, end = start, start + length
        while offset < end:
            chunk = os.pread(descriptor, min(end - offset, CHUNK), offset)
            if not chunk:
                return None
            found.update(chunk)
            offset += len(chunk)
    return found.hexdigest()


def open_own(path: Path, flags: int) -> int:
    """Open a file of a job to write into it; the descriptor.

    Raises:
        OSError: it cannot be opened, or is a link, which would lead elsewhere what is written.
    """
    try:
        # A pipe that nobody reads is refused, not waited for.
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(f"{path} is a link; delete it or choose another path.") from error


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that its name stands for the old content or all of the new.

    For whoever holds the job's lock: the temporary name is fixed, so a kill leaves one at most.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Bring the names in the file's folder safely to disk."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _runs(job: Job, region: Region) -> Iterator[tuple[int, int]]:
    """Offset and length in bytes of each stretch of the file that a region covers, in order."""
    rows, columns = region
    entry = job.dtype.itemsize * prod(job.shape[2:])
    line, width = job.shape[1] * entry, (columns.stop - columns.start) * entry
    start = len(header(job)) + rows.start * line + columns.start * entry
    count = rows.stop - rows.start
    if width == line:
        yield start, count * width
    else:
        for k in range(count):
            yield start + k * line, width


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
