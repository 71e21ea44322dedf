"""Products of the rows of two matrices, left @ right^T, by the faster of torch's two libraries."""

import torch
from jaxtyping import Float
from torch import Tensor

_FEWEST_ROWS = 64
_FEWEST_COLUMNS = 256


def row_products(
    left: Float[Tensor, "n k"], right: Float[Tensor, "m k"], out: Float[Tensor, "n m"] | None = None
) -> Float[Tensor, "n m"]:
    """left @ right^T, in `out` if it is of use.

    For float32 tiles that fit a processor's cache oneDNN is 5 to 20 % faster than the BLAS behind
    `torch.mm`, but torch offers it for linear layers alone.
    """
    if _suits_onednn(left, right):
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return torch.mm(left, right.T) if out is None else torch.mm(left, right.T, out=out)


def add_row_products(
    into: Float[Tensor, "n m"], left: Float[Tensor, "n k"], right: Float[Tensor, "m k"]
) -> None:
    """Add left @ right^T."""
    if _suits_onednn(left, right):
        into += row_products(left, right)
    else:
        into.addmm_(left, right.T)


def _suits_onednn(left: Tensor, right: Tensor) -> bool:
    return (
        left.dtype == torch.float32
        and left.device.type == "cpu"
        and min(left.shape[0], right.shape[0]) >= _FEWEST_ROWS
        and left.shape[1] >= _FEWEST_COLUMNS
        # It takes a thousand times as long for any other layout.
        and left.is_contiguous()
        and right.is_contiguous()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
