"""What every flow of the solvable model returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Solution:
    """The loss curve of the solvable model, and what its kernel does meanwhile.

    Attributes:
        times: flow time.
        mse: of fresh inputs against the clean target, in target^2, summed over outputs. The power
            that no mode of the spectrum holds (`Spectrum.tail_power`) is part of it; label noise is
            not.
        kernel_scale: 1 + gamma tr(Z) / C, by which learned features multiply the kernel at the
            start (traced over outputs, divided by their number); 1 at gamma = 0.
        lazy_time: integral of kernel_scale over time, the clock of feature learning: the modes
            with eigenvalue x lazy_time above 1 are learned.
        train_mse: of the training set against its noisy labels; None where data are unlimited.
        residual: (T, M, C), w* - v in the spectrum's rows: the target coefficients not yet learned.
        error: estimated relative error of mse, from halving the steps.
    """

    times: Float[ndarray, "T"]
    mse: Float[ndarray, "T"]
    kernel_scale: Float[ndarray, "T"]
    lazy_time: Float[ndarray, "T"]
    residual: Float[ndarray, "T M C"]
    error: float
    train_mse: Float[ndarray, "T"] | None = None


def check_times(times: ArrayLike) -> Float[ndarray, "T"]:
    """Flow times as a float64 array.

    Raises:
        ValueError: no times, or times that are negative, not finite or not in increasing order.
    """
    checked = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if checked.ndim != 1 or not len(checked):
        raise ValueError(f"times must be a list of at least one time, got shape {checked.shape}.")
    if not np.isfinite(checked).all() or checked[0] < 0 or (np.diff(checked) < 0).any():
        raise ValueError("times must be finite, at least 0 and in increasing order; sort them.")
    return checked


def check_gamma(gamma: float) -> float:
    """The feature-learning rate.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not 0 <= gamma < np.inf:
        raise ValueError(f"gamma must be finite and at least 0 (lazy), got {gamma}.")
    return float(gamma)
