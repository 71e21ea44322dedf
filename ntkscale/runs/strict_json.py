"""JSON as the standard has it: no NaN, floats that read back to the same bits, a version inside."""

import json
import math
from pathlib import Path
from typing import Any

from ntkscale.runs.atomic import write_text
from ntkscale.runs.errors import RunFolderError

VERSION = 1
"""Of every JSON file of a run folder."""

MOST_BYTES = 1 << 27
"""Of a JSON file, or of one line of JSON lines, that is read: more than 100,000 kernels need."""

MOST_DEPTH = 64
"""Of lists and objects within each other."""

# What could be out of bounds: half a surrogate pair, an exponent of three digits, a long number;
# with all digits 0 (a regular expression takes longer than reading the JSON does).
_DIGITS = bytes.maketrans(b"123456789EUD", b"000000000eud")
_SUSPECT = (rb"\ud", b"e000", b"e+000", b"0" * 19)


def finite(value: Any, where: str) -> Any:
    """The value as JSON can hold it: numbers that are not finite become null, tuples lists.

    Floats are written with their shortest exact decimal form, so finite ones keep their bits.

    Args:
        value: None, a bool, int, float or str, or lists and dicts (with str keys) of these.
        where: what the value is, for the error.

    Raises:
        ValueError: something else is in it, e.g. a tensor.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [finite(entry, where) for entry in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, but JSON keys are text; use str.")
        return {key: finite(entry, f"{where}: {key}") for key, entry in value.items()}
    raise ValueError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; "
        "give numbers, text or lists (tensors: .item() or .tolist())."
    )


def write_json(path: Path, content: dict[str, Any], *, sort_keys: bool = False) -> None:
    """Write `content` with its version, readable by people, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    versioned = {"version": VERSION, **content}
    text = json.dumps(versioned, indent=2, sort_keys=sort_keys, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path, *, of: str = "run") -> dict[str, Any]:
    """What `write_json` wrote, without the version.

    Args:
        path: of the file.
        of: what the file belongs to, for the error.

    Raises:
        RunFolderError: the file is missing, damaged, or of a newer version.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device never ends
            raise ValueError("it is no file")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        content = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({reason(error)}); restore it from a copy, or start the {of} "
            "anew in another folder."
        ) from error
    version = content.pop("version", None) if isinstance(content, dict) else None
    if type(version) is not int:
        raise RunFolderError(
            f"{path} is not a file of a {of} (no version in it); restore it from a copy, or start "
            f"the {of} anew in another folder."
        )
    if version != VERSION:
        raise RunFolderError(
            f"{path} has version {version}, this ntkscale reads {VERSION}; read the {of} with the "
            "one it was written with."
        )
    return content


def parse(text: bytes) -> Any:
    """What a JSON text from anywhere says: whole numbers below 2^64, finite floats, Unicode text.

    Cost: that of `json.loads`; twice that where something in it could be out of bounds.

    Raises:
        ValueError: it is no UTF-8 or no JSON; it has an object with a key twice, NaN, a number out
            of range, half a surrogate pair, or more than `MOST_DEPTH` lists within each other.
    """
    try:
        content = json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    plain = text.translate(_DIGITS)
    deep = text.count(b"[") + text.count(b"{") > MOST_DEPTH
    if deep or any(suspect in plain for suspect in _SUSPECT):
        _require_bounds(content)
    return content


_TOO_DEEP = f"more than {MOST_DEPTH} lists are within each other"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _require_bounds(content: Any) -> None:
    """Refuse depth, numbers and text out of bounds, level by level."""
    level = [content]
    for _ in range(MOST_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                if not value.isascii():
                    value.encode("utf-8")
            elif isinstance(value, float):
                if not math.isfinite(value):
                    raise ValueError("a number is out of range")
            elif isinstance(value, int) and not -(1 << 64) < value < 1 << 64:
                raise ValueError("a number is out of range")
        if not below:
            return
        level = below
    raise ValueError(_TOO_DEEP)


def reason(error: Exception) -> str:
    """What went wrong, short enough for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, UnicodeError):
        return "it is not text"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    # It may quote the file: nothing of that may steer a terminal.
    return said if said.isprintable() else ascii(said)[1:-1]
