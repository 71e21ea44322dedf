"""One call for the solvable model's loss curve: it picks the solver that the limits need."""

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ntkscale.theory.scaling_model.finite import finite_flow
from ntkscale.theory.scaling_model.flow import flow
from ntkscale.theory.scaling_model.simulate import simulate
from ntkscale.theory.scaling_model.solution import check_gamma, check_times
from ntkscale.theory.scaling_model.spectrum import Spectrum, power_law

MODES_PER_DECADE = 30
MARGIN = 3
"""Fewest modes for each mode learned: the end of the spectrum bends the curve."""
SOME, SPARE = 30, 1_000
"""The same by default, where each mode costs its row and where bins make rows cheap: at the margin
itself late slopes are .005, and the mse some per cent, off."""
BEYOND_RANK = 4
"""Modes for each unit of width or data: those beyond act as a ridge."""
EXACT_RANK = 2_000
"""Features up to which descent keeps the whole metric."""
SINGLE_ROWS = 4_000
"""Up to here every mode has a row of its own."""


def solve(
    alpha: float,
    beta: float,
    gamma: float,
    times: ArrayLike,
    *,
    num_modes: int | None = None,
    width: int | None = None,
    num_data: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    noise: float = 0.0,
    seed: int = 0,
) -> Float[ndarray, "T"]:
    """mse of the solvable model for lambda_k = k^-alpha, lambda_k w*_k^2 = k^-(alpha beta + 1).

    Without limits it is `flow`, with a width or a number of data `finite_flow`, with a learning
    rate `simulate` (one seed; times are rounded to whole steps). Source: arXiv 2409.17858.

    Args:
        alpha: capacity, above 1.
        beta: source, above 0; below 1 the task is hard.
        gamma: feature-learning rate, gamma0^2; 0 is lazy.
        times: (T,) flow times in increasing order, from 0 on.
        num_modes: M; by default far more than are learned by the last time, or four times the rank
            that width and data allow. The target beyond M is part of the mse.
        width: N; None: infinite.
        num_data: P, a fixed training set; None: fresh data.
        batch_size: B, samples of a step; None: all. Needs a learning rate.
        learning_rate: eta, of gradient descent in steps; None: gradient flow.
        noise: standard deviation of the labels' noise.
        seed: of everything random.

    Returns:
        Excess mse at the times, float64.

    Raises:
        ValueError: alpha, beta, gamma or times are out of bounds, num_modes is too small for the
            last time, a batch has no learning rate, or the learning rate is unstable.

    Cost: a tenth of a second to seconds; see the three solvers.
    """
    checked, gamma = check_times(times), check_gamma(gamma)
    power_law(alpha, beta, num_modes=1)  # refuses alpha and beta before anything is computed
    if batch_size is not None and learning_rate is None:
        raise ValueError("batch_size needs a learning_rate: mini-batches are taken in steps.")
    learned = _modes_learned(alpha, beta, gamma, float(checked[-1]))
    ranks = [limit for limit in (width, num_data) if limit is not None]
    free = not ranks and learning_rate is None
    most = BEYOND_RANK * max(1, min(ranks)) if ranks else math.inf
    needed = math.ceil(min(MARGIN * learned, most))
    if num_modes is None:
        wished = SPARE * learned if free else min(SOME * learned, max(SINGLE_ROWS, needed))
        num_modes = math.ceil(max(100, min(wished, most)))
    elif num_modes < needed:
        raise ValueError(
            f"num_modes = {num_modes:,} is too few for time {checked[-1]:g}: modes up to about "
            f"{needed // MARGIN:,} are learned or seen by then, and {MARGIN} times as many are "
            f"needed; give at least {needed:,} or an earlier last time."
        )
    if learning_rate is not None:
        steps = np.rint(checked / learning_rate) if learning_rate > 0 else np.zeros(1)
        result = simulate(
            power_law(alpha, beta, num_modes=num_modes),
            gamma,
            steps.astype(np.int64).tolist(),
            learning_rate=learning_rate,
            width=width,
            num_data=num_data,
            batch_size=batch_size,
            noise=noise,
            exact=min(num_modes, *ranks, num_modes) <= EXACT_RANK,
            seeds=[seed],
        )
        return result.mse[0]
    if ranks:
        spectrum = power_law(alpha, beta, num_modes=num_modes)
        return finite_flow(
            spectrum, gamma, checked, width=width, num_data=num_data, noise=noise, seed=seed
        ).mse
    return flow(_rows(alpha, beta, num_modes), gamma, checked).mse


def _rows(alpha: float, beta: float, num_modes: int) -> Spectrum:
    """Rows for `flow`, to which alike modes are one."""
    binned = None if num_modes <= SINGLE_ROWS else MODES_PER_DECADE
    return power_law(alpha, beta, num_modes=num_modes, modes_per_decade=binned)


def _modes_learned(alpha: float, beta: float, gamma: float, time: float) -> float:
    """k with lambda_k x lazy time = 1 at infinite width, from a coarse solution of its own."""
    lazy = max(1.0, time) ** (1 / alpha)
    if gamma == 0 or time == 0:
        return lazy
    # tau grows at most as t^(2 / (1 + beta)): gamma z <= sqrt(gamma) |w*| over the modes learned.
    num_modes = math.ceil(10 * lazy)
    while True:
        spectrum = power_law(alpha, beta, num_modes=num_modes, modes_per_decade=10)
        tau = float(flow(spectrum, gamma, [time], rtol=1e-2).lazy_time[-1])
        learned = max(1.0, tau) ** (1 / alpha)
        if MARGIN * learned <= num_modes:
            return learned
        num_modes = math.ceil(2 * MARGIN * learned)
