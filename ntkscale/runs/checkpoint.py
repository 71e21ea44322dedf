"""The checkpoint: tensors, the rest of the training's state, and where the folder was."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ntkscale.runs.atomic import replacing
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import VERSION, reason
from ntkscale.runs.tensor_files import Listing, plain

_KEY = "ntkscale"


@dataclass(frozen=True)
class Moment:
    """What the rest of the run folder held when a checkpoint was taken."""

    metrics_bytes: int = 0
    kernels: Listing = field(default_factory=dict)
    weights: Listing = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(
    path: Path, tensors: dict[str, Tensor], meta: dict[str, Any], moment: Moment
) -> None:
    """Replace the checkpoint, atomically.

    Everything that is not a tensor is JSON in the file's header, under the key ``ntkscale``.

    Args:
        path: the file.
        tensors: any device and dtype; bits are kept.
        meta: JSON-able; here numbers may be nan or infinite, written as Python writes them.
        moment: what the folder holds now.

    Raises:
        TypeError: `meta` holds something JSON cannot.
        OSError: the file cannot be written; the checkpoint before it stays.
    """
    header = {"version": VERSION, "folder": asdict(moment), "meta": meta}
    with replacing(path) as temporary:
        save_file(plain(tensors), temporary, metadata={_KEY: json.dumps(header)})


def read_moment(path: Path) -> Moment:
    """The folder's state at the checkpoint; that of an empty folder without one.

    Raises:
        RunFolderError: the checkpoint is damaged.
    """
    if not path.exists():
        return Moment()
    _, header = _read(path, with_tensors=False)
    try:
        return Moment(**header["folder"])
    except TypeError as error:
        raise _damaged(path, error) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors on the CPU and meta, as given to `write_checkpoint`; None where there is none.

    Raises:
        RunFolderError: the checkpoint is damaged.
    """
    if not path.exists():
        return None
    tensors, header = _read(path, with_tensors=True)
    return tensors, header["meta"]


def _read(path: Path, *, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            # Clones: the file may be replaced while they live.
            tensors = (
                {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                if with_tensors
                else {}
            )
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if header.get("version") != VERSION:
        raise RunFolderError(
            f"{path} has version {header.get('version')}, this ntkscale reads {VERSION}; use the "
            "one it was written with."
        )
    return tensors, header


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{path} is damaged ({reason(error)}); restore it from a copy, or remove it to let the run "
        "start again from the beginning."
    )
