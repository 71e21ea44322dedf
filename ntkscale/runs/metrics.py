"""`metrics.jsonl`: one strict JSON object a line, appended as training goes."""

import errno
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import MOST_BYTES, finite, parse, reason
from ntkscale.schema import QUANTITIES

_SPARSE, _CELLS = 50, 1 << 20
"""A table may have so many cells for each entry of its rows, and so many in any case."""

_TYPES = {pl.Int64: {int}, pl.Float64: {int, float}, pl.String: {str}, pl.Boolean: {bool}}


class JsonLines:
    """A file of JSON lines, open for appending.

    Lines reach the system at once, so another process can read them, and a killed one leaves at
    most its last line half written; `sync` brings them safely to disk.

    Args:
        path: the file; created when missing.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._hash: Any = None  # of the lines, once somebody has asked for it

    def append(self, row: dict[str, Any]) -> None:
        """Write one line; numbers that are not finite become null.

        Raises:
            ValueError: an entry that JSON cannot hold.
            OSError: the disk is full; no part of the line stays.
        """
        text = json.dumps(finite(row, f"row for {self.path.name}"), allow_nan=False)
        line = f"{text}\n".encode()
        length, rest = self.length, memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(length)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        if self._hash is not None:
            self._hash.update(line)

    @property
    def length(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def sha256(self) -> str:
        """Checksum of the file, as long as nobody else writes into it."""
        if self._hash is None:
            with self.path.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        os.fsync(self._file.fileno())

    def truncate(self, length: int) -> None:
        """Cut the file back to `length` bytes, safely on disk."""
        if length < self.length:
            self._hash = None
            self._file.truncate(length)
            self.sync()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._file.close()


def parse_lines(path: Path, limit: int | None = None, checksum: str = "") -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; a last line without its end is left out.

    Args:
        path: the file.
        limit: look at so many bytes only.
        checksum: their SHA-256, where it is known.

    Raises:
        RunFolderError: the file is missing, shorter than `limit`, or a line is damaged.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "it is no file")
        with path.open("rb") as file:
            if limit is not None and not _reaches(file, limit):
                raise RunFolderError(
                    f"{path} does not reach to the last checkpoint; restore it from a copy, or "
                    "start the run anew in another folder."
                )
            rows, found = _parsed(file, limit, path)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({reason(error)}); restore it from a copy, or start the run "
            "anew in another folder."
        ) from error
    if checksum and found != checksum:
        raise RunFolderError(
            f"{path} was changed since it was written (its checksum differs from the last "
            "checkpoint's); restore it from a copy, or start the run anew in another folder."
        )
    return rows


def _reaches(file: BinaryIO, limit: int) -> bool:
    """Whether a whole line ends after so many bytes; goes back to the beginning of the file."""
    if limit > os.fstat(file.fileno()).st_size:
        return False
    file.seek(max(limit - 1, 0))
    ends = limit == 0 or file.read(1) == b"\n"
    file.seek(0)
    return ends


def _parsed(file: BinaryIO, limit: int | None, path: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows and SHA-256 of the whole lines."""
    rows: list[dict[str, Any]] = []
    found, read = hashlib.sha256(), 0
    while limit is None or read < limit:
        line = file.readline(MOST_BYTES + 1)
        if not line.endswith(b"\n") and len(line) <= MOST_BYTES:
            break
        try:
            row = parse(line) if len(line) <= MOST_BYTES else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise RunFolderError(
                f"{path}, line {len(rows) + 1} is damaged; restore the file from a copy, or start "
                "the run anew in another folder."
            )
        found.update(line)
        read += len(line)
        rows.append(row)
    return rows, found.hexdigest()


def whole_lines(path: Path) -> int:
    """Length in bytes of the file's complete lines; 0 without a file.

    Raises:
        RunFolderError: its last line has no end within `MOST_BYTES`, so it is none.
    """
    if not path.exists():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(size - MOST_BYTES, 0))
        found = file.read().rfind(b"\n")
    if found < 0 and start:
        raise RunFolderError(
            f"{path} is damaged: its last line does not end; restore it from a copy, or remove it."
        )
    return start + found + 1


def frame(rows: list[dict[str, Any]], path: Path) -> pl.DataFrame:
    """One column a name, null where a row lacks it or was not finite.

    Columns come as they first appear. Recorded quantities are Float64 (`step`: Int64) or
    List(Float64) as `ntkscale.schema` says; other columns are Int64, Float64 (where any entry is
    not whole), String, Boolean or List(Float64).

    Args:
        rows: of `metrics.jsonl`.
        path: where they are from, for the error.

    Raises:
        RunFolderError: a column holds entries of different kinds, or rows have so few columns in
            common that the table would be far larger than the file.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) * len(rows) > _CELLS + _SPARSE * sum(map(len, rows)):
        raise RunFolderError(
            f"{path} has {len(names):,} columns, almost all of them empty; restore the file from a "
            "copy, or start the run anew in another folder."
        )
    columns: dict[str, pl.Series] = {}  # no list: a column without a name would be given one
    for name in names:
        values = [row.get(name) for row in rows]
        kind = _kind(name, values)
        try:
            columns[name] = pl.Series(name, _fitted(values, kind), dtype=kind)
        except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
            raise RunFolderError(
                f"{path}: the column {name[:80]!r} mixes entries of different kinds; restore the "
                "file from a copy, or start the run anew in another folder."
            ) from error
    return pl.DataFrame(columns)


def _fitted(values: Any, kind: Any) -> Any:
    """The values, all of the column's kind; whole numbers become floats where it holds floats."""
    if isinstance(kind, pl.List):
        return [None if entry is None else _fitted(entry, kind.inner) for entry in values]
    if not isinstance(values, list) or not {*map(type, values)} <= {*_TYPES[kind], type(None)}:
        raise TypeError("another kind")
    if kind != pl.Float64:
        return values
    return [None if value is None else float(value) for value in values]


def _kind(name: str, values: list[Any]) -> Any:
    if name == "step":
        return pl.Int64
    if name in QUANTITIES:
        return pl.Float64 if QUANTITIES[name].shape == "scalar" else pl.List(pl.Float64)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and kinds:
        return pl.Int64
    if kinds <= {int, float}:
        return pl.Float64
    if kinds == {list}:
        return pl.List(pl.Float64)
    return pl.Boolean if kinds == {bool} else pl.String
