"""Whether a run may be written into a folder, asked before anything is."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.lock import LOCK
from ntkscale.runs.strict_json import read_json

CONFIG = "config.json"
_WRITTEN = (
    *(CONFIG, "environment.json", "results.json", "metrics.jsonl", "timing.jsonl", LOCK),
    *("kernels", "weights", "checkpoints", "figures"),
)
_ABSENT = "(absent)"
_DIFFERENCES, _LETTERS = 8, 80  # that are shown


def normalised(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as it reads back from `config.json`: tuples are lists.

    Raises:
        ValueError: it holds what JSON cannot, or a key ``"version"``.
    """
    if "version" in config:
        raise ValueError('"version" in a configuration is that of config.json; rename the key.')
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the configuration cannot be written as JSON ({error}); use finite numbers, text, "
            "lists and dicts."
        ) from error


def inspect(path: Path, config: dict[str, Any]) -> None:
    """Check that a run of this configuration may be written at `path`; creates nothing.

    Raises:
        RunFolderError: another configuration, foreign files, links that lead elsewhere, or no
            permission; with the cure.
    """
    refuse_links(path)
    if (path / CONFIG).exists():
        there = read_json(path / CONFIG)
        if there != config:
            raise RunFolderError(
                f"{path} holds a run of another configuration: "
                f"{', '.join(_differences(there, config)[:_DIFFERENCES])}; choose another folder "
                "or name, or remove this one."
            )
    elif path.is_dir() and (foreign := _foreign(path)):
        raise RunFolderError(
            f"{path} holds {foreign[0]!r} but no {CONFIG}, so it is no run folder; choose an empty "
            "or new one."
        )
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise RunFolderError(f"{existing} is a file, not a folder; choose another run folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RunFolderError(
            f"{existing} cannot be written; change its permissions or choose another run folder."
        )


def refuse_links(path: Path, names: Sequence[str] = _WRITTEN) -> None:
    """Refuse a run folder in which a link would lead elsewhere what is written, cut or removed.

    Args:
        path: the folder; it may be a link itself.
        names: of the files and folders in it that are going to be written.

    Raises:
        RunFolderError: one of them is a link, or holds one.
    """
    for place in (path / name for name in names):
        within = place.iterdir() if place.is_dir() and not place.is_symlink() else ()
        for one in (place, *within):
            if one.is_symlink() or (one.exists() and not (one.is_file() or one.is_dir())):
                raise RunFolderError(
                    f"{one} is a link or a device, through which something else would be "
                    "overwritten; put what it leads to in its place, or choose another run folder."
                )


def _foreign(path: Path) -> list[str]:
    """What is in a folder besides the traces of a run killed while it was created."""
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name != LOCK and not entry.match(f".{CONFIG}.*.tmp")
    )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            name = f"{prefix}{key}"[:_LETTERS]
            name = name if name.isprintable() else ascii(name)
            found.append(f"{name} {_shown(before)} -> {_shown(after)}")
    return found


def _shown(value: Any) -> str:
    text = value if value == _ABSENT else json.dumps(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}..."
