"""What one measures on kernels: plain arrays in, a 0-d tensor out.

All take any floating dtype and device, are invariant to nothing they do not say, and are
differentiable. Norms are Frobenius norms. A zero kernel gives nan, as 0/0 does.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def kernel_distance(k1: Float[Tensor, "n m"], k2: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Distance S = 1 - <K1, K2> / (|K1| |K2|) between the shapes of two kernels.

    Between 0 (equal up to a positive factor) and 1 for positive semi-definite kernels. Computed as
    half the squared distance of the normalised kernels, which is the same number and keeps its
    digits when S is far below the rounding of 1 (S = 1e-14 comes out to two digits in float64).

    Source: Fort et al. 2020, "Deep learning versus kernel learning", the kernel distance.
    """
    _same_shape(k1, k2)
    gap = k1 / torch.linalg.vector_norm(k1) - k2 / torch.linalg.vector_norm(k2)
    return gap.square().sum() / 2


def kernel_change(k1: Float[Tensor, "n m"], k2: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Relative change |K2 - K1| / |K1| from K1 to K2: unlike the distance, it sees the scale."""
    _same_shape(k1, k2)
    return torch.linalg.vector_norm(k2 - k1) / torch.linalg.vector_norm(k1)


def alignment(k: Float[Tensor, "n n"], y: Float[Tensor, "n C"]) -> Float[Tensor, ""]:
    """Alignment <K, Y Y^T> / (|K| |Y Y^T|) of a kernel with targets; 1 when K is c Y Y^T.

    No centring is applied: centre kernel or targets first where that is meant. Costs n^2 C.

    Source: Cristianini et al. 2001, "On kernel-target alignment".

    Raises:
        ValueError: `k` is not square, or `y` does not have one row for each of its rows.
    """
    _square(k)
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or y.shape[0] != k.shape[0]:
        raise ValueError(
            f"targets have shape {tuple(y.shape)} for a kernel on {k.shape[0]} points; pass one "
            "row of targets for each point of the kernel."
        )
    y = y.to(k)
    # tr(Y^T K Y) and |Y^T Y| need no n x n matrix of targets.
    return (y * (k @ y)).sum() / (torch.linalg.vector_norm(k) * torch.linalg.vector_norm(y.T @ y))


def effective_rank(k: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Effective rank (tr K)^2 / tr K^2 of a symmetric kernel: n for the identity, 1 for rank one.

    Raises:
        ValueError: `k` is not square.
    """
    _square(k)
    return trace(k).square() / k.square().sum()


def trace(k: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Sum of the diagonal.

    Raises:
        ValueError: `k` is not square.
    """
    _square(k)
    return k.diagonal().sum()


def _same_shape(k1: Tensor, k2: Tensor) -> None:
    if k1.shape != k2.shape:
        raise ValueError(
            f"the kernels have shapes {tuple(k1.shape)} and {tuple(k2.shape)}; compare kernels on "
            "the same points."
        )


def _square(k: Tensor) -> None:
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(
            f"the kernel has shape {tuple(k.shape)}; pass a square kernel on one set of points."
        )
