"""The solvable model at infinite width on unlimited data: nothing but time limits it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.theory.scaling_model.reduced_flow import reduced_flow
from ntkscale.theory.scaling_model.solution import Solution, check_gamma, check_times
from ntkscale.theory.scaling_model.spectrum import Spectrum


def flow(
    spectrum: Spectrum,
    gamma: float,
    times: ArrayLike,
    *,
    rtol: float = 1e-5,
    progress: Callable[[int, int], object] | None = None,
) -> Solution:
    """Gradient flow at N = P = infinity.

    With c = w* - v and Z (1 + gamma Z) = c c^T,

        dc/dt = (1 + gamma Z) G + gamma G c^T (1 + gamma Z)^-1 c,   G = v diag(lambda)

    which gamma = 0 turns into v_k = w*_k exp(-lambda_k t). Feature learning multiplies the kernel
    by 1 + gamma Z: on hard tasks, whose w* has infinite norm, without end. Modes of equal
    eigenvalue may be rotated into one another, so that for one output a row of `count` alike modes
    is exact.
    Source: arXiv 2409.17858, the limit N, B -> infinity of its section 3; the reduction to one
    vector is derived in this room's README.

    Args:
        spectrum: eigenvalues and target coefficients; rows may stand for many modes.
        gamma: ratio of the learning rates of the features and the read-out, gamma0^2.
        times: (T,) flow times in increasing order, from 0 on.
        rtol: of the mse at every time, estimated by halving all steps.
        progress: called with times done and their total, once a step.

    Raises:
        ValueError: gamma is negative, or times are not increasing from 0 on.
        ArithmeticError: rtol cannot be reached.

    Cost: O(M C^2) a step and O(T M C) memory: 340 rows to t = 1e12 take a third of a second, 4,000
    rows of ten outputs to t = 1e4 three seconds.
    """
    checked, gamma = check_times(times), check_gamma(gamma)
    path = reduced_flow(
        spectrum.eigenvalues,
        spectrum.target,
        spectrum.count,
        gamma,
        checked,
        rtol=rtol,
        floor=spectrum.tail_power,
        progress=progress,
    )
    weight = spectrum.count * spectrum.eigenvalues
    return Solution(
        checked,
        np.einsum("m,tmc->t", weight, np.square(path.residual)) + spectrum.tail_power,
        path.kernel_scale,
        path.lazy_time,
        path.residual,
        path.error,
    )
