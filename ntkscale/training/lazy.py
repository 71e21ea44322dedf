"""The exact flow of the linearised network: its kernel stays what it was at initialisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LazyFlow:
    """Training curve of a linearised network.

    Attributes:
        times: (T,) float64, flow time.
        mse: (T,) float64, mean over the P points of |y - f|^2, without 1/2.
        residuals: (T, P, C) float64, y - f on the training points; None unless asked for.
    """

    times: Float[Tensor, "T"]
    mse: Float[Tensor, "T"]
    residuals: Float[Tensor, "T P C"] | None


def lazy_flow(
    kernel: Float[Tensor, "P P"] | Float[Tensor, "P P C C"],
    residual: Float[Tensor, "P C"],
    times: Sequence[float] | Float[Tensor, "T"],
    *,
    learning_rate: float | None = None,
    residuals: bool = False,
) -> LazyFlow:
    """Solve dr/dt = -K r / P exactly, in float64, by eigendecomposition.

    Args:
        kernel: K_0 = gamma^2 df/dtheta . df/dtheta'. (P, P) acts on each output alike; the full
            (P, P, C, C) kernel is exact for several outputs.
        residual: y - f at t = 0.
        times: flow times, at least 0.
        learning_rate: solve gradient descent with this step instead, by (1 - eta lambda)^(t/eta);
            times are then whole numbers of steps, to rounding.
        residuals: also return the residuals, T P C numbers.

    Raises:
        ValueError: shapes that do not fit, a negative time, a time between two steps, or values
            that are not finite.

    Cost: one eigendecomposition, (P C)^3 or P^3 multiply-adds; float64 on the kernel's device.
    """
    kernel, residual = kernel.detach().double(), residual.detach().double()
    points, outputs = residual.shape
    if kernel.shape not in ((points, points), (points, points, outputs, outputs)):
        raise ValueError(
            f"the kernel is {tuple(kernel.shape)}, but {points} points with {outputs} outputs need "
            f"({points}, {points}) or ({points}, {points}, {outputs}, {outputs})."
        )
    if not (kernel.isfinite().all() and residual.isfinite().all()):
        raise ValueError("kernel or residual holds values that are not finite: check the network.")
    grid = torch.as_tensor(times, dtype=torch.float64, device=kernel.device)
    if grid.ndim != 1 or not bool((grid >= 0).all()):
        raise ValueError("times must be a list of flow times, none below 0.")

    flat = residual
    if kernel.ndim == 4:
        kernel = kernel.permute(0, 2, 1, 3).reshape(points * outputs, points * outputs)
        flat = residual.reshape(points * outputs, 1)
    # Eigenvalues below zero are rounding of zero: left alone they would grow exponentially.
    values, vectors = torch.linalg.eigh((kernel + kernel.T) / 2)
    values = values.clamp_min(0) / points
    coefficients = vectors.T @ flat

    decay = _decay(values, grid, learning_rate)
    mse = (decay.square() @ coefficients.square().sum(1)) / points
    history = None
    if residuals:
        history = torch.einsum("pi,ti,ic->tpc", vectors, decay, coefficients)
        history = history.reshape(len(grid), points, outputs)
    return LazyFlow(times=grid, mse=mse, residuals=history)


def _decay(
    values: Float[Tensor, "m"], times: Float[Tensor, "T"], learning_rate: float | None
) -> Float[Tensor, "T m"]:
    if learning_rate is None:
        return torch.exp(-times[:, None] * values)
    if not math.isfinite(learning_rate) or learning_rate <= 0:
        raise ValueError(f"learning_rate is {learning_rate}, but it must be above 0.")
    steps = (times / learning_rate).round()
    if not torch.allclose(steps * learning_rate, times, rtol=1e-9, atol=1e-12):
        raise ValueError(
            f"a time lies between two steps of {learning_rate}: give multiples of the step, or "
            "leave learning_rate out for the continuous flow."
        )
    return (1 - learning_rate * values)[None, :] ** steps[:, None]
