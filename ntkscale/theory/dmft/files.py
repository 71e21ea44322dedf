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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(
    path: Path, device: torch.device | str, kind: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file whose header has that `format`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or is damaged.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {}).get("solution", "{}"))
            if header.get("format") != kind:
                raise ValueError(f"{path} holds no {kind}; solve again.")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error
