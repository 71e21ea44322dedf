"""Figure data on disk: `<stem>.json` beside `<stem>.png`, believed only where it fits the picture.

Strict JSON with the version and the digest of the picture inside. What is read back is checked
entry by entry: a run folder may come from anywhere.
"""

import json
import types
from dataclasses import MISSING, asdict, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ntkscale.reporting.figure_data import LONGEST_TEXT, FigureData
from ntkscale.runs import write_text

KIND, VERSION = "ntkscale figure", 1
_LARGEST = 64 * 2**20  # bytes


def write_figure_data(png: Path, data: FigureData | None) -> None:
    """Write the data beside their picture; None removes what an earlier figure left there.

    Raises:
        OSError: the file cannot be written.
    """
    path = png.with_suffix(".json")
    if data is None:
        if _is_ours(path):
            path.unlink()
        return
    head = {"kind": KIND, "version": VERSION, "png": sha256(png.read_bytes()).hexdigest()}
    content = json.dumps(head | asdict(data), allow_nan=False, separators=(",", ":"))
    write_text(path, content + "\n")


def read_figure_data(png: Path) -> FigureData | None:
    """The data of a picture, or None where there are none or those of another picture.

    Raises:
        ValueError: a file of figure data that is damaged or of a newer version.
        OSError: picture or data cannot be read.
    """
    path = png.with_suffix(".json")
    if not _is_ours(path):
        return None
    cure = "delete it for the picture alone, or judge the run again with analyze.py to draw both"
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        content.pop("kind")
        version, digest = content.pop("version"), content.pop("png")
        if version != VERSION:
            raise ValueError(f"its version is {version!r}, not {VERSION}")
        if digest != sha256(png.read_bytes()).hexdigest():
            return None
        return _read(FigureData, content, "figure")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged ({reason}); {cure}.") from error


def _is_ours(path: Path) -> bool:
    """Whether a file is figure data and not something else of that name."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            start = file.read(len(KIND) + 12)
        return start.startswith(f'{{"kind":"{KIND}"'.encode()) and path.stat().st_size < _LARGEST
    except FileNotFoundError:
        return False


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind` (dataclasses, tuples, literals, unions, numbers, text), or ValueError."""
    origin, choices = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is Literal:
        if isinstance(value, str) and value in choices:
            return value
    elif origin in (Union, types.UnionType):
        if value is None:
            if types.NoneType in choices:
                return None
        else:
            return _read(next(one for one in choices if one is not types.NoneType), value, where)
    elif origin is tuple:
        if isinstance(value, list):
            if choices[-1] is Ellipsis:
                return tuple(_read(choices[0], one, where) for one in value)
            if len(value) == len(choices):
                return tuple(_read(k, one, where) for k, one in zip(choices, value, strict=True))
    elif kind is float:
        # An int may be too long for a float.
        if isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < 1e308:
            return float(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is str:
        if isinstance(value, str) and len(value) <= LONGEST_TEXT:
            return value
    elif kind is bool and isinstance(value, bool):
        return value
    raise ValueError(f"{where} is no {getattr(kind, '__name__', kind)}")


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no {kind.__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    missing = [f.name for f in fields(kind) if f.name not in value and f.default is MISSING]
    if unknown or missing:
        raise ValueError(
            f"{where} has no {missing[0]}" if missing else f"{where} has {unknown[0][:80]!r}"
        )
    return kind(**{name: _read(hints[name], one, name) for name, one in value.items()})
