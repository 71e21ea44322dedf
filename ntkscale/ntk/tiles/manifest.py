"""What is known to be done: a journal while a kernel is written, a manifest once it is complete.

A journal is JSON lines: the job, then one line for each block. A manifest is one JSON object with
the job and the checksums of the whole grid. Both may come from anywhere, so every number in them is
checked against the job before it is used, and neither holds a path.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from ntkscale.ntk.tiles.disk import open_own, replace_text
from ntkscale.ntk.tiles.job import DTYPES, Block, Job
from ntkscale.ntk.tiles.lock import hold

VERSION = 1
"""Of journals and manifests."""

MOST_BYTES = 1 << 27
"""Of a journal or manifest that is read: room for `job.MOST_BLOCKS` blocks."""

Sums = dict[Block, tuple[str, ...]]
"""Checksums of computed blocks: that of the block and, if it has one, that of its mirror."""

_CHECKSUM = re.compile("[0-9a-f]{64}")


class Journal:
    """The journal of one rank, open for appending and locked as long as the rank lives.

    A line reaches the system in one write, so a kill leaves at most the last one torn.

    Args:
        path: the file; it begins with the job, here if it is new.
        job: what is computed.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, job: Job) -> None:
        self._descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        hold(self._descriptor)
        if os.fstat(self._descriptor).st_size == 0:
            os.write(self._descriptor, _journal_text(job, {}).encode())

    def append(self, block: Block, sums: tuple[str, ...]) -> None:
        """Record a block whose bytes the system has."""
        os.write(self._descriptor, _line(block, sums).encode())

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        os.close(self._descriptor)


def write_journal(path: Path, job: Job, sums: Sums) -> None:
    """Replace a journal by one with these blocks, atomically."""
    replace_text(path, _journal_text(job, sums))


def read_journal(path: Path, job: Job) -> tuple[Job | None, Sums]:
    """The job a journal was begun for, and its blocks if that is `job`.

    A line that is torn, damaged or says what cannot be counts for nothing: its block is computed
    again. Without a whole first line there is no job.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        lines = file.read(MOST_BYTES).split(b"\n")[:-1]
    begun = _job(_parsed(lines[0])) if lines else None
    sums: Sums = {}
    if begun == job:
        blocks = frozenset(job.walk())
        for line in lines[1:]:
            entry = _parsed(line)
            found = entry.get("block"), entry.get("sha256")
            if not all(isinstance(part, list) for part in found):
                continue
            place, checksums = (tuple(part) for part in found if isinstance(part, list))
            if (
                all(type(k) is int for k in place)
                and place in blocks
                and len(checksums) == len(job.places(place))
                and all(_is_checksum(checksum) for checksum in checksums)
            ):
                sums[place] = checksums
    return begun, sums


def write_manifest(path: Path, job: Job, sums: Sums) -> None:
    """Record a complete kernel, atomically.

    Raises:
        KeyError: a block is missing in `sums`.
        OSError: the file cannot be written.
    """
    grid = {
        place: checksum
        for block in job.walk()
        for place, checksum in zip(job.places(block), sums[block], strict=True)
    }
    rows, columns = job.grid
    table = [[grid[i, j] for j in range(columns)] for i in range(rows)]
    replace_text(path, json.dumps({**_fields(job), "sha256": table}, indent=1) + "\n")


def read_manifest(path: Path) -> tuple[Job, dict[Block, str]]:
    """The job of a complete kernel, and the checksum of every block of its grid.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is not a manifest, or one of another version.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is not the manifest of a kernel; compute the kernel again.")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    entry = _parsed(content) if len(content) <= MOST_BYTES else {}
    version = entry.get("version")
    if type(version) is int and version != VERSION:
        raise ValueError(
            f"{path} has version {version}, this ntkscale reads {VERSION}; use the one it was "
            "written with."
        )
    job, table = _job(entry), entry.get("sha256")
    if job is None or not isinstance(table, list) or len(table) != job.grid[0]:
        raise ValueError(f"{path} is not the manifest of a kernel; compute the kernel again.")
    grid: dict[Block, str] = {}
    for i, row in enumerate(table):
        whole = isinstance(row, list) and len(row) == job.grid[1]
        if not whole or not all(_is_checksum(checksum) for checksum in row):
            raise ValueError(f"{path} is damaged in row {i}; compute the kernel again.")
        grid |= {(i, j): checksum for j, checksum in enumerate(row)}
    return job, grid


def by_block(job: Job, grid: dict[Block, str]) -> Sums:
    """Checksums of the whole grid in the order of a journal."""
    return {block: tuple(grid[place] for place in job.places(block)) for block in job.walk()}


def _fields(job: Job) -> dict[str, Any]:
    return {
        "version": VERSION,
        "shape": list(job.shape),
        "dtype": job.dtype.str,
        "block": job.block,
        "symmetric": job.symmetric,
        "fingerprint": job.fingerprint,
    }


def _job(entry: dict[str, Any]) -> Job | None:
    """The job that a first line or a manifest names, None if it names none."""
    shape, dtype = entry.get("shape"), entry.get("dtype")
    symmetric, name = entry.get("symmetric"), entry.get("fingerprint")
    if entry.get("version") != VERSION or not isinstance(shape, list) or dtype not in DTYPES:
        return None
    if not isinstance(symmetric, bool) or not isinstance(name, str):
        return None
    try:
        return Job(tuple(shape), np.dtype(dtype), entry.get("block", 0), symmetric, name)
    except ValueError:
        return None


def _parsed(text: bytes) -> dict[str, Any]:
    """The JSON object in a text, {} if there is none."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_checksum(value: object) -> bool:
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def _line(block: Block, sums: tuple[str, ...]) -> str:
    return json.dumps({"block": block, "sha256": sums}) + "\n"


def _journal_text(job: Job, sums: Sums) -> str:
    return json.dumps(_fields(job)) + "\n" + "".join(_line(*entry) for entry in sums.items())
