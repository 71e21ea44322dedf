"""`metrics.jsonl`: one strict JSON object a line, appended as training goes."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl

from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import finite, reason
from ntkscale.schema import QUANTITIES


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

    def append(self, row: dict[str, Any]) -> None:
        """Write one line; numbers that are not finite become null.

        Raises:
            ValueError: an entry that JSON cannot hold.
        """
        text = json.dumps(finite(row, f"row for {self.path.name}"), allow_nan=False)
        line = memoryview(f"{text}\n".encode())
        while line:
            line = line[self._file.write(line) :]

    @property
    def length(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        os.fsync(self._file.fileno())

    def truncate(self, length: int) -> None:
        """Cut the file back to `length` bytes, safely on disk."""
        if length < self.length:
            self._file.truncate(length)
            self.sync()

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._file.close()


def parse_lines(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; a last line without its end is left out.

    Args:
        path: the file.
        limit: look at so many bytes only.

    Raises:
        RunFolderError: the file is missing, shorter than `limit`, or a line is damaged.
    """
    try:
        with path.open("rb") as file:
            content = file.read() if limit is None else file.read(limit)
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({reason(error)}); restore it from a copy, or start the run "
            "anew in another folder."
        ) from error
    if limit is not None and (len(content) < limit or (limit and content[-1:] != b"\n")):
        raise RunFolderError(
            f"{path} does not reach to the last checkpoint; restore it from a copy, or start the "
            "run anew in another folder."
        )
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise RunFolderError(
                f"{path}, line {number} is damaged; restore the file from a copy, or start the run "
                "anew in another folder."
            )
        rows.append(row)
    return rows


def whole_lines(path: Path) -> int:
    """Length in bytes of the file's complete lines; 0 without a file."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def frame(rows: list[dict[str, Any]], path: Path) -> pl.DataFrame:
    """One column a name, null where a row lacks it or was not finite.

    Columns come as they first appear. Recorded quantities are Float64 (`step`: Int64) or
    List(Float64) as `ntkscale.schema` says; other columns are Int64, Float64 (where any entry is
    not whole), String, Boolean or List(Float64).

    Args:
        rows: of `metrics.jsonl`.
        path: where they are from, for the error.

    Raises:
        RunFolderError: a column holds entries of different kinds.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: list[pl.Series] = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = _kind(name, values)
        try:
            columns.append(pl.Series(name, _floats(values, kind), dtype=kind))
        except (TypeError, pl.exceptions.PolarsError) as error:
            raise RunFolderError(
                f"{path}: the column {name!r} mixes entries of different kinds; restore the file "
                "from a copy, or start the run anew in another folder."
            ) from error
    return pl.DataFrame(columns)


def _floats(values: Any, kind: Any) -> Any:
    """The values with whole numbers made floats where the column holds floats."""
    if isinstance(kind, pl.List) and values is not None:
        return [_floats(entry, kind.inner) for entry in values]
    if kind != pl.Float64 or values is None:
        return values
    for value in values:
        if isinstance(value, bool | str | dict | list):
            raise TypeError(f"{value!r} is no number")
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
