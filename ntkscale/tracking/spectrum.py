"""Leading eigenpairs of a probe kernel, by whichever solver is cheap at its size."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import eigsh
from torch import Tensor

from ntkscale import ntk

DENSE = 1024
"""Points up to which all eigenvalues are computed (under half a second on one core)."""


def leading_eigenvalues(k: Float[Tensor, "n n"], count: int) -> Float[Tensor, "count"]:
    """The `count` largest eigenvalues, largest first; all nan for a kernel that is not finite."""
    if not bool(torch.isfinite(k).all()):
        return k.new_full((count,), torch.nan)
    if _dense(len(k), count):
        return torch.linalg.eigvalsh(k).flip(0)[:count]
    values = eigsh(k.numpy(), k=count, v0=_start(len(k)), return_eigenvectors=False)
    return torch.from_numpy(np.sort(values)[::-1].copy())


def leading_eigenvectors(k: Float[Tensor, "n n"], count: int) -> Float[Tensor, "n count"]:
    """Unit eigenvectors of the `count` largest eigenvalues in columns, signs as in `eigensystem`.

    Raises:
        ValueError: the kernel holds a number that is not finite.
    """
    if _dense(len(k), count) or not bool(torch.isfinite(k).all()):
        return ntk.eigensystem(k)[1][:, :count].contiguous()
    values, vectors = eigsh(k.numpy(), k=count, v0=_start(len(k)))
    order = np.argsort(values)[::-1]
    return ntk.fix_signs(torch.from_numpy(vectors[:, order].copy()))


def _dense(n: int, count: int) -> bool:
    return n <= DENSE or 4 * count > n


def _start(n: int) -> np.ndarray:
    """A start vector for Lanczos, so that the same kernel gives the same digits every time."""
    return np.random.default_rng(0).standard_normal(n)
