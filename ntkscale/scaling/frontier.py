"""The least loss that a compute C = N t buys: the lower envelope of a ladder of widths, smoothed.

A ladder that doubles the width leaves kinks in the envelope of its curves. Between the widths, log
mse is interpolated along each line of constant compute, so that the best width is a number of its
own and the frontier is as smooth as the law that it follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from ntkscale.scaling.local_slope import local_slope

_GRID = 20  # points a decade of compute
_FINE = 40  # widths looked at between two of the ladder
_RESAMPLES = 200
FEWEST_WIDTHS = 4


@dataclass(frozen=True)
class FrontierSlope:
    """Exponent r of mse ~ C^-r along a part of a frontier.

    Attributes:
        exponent: of a straight line through log mse.
        interval: 95 % over the seeds of every width.
        window: first and last compute.
    """

    exponent: float
    interval: tuple[float, float]
    window: tuple[float, float]


@dataclass(frozen=True)
class Frontier:
    """Loss against compute at the best width.

    Attributes:
        compute: C = N t, log-spaced, where the best width lies inside the ladder.
        mse: least mean mse.
        width: the width that has it, a real number.
        slope: local exponents, each over a decade of compute.
        slope_interval: 95 % over seeds, low and high.
        resampled: log mse of the frontier, seeds drawn anew; what intervals are made of.
    """

    compute: Float[ndarray, "G"]
    mse: Float[ndarray, "G"]
    width: Float[ndarray, "G"]
    slope: Float[ndarray, "G"]
    slope_interval: Float[ndarray, "2 G"]
    resampled: Float[ndarray, "R G"]

    @property
    def time(self) -> Float[ndarray, "G"]:
        """Flow time at the best width."""
        return self.compute / self.width

    @property
    def decades(self) -> float:
        """Length in decades of compute."""
        return float(np.log10(self.compute[-1] / self.compute[0]))

    def over(self, low: float, high: float) -> FrontierSlope:
        """The exponent between two values of compute.

        Raises:
            ValueError: fewer than five points of the frontier lie between them.
        """
        inside = (self.compute >= low * (1 - 1e-9)) & (self.compute <= high * (1 + 1e-9))
        if inside.sum() < 5:
            raise ValueError(
                f"the frontier from {self.compute[0]:.3g} to {self.compute[-1]:.3g} has hardly a "
                f"point between {low:.3g} and {high:.3g}; choose a wider range or longer ladder."
            )
        at = np.log(self.compute[inside])
        about = at - at.mean()
        draws = -(self.resampled[:, inside] @ about) / (about @ about)
        slope = -float(np.log(self.mse[inside]) @ about / (about @ about))
        edges = np.quantile(draws, [0.025, 0.975])
        window = (float(self.compute[inside][0]), float(self.compute[inside][-1]))
        return FrontierSlope(slope, (float(edges[0]), float(edges[1])), window)


def frontier(
    widths: Sequence[int],
    times: Sequence[Float[ndarray, "T"]],
    mse: Sequence[Float[ndarray, "S T"]],
    *,
    seed: int = 0,
) -> Frontier:
    """The frontier of a ladder of widths, seeds averaged before the minimum is taken.

    Where the best width lies within a step of either end of the ladder, the frontier is that
    of the ladder and not of the model: it is left out.

    Args:
        widths: (W,) ascending, at least four.
        times: for every width (T,) flow times, ascending and positive. The frontier lies in the
            compute N t that all widths reach.
        mse: for every width the curves of its seeds; widths may differ in times and seeds.
        seed: of the bootstrap over seeds.

    Cost: 200 envelopes of (W, decades x 20), a second.

    Raises:
        ValueError: fewer than four widths, shapes that do not fit, mse that is not positive, or no
            compute at which the best width lies inside the ladder.
    """
    sizes = np.asarray(widths, dtype=np.float64)
    if len(sizes) < FEWEST_WIDTHS or (np.diff(sizes) <= 0).any() or sizes[0] <= 0:
        raise ValueError(
            f"a frontier needs {FEWEST_WIDTHS} or more widths in increasing order, not {widths}."
        )
    curves = [np.atleast_2d(np.asarray(own, dtype=np.float64)) for own in mse]
    shapes = [len(own) for own in times] == [own.shape[1] for own in curves]
    if not len(curves) == len(times) == len(sizes) or not shapes:
        raise ValueError("give for every width (times,) and an array (seeds, times) of mse.")
    if any(not (np.isfinite(own) & (own > 0)).all() for own in curves):
        raise ValueError("mse must be positive and finite everywhere; a curve has diverged.")
    log_n, log_c = np.log(sizes), [np.log(n * own) for n, own in zip(sizes, times, strict=True)]
    low, high = max(own[0] for own in log_c), min(own[-1] for own in log_c)
    grid = np.arange(low, high, np.log(10) / _GRID)
    if len(grid) < 5:
        raise ValueError("the curves of the widths share hardly any compute; give longer times.")
    fine = np.linspace(log_n[0], log_n[-1], _FINE * (len(sizes) - 1) + 1)
    basis = CubicSpline(log_n, np.eye(len(sizes)), axis=0)(fine)  # (F, W)

    def envelope(means: Sequence[Float[ndarray, "T"]]) -> tuple[ndarray, ndarray]:
        level = np.array(
            [np.interp(grid, c, np.log(one)) for c, one in zip(log_c, means, strict=True)]
        )
        between = basis @ level
        at = between.argmin(axis=0)
        return between[at, np.arange(len(grid))], at

    best, at = envelope([own.mean(axis=0) for own in curves])
    edges = _FINE, len(fine) - 1 - _FINE
    inside = (at >= edges[0]) & (at <= edges[1])
    if inside.sum() < 5:
        raise ValueError(
            f"the best width leaves the ladder {widths[0]} to {widths[-1]} at nearly every "
            "compute; extend the ladder or the times."
        )
    # One stretch: noise may throw a point out.
    first, last = np.flatnonzero(inside)[[0, -1]]
    kept = slice(first, last + 1)
    compute, best, at = np.exp(grid[kept]), best[kept], at[kept]
    rng = np.random.default_rng(seed)
    resampled = np.empty((_RESAMPLES, len(compute)))
    for draw in range(_RESAMPLES):
        again = [own[rng.integers(len(own), size=len(own))].mean(axis=0) for own in curves]
        resampled[draw] = envelope(again)[0][kept]
    slope = _slopes(compute, best)
    slopes = np.array([_slopes(compute, one) for one in resampled])
    low, high = np.quantile(slopes, [0.025, 0.975], axis=0)
    return Frontier(
        compute, np.exp(best), np.exp(fine[at]), slope, np.array([low, high]), resampled
    )


def _slopes(compute: ArrayLike, log_mse: ndarray) -> ndarray:
    return local_slope(compute, np.exp(log_mse), span=1.0)[1]
