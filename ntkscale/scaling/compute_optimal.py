"""The best width for a compute C = N t, from the solved model and not from its asymptotics."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.scaling.frontier import frontier
from ntkscale.scaling.predict import predict
from ntkscale.theory import scaling_model

SMALLEST, LARGEST = 8, 2**17
"""Widths that are looked at: fewer are not a model of many features, more take minutes."""
MODES_PER_WIDTH = 1_000
_MODES_PER_NEAR = 30
_REACH = 2  # doublings of the width to either side
_LOWEST = round(math.log2(SMALLEST)) + _REACH
_HIGHEST = round(math.log2(LARGEST)) - _REACH
_SPAN = 20.0  # compute looked at, over the budget and under it
_NEAR = 10**0.25  # compute over which slopes are taken, to either side


@dataclass(frozen=True)
class ComputeOptimal:
    """The best width N and time t for a budget N t, batch size fixed.

    Attributes:
        width: N, a real number; the loss hardly changes within a factor of two.
        time: flow time t = budget / width.
        mse: expected, on average over A_0 (and batches), in target^2.
        slope: r of mse ~ C^-r, over half a decade of compute around the budget.
        slope_interval: of the local exponents there; the model is solved on average, so
            there is no noise, but the exponent still drifts.
        predicted: asymptotic r of `predict`, for comparison.
    """

    width: float
    time: float
    mse: float
    slope: float
    slope_interval: tuple[float, float]
    predicted: float


def compute_optimal(
    alpha: float,
    beta: float,
    gamma: float,
    budget: float,
    *,
    batch_size: float | None = None,
    learning_rate: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ComputeOptimal:
    """Minimise the mse of the solvable model over the width at N t = budget.

    The loss at every width is that of `theory.scaling_model.mean_at_width`: averaged over A_0,
    exact in time. Five widths around the best, each twice the one before, give a smooth minimum.

    Args:
        alpha: capacity, above 1.
        beta: source.
        gamma: feature-learning rate, gamma0^2; 0 is lazy.
        budget: C = N t, neurons times flow time.
        batch_size: B of one-pass SGD, lazy only; None: gradient flow, which has no batches.
        learning_rate: eta, needed by batches.
        progress: called with the widths done and how many there will be at most.

    Source: arXiv 2409.17858, table 1 and figure 4. Cost: about a second a width, five to ten
    widths.

    Raises:
        ValueError: alpha or beta is out of range, the budget is not positive, a batch lacks its
            learning rate or comes with gamma > 0 (simulate, or run `train.py compute-optimal`),
            or the best width lies outside 32 to 32,768.
    """
    if not (0 < budget < math.inf):
        raise ValueError(f"budget must be a positive number of neurons times time, not {budget}.")
    scaling_model.power_law(alpha, beta, num_modes=1)  # refuses alpha and beta
    if (batch_size is None) != (learning_rate is None):
        raise ValueError("batch_size and learning_rate belong together; give both or neither.")
    if batch_size is not None and gamma > 0:
        raise ValueError(
            "batches with gamma > 0 have no averaged solution; use gamma = 0, leave batch_size "
            "out, or run `python train.py compute-optimal`, which simulates."
        )
    says = predict(alpha, beta)
    power = says.best_width_lazy if gamma == 0 else says.best_width_rich
    if budget**power > 100 * LARGEST:
        raise _outside(budget)
    step = round(math.log2(min(max(3 * budget**power, 4 * SMALLEST), LARGEST / 4)))
    losses: dict[int, np.ndarray] = {}
    compute = budget * np.geomspace(1 / _SPAN, _SPAN, 80)
    most = 2 * _REACH + 1 + round(math.log2(LARGEST / SMALLEST))

    def loss(doublings: int) -> float:
        """Log mse at the budget, for width 2^doublings."""
        width = 2**doublings
        if doublings not in losses:
            losses[doublings] = mean_mse(
                alpha, beta, gamma, width, compute / width, batch_size, learning_rate
            )
            if progress is not None:
                progress(len(losses), most)
        return float(np.interp(0.0, np.log(compute / budget), np.log(losses[doublings])))

    while not (loss(step) <= loss(step - 1) and loss(step) <= loss(step + 1)):
        step += 1 if loss(step + 1) < loss(step - 1) else -1
        if not _LOWEST <= step <= _HIGHEST:
            raise _outside(budget)
    ladder = list(range(step - _REACH, step + _REACH + 1))
    for doublings in ladder:
        loss(doublings)
    widths = [2**d for d in ladder]
    found = frontier(widths, [compute / n for n in widths], [losses[d][None] for d in ladder])
    at = int(np.argmin(np.abs(np.log(found.compute / budget))))
    near = found.over(budget / _NEAR, budget * _NEAR)
    inside = np.abs(np.log(found.compute / budget)) <= np.log(_NEAR) + 1e-9
    local = [*found.slope[inside], near.exponent]
    return ComputeOptimal(
        width=float(found.width[at]),
        time=budget / float(found.width[at]),
        mse=float(np.exp(np.interp(0.0, np.log(found.compute / budget), np.log(found.mse)))),
        slope=near.exponent,
        slope_interval=(float(min(local)), float(max(local))),
        predicted=says.compute_lazy if gamma == 0 else says.compute_rich,
    )


def _outside(budget: float) -> ValueError:
    return ValueError(
        f"the best width for C = {budget:.3g} lies outside {2**_LOWEST} to {2**_HIGHEST:,}; choose "
        "another budget, or use the exponents of scaling.predict."
    )


def mean_spectrum(alpha: float, beta: float, width: int) -> scaling_model.Spectrum:
    """What a power law looks like at width N, on average over A_0."""
    spectrum = scaling_model.power_law(
        alpha,
        beta,
        num_modes=MODES_PER_WIDTH * width,
        modes_per_decade=_MODES_PER_NEAR,
    )
    return scaling_model.mean_at_width(spectrum, width)


def mean_mse(
    alpha: float,
    beta: float,
    gamma: float,
    width: int,
    times: Float[ndarray, "T"],
    batch_size: float | None = None,
    learning_rate: float | None = None,
) -> Float[ndarray, "T"]:
    """Mean mse over A_0 (and batches, at gamma = 0) at width N, at ascending times above 0."""
    own = mean_spectrum(alpha, beta, width)
    if batch_size is None or learning_rate is None:
        return scaling_model.flow(own, gamma, times, rtol=1e-3).mse
    # Between whole steps the loss is interpolated, as the time of a step is no physical one.
    steps = np.unique(np.append(np.floor(times / learning_rate), np.ceil(times / learning_rate)))
    mse = scaling_model.lazy_sgd(own, steps, learning_rate=learning_rate, batch_size=batch_size)
    return np.exp(np.interp(times / learning_rate, steps, np.log(mse)))
