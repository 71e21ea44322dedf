"""Eigenvalues and eigenvectors of a kernel, in one order and with one sign."""

import torch
from jaxtyping import Float
from torch import Tensor


def eigensystem(k: Float[Tensor, "n n"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n n"]]:
    """Eigenvalues, largest first, and unit eigenvectors in the columns.

    Each eigenvector's entry of largest modulus is positive, so equal kernels give equal vectors on
    every run. Vectors of equal eigenvalues span a well-defined space but are any basis of it.
    Only the lower triangle is read. Costs about 9 n^3 multiply-adds.

    Raises:
        ValueError: `k` is not square, or holds a number that is not finite.
    """
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(
            f"the kernel has shape {tuple(k.shape)}; pass a square kernel on one set of points."
        )
    if not bool(torch.isfinite(k).all()):
        raise ValueError(
            "the kernel holds nan or infinity; look for a diverged network before asking for its "
            "spectrum."
        )
    values, vectors = torch.linalg.eigh(k)
    return values.flip(0), fix_signs(vectors.flip(1))


def fix_signs(vectors: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Flip columns so that the entry of largest modulus (the first, on a tie) is positive."""
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


def target_power(vectors: Float[Tensor, "n k"], y: Float[Tensor, "n C"]) -> Float[Tensor, "k"]:
    """Power sum_c (u_i . y_c)^2 / n of the targets on each unit eigenvector u_i.

    Over a complete set of eigenvectors it sums to mean |y|^2, the mse of the zero function.

    Raises:
        ValueError: `y` does not have one row for each row of `vectors`.
    """
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or y.shape[0] != vectors.shape[0]:
        raise ValueError(
            f"targets have shape {tuple(y.shape)} for eigenvectors on {vectors.shape[0]} points; "
            "pass one row of targets for each point of the kernel."
        )
    return (vectors.T @ y.to(vectors)).square().sum(1) / y.shape[0]
