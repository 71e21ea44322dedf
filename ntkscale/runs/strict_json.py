"""JSON as the standard has it: no NaN, floats that read back to the same bits, a version inside."""

import json
import math
from pathlib import Path
from typing import Any

from ntkscale.runs.atomic import write_text
from ntkscale.runs.errors import RunFolderError

VERSION = 1
"""Of every JSON file of a run folder."""


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


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, without the version.

    Raises:
        RunFolderError: the file is missing, damaged, or of a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({reason(error)}); restore it from a copy, or start the run "
            "anew in another folder."
        ) from error
    version = content.pop("version", None) if isinstance(content, dict) else None
    if version is None:
        raise RunFolderError(
            f"{path} is not a file of a run (no version in it); restore it from a copy, or start "
            "the run anew in another folder."
        )
    if version != VERSION:
        raise RunFolderError(
            f"{path} has version {version}, this ntkscale reads {VERSION}; use the one it was "
            "written with."
        )
    return content


def reason(error: Exception) -> str:
    """What went wrong, short enough for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno} is not JSON"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
