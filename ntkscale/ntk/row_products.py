"""Products of the rows of two matrices, left @ right^T, by the faster of torch's two libraries."""

import torch
from jaxtyping import Float
from torch import Tensor

_FEWEST_COLUMNS = 512
_MOST_COLUMNS = 1 << 17
"""From here on its errors grow too: 3e-7 of the largest entry at 8,192 to 131,072, 2e-6 at a
million, where BLAS has 2e-7, 1e-6, 3e-6."""
_LEAST_WORK = 1 << 22
"""Multiply-adds of the smallest product that oneDNN is faster at, preparations included. Measured
on 8 to 512 rows of 64 to 8,192 columns: 1.0 there, up to 1.3 beyond, down to .2 below."""


def row_products(
    left: Float[Tensor, "n k"], right: Float[Tensor, "m k"], out: Float[Tensor, "n m"] | None = None
) -> Float[Tensor, "n m"]:
    """left @ right^T, in `out` if it is of use.

    For float32 tiles that fit a processor's cache oneDNN is 5 to 20 % faster than the BLAS behind
    `torch.mm`, but torch offers it for linear layers alone.
    """
    if sums_in_blocks(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return torch.mm(left, right.T) if out is None else torch.mm(left, right.T, out=out)


def add_row_products(
    into: Float[Tensor, "n m"], left: Float[Tensor, "n k"], right: Float[Tensor, "m k"]
) -> None:
    """Add left @ right^T."""
    if sums_in_blocks(left, right):
        into += row_products(left, right)
    else:
        into.addmm_(left, right.T)


def sums_in_blocks(left: Tensor, right: Tensor) -> bool:
    """Whether oneDNN takes the product of these rows: it is faster, and sums stretches of columns
    apart, so that errors do not grow with the length."""
    return (
        left.dtype == torch.float32
        and left.device.type == "cpu"
        and _FEWEST_COLUMNS <= left.shape[1] <= _MOST_COLUMNS
        and left.shape[0] * right.shape[0] * left.shape[1] >= _LEAST_WORK
        # It takes a thousand times as long for any other layout.
        and left.is_contiguous()
        and right.is_contiguous()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
