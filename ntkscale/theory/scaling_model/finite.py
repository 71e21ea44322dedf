"""The solvable model at finite width or on finite data: the exact flow of one random draw."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.theory.scaling_model.features import draw
from ntkscale.theory.scaling_model.reduced_flow import reduced_flow
from ntkscale.theory.scaling_model.solution import Solution, check_gamma, check_times
from ntkscale.theory.scaling_model.spectrum import Spectrum


def finite_flow(
    spectrum: Spectrum,
    gamma: float,
    times: ArrayLike,
    *,
    width: int | None = None,
    num_data: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    rtol: float = 1e-5,
    progress: Callable[[int, int], object] | None = None,
) -> Solution:
    """Gradient flow of f = w . A psi / N, exactly, for one draw of A(0) and of the data.

        dc/dt = [(1 + gamma z) 1 + gamma / (1 + gamma z) c c^T] (b - S c),   z (1 + gamma z) = |c|^2

    with S = A_0 Lambda A_0^T / N and b = A_0 Lambda w* / sqrt(N), Lambda replaced by the sample
    covariance where data are finite; for several outputs as in `flow`. Source: arXiv 2409.17858,
    section 2 (the model); the reduction is derived in this room's README.

    Args:
        spectrum: rows of single modes; modes beyond them act as `features.draw` says.
        gamma: ratio of the learning rates of the features and the read-out, gamma0^2.
        times: (T,) flow times in increasing order, from 0 on.
        width: N; None: infinite.
        num_data: P, fixed training points; None: unlimited data.
        noise: standard deviation of the labels' noise; it has no effect on unlimited data.
        seed: of A(0), data and noise.
        rtol: of the mse at every time, estimated by halving all steps.
        progress: called with times done and their total, once a step.

    Raises:
        ValueError: see `features.draw`, or gamma or times are not what `flow` takes.
        ArithmeticError: rtol cannot be reached.

    Cost: one eigendecomposition, O(min(N, P, M)^2 max(N, P, M)); then as `flow` with
    r = min(N, P, M) rows, and O(T M r) for the mse.
    """
    checked, gamma = check_times(times), check_gamma(gamma)
    features = draw(spectrum, width=width, num_data=num_data, noise=noise, seed=seed)
    path = reduced_flow(
        features.eigenvalues,
        features.target,
        np.ones(len(features.eigenvalues)),
        gamma,
        checked,
        rtol=rtol,
        floor=float(features.mse(spectrum, features.target)),
        progress=progress,
    )
    coefficients = features.target - path.residual
    train = None
    if features.train_floor is not None:
        fitted = np.einsum("r,trc->t", features.eigenvalues, np.square(path.residual))
        train = fitted + features.train_floor
    return Solution(
        checked,
        features.mse(spectrum, coefficients),
        path.kernel_scale,
        path.lazy_time,
        features.unlearned(spectrum, coefficients),
        path.error,
        train,
    )
