"""A folder of safetensors files and its manifest, which knows what each holds and its checksum."""

import hashlib
import re
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ntkscale.runs.atomic import remove_temporaries, replacing
from ntkscale.runs.errors import RunFolderError
from ntkscale.runs.strict_json import read_json, reason, write_json

MANIFEST = "manifest.json"

Listing = dict[str, dict[str, Any]]
"""Of every file, by its name in the folder: cell, step, bytes, sha256, tensors (dtype, shape)."""

UNREADABLE = (
    *(SafetensorError, OSError, ValueError, TypeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, MemoryError),
)
"""What safetensors, torch and Python say of a header that somebody made up."""

_CHECKSUM = re.compile("[0-9a-f]{64}")


class TensorFiles:
    """Writes tensors into files that, once listed, never change.

    Args:
        folder: created with the first file.

    Raises:
        RunFolderError: the folder's manifest is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing = read_listing(folder)

    def write(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Write `name`.safetensors and list it; both are on disk on return.

        Args:
            name: of the file, below the folder.
            tensors: any device and dtype; stored as they are.
            about: what to say of it in the manifest.

        Raises:
            ValueError: the file is listed already, with other content.
        """
        key = f"{name}.safetensors"
        with replacing(self.folder / key) as temporary:
            save_file(plain(tensors), temporary)
            with temporary.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
            listed = self.listing.get(key)
            if listed is not None and listed["sha256"] != checksum:
                raise ValueError(
                    f"{self.folder / key} is written already, with other numbers; write each cell "
                    "and step once."
                )
            size = temporary.stat().st_size
        shapes = {
            tensor_name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            for tensor_name, tensor in sorted(tensors.items())
        }
        self.listing[key] = {**about, "bytes": size, "sha256": checksum, "tensors": shapes}
        self._write_manifest()

    def roll_back(self, listing: Listing) -> None:
        """Go back to an earlier listing: files not in it are removed, half-written ones too."""
        if self.listing != listing:
            self.listing = dict(listing)
            self._write_manifest()
        for path in [*self.folder.glob("*.safetensors"), *self.folder.glob("*/*.safetensors")]:
            if path.relative_to(self.folder).as_posix() not in listing:
                path.unlink()
        for folder in (self.folder, *(path for path in self.folder.glob("*") if path.is_dir())):
            remove_temporaries(folder)

    def _write_manifest(self) -> None:
        # Sorted, so that neither manifest nor checkpoint tells in which order files came.
        self.listing = dict(
            sorted(self.listing.items(), key=lambda item: (item[1]["cell"], _step(item[1])))
        )
        write_json(self.folder / MANIFEST, {"files": self.listing})


def read_listing(folder: Path) -> Listing:
    """What the manifest of a folder lists; nothing where there is none.

    Raises:
        RunFolderError: the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    listing = read_json(path).get("files")
    if not is_listing(listing):
        raise RunFolderError(
            f"{path} lists no files, or others than a run writes; restore it from a copy, or start "
            "the run anew in another folder."
        )
    return listing


def is_listing(value: object) -> TypeGuard[Listing]:
    """Whether a value from anywhere lists files, each under the name it must have."""
    return isinstance(value, dict) and all(_is_listed(key, entry) for key, entry in value.items())


def is_file_name(cell: object) -> TypeGuard[str]:
    """Whether a cell can name a file: up to 200 printable characters, no slash, no leading dot."""
    return (
        isinstance(cell, str)
        and 0 < len(cell) <= 200
        and cell.isprintable()
        and not cell.startswith(".")
        and "/" not in cell
    )


def _is_listed(key: str, entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    cell, step, size = entry.get("cell"), entry.get("step", 0), entry.get("bytes")
    return (
        is_file_name(cell)
        and type(step) is int
        and step >= 0
        and type(size) is int
        and isinstance(entry.get("sha256"), str)
        and _CHECKSUM.fullmatch(entry["sha256"]) is not None
        and key == (f"{cell}/{step}.safetensors" if "step" in entry else f"{cell}.safetensors")
    )


def require_files(folder: Path, listing: Listing) -> None:
    """Check that every listed file is there and has its size, without reading it.

    Raises:
        RunFolderError: one has not.
    """
    for key, entry in listing.items():
        _require(folder, key, entry)


def read_tensors(folder: Path, key: str, entry: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of one listed file, on the CPU.

    Raises:
        RunFolderError: it is missing, or differs from what was written.
    """
    _require(folder, key, entry)
    try:
        content = (folder / key).read_bytes()
    except (OSError, MemoryError) as error:
        raise _unreadable(folder / key, error) from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise RunFolderError(
            f"{folder / key} was changed since it was written (its checksum differs from "
            f"{MANIFEST}); restore it from a copy, or start the run anew in another folder."
        )
    try:
        return load(content)
    except UNREADABLE as error:
        raise _unreadable(folder / key, error) from error


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous, each with a storage of its own, as safetensors wants them."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def _unreadable(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be read ({reason(error)}); restore it from a copy, or start the run anew "
        "in another folder."
    )


def _require(folder: Path, key: str, entry: dict[str, Any]) -> None:
    path = folder / key
    if not path.is_file():
        raise RunFolderError(
            f"{path} is missing, though {MANIFEST} lists it; restore it from a copy, or start the "
            "run anew in another folder."
        )
    if path.stat().st_size != entry["bytes"]:
        raise RunFolderError(
            f"{path} has {path.stat().st_size} bytes where {MANIFEST} lists {entry['bytes']}; "
            "restore it from a copy, or start the run anew in another folder."
        )


def _step(entry: dict[str, Any]) -> int:
    return entry.get("step", 0)
