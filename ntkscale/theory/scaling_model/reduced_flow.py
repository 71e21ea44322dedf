"""Gradient flow of the whole model in its smallest exact form, from t = 0 to any time.

With W (C, N), A = B A_0, features u = A_0 psi / sqrt(N) of covariance diag(s) and the target theta
that they can express, projected gradient flow of (W, A) is gradient flow of a linear network whose
hidden layer is as wide as its output:

    f = R y u,   dy/dt = R^T G,   dR/dt = gamma G y^T,   G = (theta - R y) diag(s)
    R(0) = 1, y(0) = 0

with R (C, C), y (C, M). It follows from B B^T = 1 + gamma W^T W / N (the conservation law) by
writing c = W B / sqrt(N) = R y; R R^T = 1 + gamma Z, Z = W W^T / N. For C = 1 it is the scalar
reduction z (1 + gamma z) = |c|^2.

What is integrated is d = R^-1 (theta - c), in which nothing cancels:

    d' = (R^-1)' theta - diag(s) R^T R d

In a step R^-1 is linear in time, so that every mode has a closed form, however stiff, and what is
left is implicit in the C x C matrix R alone. Steps are equal in log time; all are halved until the
Richardson extrapolation stands still.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.theory.scaling_model import one_output, several_outputs

FIRST_STEP = 0.2
"""Coarsest step in log time."""
HALVINGS = 8
START = 1e-3
"""First time, over the fastest time scale of the model."""


@dataclass(frozen=True)
class Path:
    """theta - c and the kernel's growth at the times asked for; relative error of the loss."""

    residual: Float[ndarray, "T M C"]
    kernel_scale: Float[ndarray, "T"]
    lazy_time: Float[ndarray, "T"]
    error: float


def reduced_flow(
    eigenvalues: Float[ndarray, "M"],
    target: Float[ndarray, "M C"],
    count: Float[ndarray, "M"],
    gamma: float,
    times: Float[ndarray, "T"],
    *,
    rtol: float,
    floor: float = 0.0,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Integrate the flow for features of covariance diag(eigenvalues).

    Args:
        eigenvalues: s, at least 0.
        target: theta, a row a mode.
        count: how many alike modes a row stands for.
        gamma: feature-learning rate.
        times: increasing, from 0 on.
        rtol: of sum s |theta - c|^2 + floor, at every time; where the last mode decays, of the
            exponent of the decay.
        floor: part of the loss that does not change, in target^2.
        progress: called with times done and their total, over all halvings so far.

    Cost: O(M C^2) a step, some 200 (d + 5) steps for d decades of time at rtol = 1e-5.

    Raises:
        ArithmeticError: the steps cannot be made fine enough for rtol.
    """
    weight = count * eigenvalues
    start = float((weight[:, None] * np.square(target)).sum())
    force = np.sqrt((count[:, None] * np.square(eigenvalues[:, None] * target)).sum())
    fastest = max(float(eigenvalues.max()), float(np.sqrt(gamma) * force), np.finfo(float).tiny)
    solver = one_output if target.shape[1] == 1 else several_outputs
    slowest = float(eigenvalues[np.square(target).sum(1) * eigenvalues > 0].min(initial=np.inf))
    slowest = slowest if slowest < np.inf else 0.0
    coarse = previous = None
    error = np.inf
    step = FIRST_STEP
    for _ in range(HALVINGS):
        fine = solver.integrate(
            eigenvalues, target, count, gamma, times, START / fastest, step, progress
        )
        if coarse is not None:
            residual, scale, clock = (f + (f - c) / 3 for f, c in zip(fine, coarse, strict=True))
            loss = np.einsum("m,tmc->t", weight, np.square(residual))
            if previous is not None:
                # Once every mode is learned the loss is exp(-2 lambda tau): an error is one of the
                # exponent. Decays below rounding are no concern of anybody's.
                size = (loss + floor) * np.maximum(1, slowest * clock)
                size += 1e-24 * start + np.finfo(float).tiny
                error = float(np.max(np.abs(loss - previous) / size))
                if error <= rtol:
                    return Path(residual, scale, clock, error)
            previous = loss
        coarse = fine
        step /= 2
    raise ArithmeticError(
        f"the flow is known to {error:.1g} only, relative, after {HALVINGS} halvings of the step; "
        f"ask for rtol above that (it was {rtol:g}), or shorten the times."
    )
