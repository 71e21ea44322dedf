"""What a kernel alone learns: ridge regression on class labels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.tasks import centred_one_hot

_SYMMETRY = 1e-3  # of the largest entry; kernels in float32 are well within it


def kernel_regression(
    train_kernel: Float[Tensor, "n n"] | Float[Tensor, "n n C C"],
    labels: Int[Tensor, "n"],
    cross_kernel: Float[Tensor, "m n"] | Float[Tensor, "m n C C"],
    *,
    classes: int,
    ridge: float = 1e-4,
) -> Float[Tensor, "m C"]:
    """Outputs K(x, X) a where (K(X, X) + eps I) a = onehot(labels) - 1/C, in float64.

    Args:
        train_kernel: K(X, X), summed over outputs, or full as of ``ntk.gram(..., output="full")``.
        labels: of X, from 0.
        cross_kernel: K(x, X) of the points asked for, of the same kind.
        classes: C.
        ridge: eps as a share of the mean eigenvalue of K(X, X). Eigenvalues of a float32 kernel
            below 1e-7 of the largest are rounding; 0 interpolates the labels.

    Returns:
        One row of outputs a point, on the device of the kernel. The class of a point is that of the
        largest: `error_rate` takes them as they are.

    Cost: n^3 / 6 multiply-adds for a summed kernel, (n C)^3 / 6 for a full one.

    Source: the learned kernels of Fort et al. 2020 (arXiv 2010.15110), with regression in place of
    linearised training.

    Raises:
        ValueError: kernels, labels and classes that do not fit, a kernel that is not finite or not
            symmetric, a negative ridge, or one too small for the kernel's rounding.
    """
    n = len(labels)
    _check(train_kernel, cross_kernel, n, classes, ridge)
    k = train_kernel.to(torch.float64, copy=True)
    cross = cross_kernel.to(k)
    targets = centred_one_hot(labels.cpu(), classes).to(k.device)
    full = k.ndim == 4
    if full:
        k = k.permute(0, 2, 1, 3).reshape(n * classes, n * classes)
        targets = targets.reshape(-1, 1)
    if float((k - k.T).abs().max()) > _SYMMETRY * float(k.abs().max()):
        raise ValueError("train_kernel is not symmetric; pass the kernel of the training points.")
    k.diagonal().add_(ridge * k.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(k)
    if int(failed):
        raise ValueError(
            f"train_kernel with ridge={ridge} is not positive definite: its smallest eigenvalues "
            "are rounding; raise ridge, or compute the kernel in float64."
        )
    solution = torch.cholesky_solve(targets, factor)
    if full:
        return torch.einsum("mncd,nd->mc", cross, solution.reshape(n, classes))
    return cross @ solution


def _check(train_kernel: Tensor, cross: Tensor, n: int, classes: int, ridge: float) -> None:
    outputs = (classes, classes) if train_kernel.ndim == 4 else ()
    if not n or train_kernel.shape != (n, n, *outputs):
        raise ValueError(
            f"train_kernel has shape {tuple(train_kernel.shape)} for {n} labels of {classes} "
            "classes; pass (n, n), or (n, n, C, C) with every output."
        )
    if cross.ndim != train_kernel.ndim or cross.shape[1:] != (n, *outputs):
        raise ValueError(
            f"cross_kernel has shape {tuple(cross.shape)} beside a train_kernel of "
            f"{tuple(train_kernel.shape)}; pass one row a new point, one column a training point."
        )
    for name, kernel in (("train_kernel", train_kernel), ("cross_kernel", cross)):
        if not bool(torch.isfinite(kernel).all()):
            raise ValueError(f"{name} holds nan or infinity; look for a diverged network.")
    if not ridge >= 0:
        raise ValueError(f"ridge is {ridge}; pass 0 or a share of the mean eigenvalue.")
