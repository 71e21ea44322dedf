"""How much memory there is, memory that is quick to fill, and what running out of it looks like."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

LEAST = 256 << 20
"""The default budget is never below this."""


def default_budget(device: torch.device) -> int:
    """A quarter of the memory that is free on the device, in bytes."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_main_memory()
    return max(LEAST, free // 4)


def _free_main_memory() -> int:
    """What Linux says is available; elsewhere, 4 GiB."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return 4 << 30


def room(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor with nothing in it. On a processor it lies in huge pages, which numpy asks for and
    which are filled for the first time eight times faster."""
    numbers = {torch.float64: np.float64, torch.float32: np.float32}.get(dtype)
    if device.type == "cpu" and numbers is not None:
        return torch.from_numpy(np.empty(tuple(shape), numbers))
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def filled(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of zeros, from `room`."""
    return (
        room(shape, dtype, device).zero_()
        if math.prod(shape)
        else torch.zeros(tuple(shape), dtype=dtype, device=device)
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a processor or a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
