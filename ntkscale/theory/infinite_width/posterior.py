"""Gaussian-process regression: the posterior of infinitely wide networks, Bayesian or by kernel."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import Array, array, number


@dataclass(frozen=True)
class Posterior:
    """A Gaussian over functions at n inputs, conditioned on P targets.

    Attributes:
        mean: (n, C) float64, or (n,) if the targets were (P,).
        covariance: (n, n) float64, the same for each output; without noise of its own.
        log_evidence: log p(y), summed over outputs.
    """

    mean: Float[Tensor, "n C"] | Float[Tensor, "n"]
    covariance: Float[Tensor, "n n"]
    log_evidence: float


def posterior(
    train: Array,
    targets: Array,
    cross: Array,
    test: Array,
    *,
    noise: float = 0.0,
) -> Posterior:
    """Condition a Gaussian process on targets (Rasmussen & Williams 2006, eqs. 2.23-2.30).

        mean = K_* (K + noise)^-1 y,   covariance = K_** - K_* (K + noise)^-1 K_*^T

    With the NNGP kernel, what a network with trained-to-posterior weights predicts; with the NTK,
    ridge regression: the mean is where training with weight decay ends.

    Args:
        train: K between the P training inputs, (P, P); all arrays of torch or numpy.
        targets: y, (P,) or (P, C).
        cross: K between n further inputs and the training inputs, (n, P).
        test: K between the further inputs, (n, n).
        noise: variance of the targets' noise, in target^2, or the ridge.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a negative noise, or a
            kernel that is not positive definite to rounding (with the noise that would cure it).

    Cost: one Cholesky decomposition, P^3 / 3 multiply-adds, and P^2 n for the covariance.
    """
    train = array(train, "train")
    cross, test = array(cross, "cross", train.device), array(test, "test", train.device)
    y = array(targets, "targets", train.device)
    one_output = y.ndim == 1
    y = y[:, None] if one_output else y
    points, n = len(y), len(cross)
    if train.shape != (points, points) or cross.shape != (n, points) or test.shape != (n, n):
        raise ValueError(
            f"{points} targets and {n} further inputs need kernels ({points}, {points}), "
            f"({n}, {points}) and ({n}, {n}), got {tuple(train.shape)}, {tuple(cross.shape)} and "
            f"{tuple(test.shape)}."
        )
    if not 0 <= number(noise) < math.inf:
        raise ValueError(f"noise must be at least 0 and finite, got {noise!r}.")
    noisy = train + noise * torch.eye(points, dtype=train.dtype, device=train.device)
    factor, failed = torch.linalg.cholesky_ex(noisy)
    if bool(failed):
        enough = noise + 1e-10 * float(train.diagonal().mean())
        raise ValueError(
            "the training kernel is not positive definite to rounding (equal inputs, or more "
            f"points than the kernel has directions): drop duplicates, or give noise={enough:.1e} "
            "or more."
        )
    weights = torch.cholesky_solve(y, factor)
    half = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
    mean = cross @ weights
    evidence = -0.5 * (y * weights).sum() - y.shape[1] * (
        factor.diagonal().log().sum() + 0.5 * points * torch.log(y.new_tensor(2 * torch.pi))
    )
    return Posterior(mean[:, 0] if one_output else mean, test - half.mT @ half, float(evidence))
