"""Reads the file that W&B writes offline, independently of W&B's own code.

The file is a LevelDB log (7 bytes of header, blocks of 32 KiB, records of checksum, length, kind)
whose records are protocol buffers.
"""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768
_FULL, _LAST = 1, 4


def records(folder: Path) -> list[Any]:
    """The records of the one `.wandb` file below a folder.

    W&B's service writes the last of them shortly after a run is finished, so this waits for the
    record of its end.
    """
    (path,) = folder.rglob("*.wandb")
    for _ in range(200):
        found = list(_read(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has no record of the run's end")


def _read(path: Path) -> Iterator[Any]:
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(content):
        if _BLOCK - position % _BLOCK < 7:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()  # pyright: ignore[reportAttributeAccessIssue]
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(folder: Path) -> list[dict[str, Any]]:
    """The logged rows; parts of a nested value under `key.part`."""
    return [
        {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    ]


def axes(folder: Path) -> dict[str, str]:
    """The axis each metric was defined against; globs as they were given."""
    defined = [r.metric for r in records(folder) if r.WhichOneof("record_type") == "metric"]
    return {metric.name or metric.glob_name: metric.step_metric for metric in defined}


def run(folder: Path) -> Any:
    """The record that describes the run."""
    (found,) = (r.run for r in records(folder) if r.WhichOneof("record_type") == "run")
    return found


def summary(folder: Path) -> dict[str, Any]:
    """The run's summary at its end; parts of a nested value under `key.part`."""
    found: dict[str, Any] = {}
    for record in records(folder):
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                found[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return found
