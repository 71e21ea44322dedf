"""Tensors and a JSON header in one safetensors file that appears whole or not at all."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

UNREADABLE = (
    *(SafetensorError, OSError, ValueError, TypeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, MemoryError, AttributeError),
)
"""What safetensors, torch and Python say of a header that somebody made up."""


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file, and its folder where it is missing.

    Raises:
        OSError: it cannot be written; a file of that name is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(plain, temporary, metadata={"solution": json.dumps(header)})
        temporary.chmod(mode)  # safetensors leaves a file that only its owner may read
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, SafetensorError):
            raise OSError(f"{path} cannot be written ({error}); make room there.") from error
        raise


def read(
    path: Path, device: torch.device | str, kind: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file whose header has that `format`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; solve first, or name another file.")
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {}).get("solution", "{}"))
            if not isinstance(header, dict) or header.get("format") != kind:
                raise ValueError(f"it holds no {kind}")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except UNREADABLE as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ValueError:
    """What to say of a file that does not hold what it should."""
    said = ascii(str(error).partition("\n")[0][:200])[1:-1] or type(error).__name__
    return ValueError(f"{path} is damaged or another file ({said}); solve again.")
