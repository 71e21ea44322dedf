"""What an ensemble of infinitely wide networks predicts during gradient flow, in the lazy limit."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import Array, array


@dataclass(frozen=True)
class LazyEnsemble:
    """Predictions over initialisations, at each time a Gaussian process.

    Attributes:
        times: (T,) float64, flow time.
        mean: (T, n, C) float64, or (T, n) if the targets were (P,).
        variance: (T, n) float64 over initialisations, the same for each output; 0 if centred.
        train_mse: (T,) float64, mean over the P points of E |y - f|^2, without 1/2.
    """

    times: Float[Tensor, "T"]
    mean: Float[Tensor, "T n C"] | Float[Tensor, "T n"]
    variance: Float[Tensor, "T n"]
    train_mse: Float[Tensor, "T"]


def lazy_flow(
    ntk: Array,
    targets: Array,
    times: Array,
    *,
    cross: Array,
    nngp: tuple[Array, Array, Array] | None = None,
) -> LazyEnsemble:
    """Solve df/dt = K (y - f) / P exactly (Lee et al. 2019, eqs. 13-16).

    With Theta, Theta_* the tangent kernel of the training inputs and of further with training
    inputs, S, S_*, S_** the covariance of the outputs at initialisation, and
    F(t) = Theta_* Theta^-1 (1 - exp(-Theta t / P)),

        mean = F y,   covariance = S_** + F S F^T - F S_*^T - S_* F^T.

    Args:
        ntk: Theta, (P, P); all arrays of torch or numpy.
        targets: y, (P,) or (P, C).
        times: (T,) flow times from 0 to infinity.
        cross: Theta_*, (n, P).
        nngp: S (P, P), S_* (n, P) and the diagonal of S_** (n,): networks whose
            initial output is not subtracted. In the mean-field parameterization that output is
            1 / (gamma0 sqrt(N)) times smaller: divide all three by gamma0^2 N. None: centred
            networks, or mean-field ones at N = infinity; all alike.

    Raises:
        ValueError: shapes that do not fit, a negative time, or values that are not finite.

    Cost: one eigendecomposition of order P, then T n P^2 multiply-adds for the variance and
    T n P C for the mean; float64 on the kernel's device.
    """
    theta = array(ntk, "ntk")
    theta_star, y = array(cross, "cross", theta.device), array(targets, "targets", theta.device)
    one_output = y.ndim == 1
    y = y[:, None] if one_output else y
    points, n = len(y), len(theta_star)
    grid = torch.as_tensor(times, dtype=torch.float64, device=theta.device)
    if grid.ndim != 1 or not bool((grid >= 0).all()):
        raise ValueError("times must be a list of flow times, none below 0.")
    if theta.shape != (points, points) or theta_star.shape != (n, points):
        raise ValueError(
            f"{points} targets and {n} further inputs need kernels ({points}, {points}) and "
            f"({n}, {points}), got {tuple(theta.shape)} and {tuple(theta_star.shape)}."
        )
    covariance = start = start_cross = start_variance = None
    if nngp is not None:
        names = ("the first of nngp", "the second of nngp", "the third of nngp")
        covariance, start_cross, start_variance = (
            array(values, name, theta.device) for values, name in zip(nngp, names, strict=True)
        )
        shapes = [tuple(t.shape) for t in (covariance, start_cross, start_variance)]
        if shapes != [(points, points), (n, points), (n,)]:
            raise ValueError(
                f"nngp holds shapes {shapes}: give the covariance of the outputs of the training "
                "inputs, of further with training inputs, and its diagonal for the further ones."
            )

    values, vectors = torch.linalg.eigh((theta + theta.mT) / 2)
    # Eigenvalues below zero, and those that rounding makes of zero, are zero: they learn nothing.
    values = torch.where(values > 1e-14 * values.abs().max(), values, 0.0)
    rotated = vectors.mT @ y
    onto = theta_star @ vectors
    inverse = torch.where(values > 0, 1 / torch.where(values > 0, values, 1.0), 0.0)
    if covariance is not None and start_cross is not None:
        start, start_cross = vectors.mT @ covariance @ vectors, start_cross @ vectors

    means, variances, losses = [], [], []
    for t in grid:
        left = torch.where(values > 0, torch.exp(-values * (t / points)), 1.0)
        forward = onto * (inverse * (1 - left))
        means.append(forward @ rotated)
        loss = (left[:, None] * rotated).square().sum() / points
        variance = theta.new_zeros(n)
        if start is not None and start_cross is not None and start_variance is not None:
            variance = start_variance + (forward * (forward @ start - 2 * start_cross)).sum(1)
            loss = loss + y.shape[1] * (left.square() * start.diagonal()).sum() / points
        variances.append(variance)
        losses.append(loss)
    mean = torch.stack(means) if means else theta.new_zeros(0, n, y.shape[1])
    return LazyEnsemble(
        grid,
        mean[..., 0] if one_output else mean,
        torch.stack(variances).clamp_min(0) if variances else theta.new_zeros(0, n),
        torch.stack(losses) if losses else theta.new_zeros(0),
    )
