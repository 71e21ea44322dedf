"""A kernel whose entries are exact, so that any two ways of cutting it up give the same bits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkscale.ntk import tiles

NAME = "f" * 64


def kernel(rows: slice, columns: slice, tail: tuple[int, ...], symmetric: bool) -> Tensor:
    """Entries K_cd(x, x') of two integers, x C + c and x' C + d; symmetric under their exchange."""
    outputs = tail[0] if tail else 1
    c = torch.arange(outputs)
    a = (torch.arange(rows.start, rows.stop)[:, None] * outputs + c)[:, None, :, None]
    b = (torch.arange(columns.start, columns.stop)[:, None] * outputs + c)[None, :, None, :]
    if symmetric:
        a, b = torch.minimum(a, b), torch.maximum(a, b)
    values = ((a * 7919 + b * 104729 + a * b) % 10007) / 10007
    if len(tail) == 2:
        return values
    return values.diagonal(dim1=2, dim2=3) if tail else values[:, :, 0, 0]


def whole(shape: tuple[int, ...], symmetric: bool, dtype: str = "f4") -> np.ndarray:
    rows, columns = (slice(0, n) for n in shape[:2])
    return kernel(rows, columns, shape[2:], symmetric).numpy().astype(dtype)


class Job:
    """Calls `stream` with this kernel, and counts the blocks it computes."""

    def __init__(self, shape: tuple[int, ...] = (50, 50), *, block: int = 16, **other: Any) -> None:
        keywords = {"dtype": np.dtype("f4"), "symmetric": True, "fingerprint": NAME}
        self.keywords: dict[str, Any] = {"shape": shape, "block": block, **keywords, **other}
        self.computed: list[tuple[int, int]] = []

    def compute(self, rows: slice, columns: slice) -> Tensor:
        block = self.keywords["block"]
        self.computed.append((rows.start // block, columns.start // block))
        return kernel(rows, columns, self.keywords["shape"][2:], self.keywords["symmetric"])

    def run(self, path: Path, **other: Any) -> np.memmap:
        return tiles.stream(path, **{"compute": self.compute, **self.keywords, **other})

    def expected(self) -> np.ndarray:
        return whole(self.keywords["shape"], self.keywords["symmetric"])
