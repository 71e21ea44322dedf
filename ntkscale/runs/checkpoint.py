"""The checkpoint: tensors, the rest of the training's state, and where the folder was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ntkscale.runs.atomic import replacing
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import VERSION, parse, reason
from ntkscale.runs.tensor_files import UNREADABLE, Listing, is_listing, plain

_KEY, _CHECKSUM = "ntkscale", "sha256"


@dataclass(frozen=True)
class Moment:
    """What the rest of the run folder held when a checkpoint was taken."""

    metrics_bytes: int = 0
    kernels: Listing = field(default_factory=dict)
    weights: Listing = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    metrics_sha256: str = ""  # checkpoints of earlier versions have none

    def __post_init__(self) -> None:
        whole = (
            type(self.metrics_bytes) is int
            and self.metrics_bytes >= 0
            and isinstance(self.metrics_sha256, str)
            and is_listing(self.kernels)
            and is_listing(self.weights)
            and isinstance(self.results, dict)
            and all(isinstance(record, dict) for record in self.results.values())
        )
        if not whole:
            raise ValueError("it does not say what the folder held")


@dataclass(frozen=True)
class Checkpoint:
    """One that was read: what was given to `write_checkpoint`, tensors on the CPU."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    moment: Moment


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], meta: dict[str, Any], moment: Moment
) -> None:
    """Replace the checkpoint, atomically.

    Everything that is not a tensor is JSON in the file's header, under the key ``ntkscale``, with a
    checksum of this and of all tensors.

    Args:
        path: the file.
        tensors: any device and dtype; bits are kept.
        meta: JSON-able; here numbers may be nan or infinite, written as Python writes them.
        moment: what the folder holds now.

    Raises:
        TypeError: `meta` holds something JSON cannot.
        OSError: the file cannot be written; the checkpoint before it stays.

    Cost: beside the writing, one copy and one SHA-256 of all bytes.
    """
    header = {"version": VERSION, "folder": asdict(moment), "meta": meta}
    tensors = plain(tensors)
    # One key: safetensors writes several in any order, and equal checkpoints are equal files.
    text = json.dumps({**header, _CHECKSUM: _checksum(json.dumps(header), tensors)})
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: text})


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint, checked; None where there is none.

    Raises:
        RunFolderError: the checkpoint is damaged, or of another version.
    """
    if not path.exists():
        return None
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            # Clones: the file may be replaced while they live.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if not isinstance(header, dict) or not isinstance(header.get("meta"), dict):
            raise ValueError("it holds no state of a run")
        # Those of earlier versions have no checksum.
        told = header.pop(_CHECKSUM, None)
        if told not in (None, _checksum(json.dumps(header), tensors)):
            raise ValueError("its checksum differs")
        if header.get("version") == VERSION:
            # Unlike the rest of the header, this goes into files of strict JSON again.
            there = parse(json.dumps(header["folder"]).encode())
            return Checkpoint(tensors, header["meta"], Moment(**there))
    except UNREADABLE as error:
        raise RunFolderError(
            f"{path} is damaged ({reason(error)}); restore it from a copy, or remove it to let the "
            "run start again from the beginning."
        ) from error
    raise RunFolderError(
        f"{path} has version {header.get('version')!r:.40}, this ntkscale reads {VERSION}; use the "
        "one it was written with."
    )


def _checksum(header: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the header and of every tensor's name, dtype, shape and bytes."""
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
    return found.hexdigest()
