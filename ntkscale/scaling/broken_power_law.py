"""A crossover between two power laws: both exponents, and where and how sharply they join."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.scaling.curves import (
    Array,
    LogCurve,
    least_squares,
    log_curve,
    smoothly_broken_power_law,
    solve_line,
)
from ntkscale.scaling.departure import departure
from ntkscale.scaling.noise import weigh_noise
from ntkscale.scaling.windows import bends

_REFITS = 400
_SHARPNESS = (0.2, 20.0)
_FEWEST = 10  # five parameters, and as many points again to judge them by


@dataclass(frozen=True)
class BrokenPowerLawFit:
    """Two power laws joined smoothly.

    y ~ prefactor r^-early ((1 + r^sharpness) / 2)^(-(late - early) / sharpness), r = x / crossover.

    Attributes:
        early, late: exponents before and after; positive for falling curves.
        early_interval, late_interval: where they lie with probability ``confidence``, with
            residuals correlated from point to point.
        crossover: in units of x; where the local exponent is half-way.
        crossover_interval: its interval; it cannot leave the window.
        sharpness: large for a kink; the exponent turns within about 2 / sharpness of log x to
            either side of the crossover.
        prefactor: y at the crossover.
        window: first and last x used.
        is_broken: whether a plain power law fails, early and late differ by more than their common
            uncertainty, and no bend is left behind.
        reason: why not, or which exponent not to believe; empty when both are measured.
        r_squared: share of the variance of log y explained.
        residual_correlation: correlation of neighbouring residuals of log y.
        num_points: number of points.
        confidence: probability the intervals are meant for.
    """

    early: float
    late: float
    early_interval: tuple[float, float]
    late_interval: tuple[float, float]
    crossover: float
    crossover_interval: tuple[float, float]
    sharpness: float
    prefactor: float
    window: tuple[float, float]
    is_broken: bool
    reason: str
    r_squared: float
    residual_correlation: float
    num_points: int
    confidence: float

    def __call__(self, x: ArrayLike) -> Array:
        """The fitted law at ``x``, shape (n,)."""
        w = np.log(np.atleast_1d(np.asarray(x, dtype=np.float64)) / self.crossover)
        parameters = [np.log(self.prefactor), self.early, self.late, 0.0, np.log(self.sharpness)]
        return np.exp(smoothly_broken_power_law(w, np.array([parameters]))[0][0])


def fit_broken_power_law(
    x: ArrayLike,
    y: ArrayLike,
    *,
    window: tuple[float, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> BrokenPowerLawFit:
    """Fit a smoothly broken power law by least squares in log y, for curves that cross over.

    On a lazy-to-rich crossover the late exponent comes closer to its limit than any straight line
    or offset does. The break stays inside the window and the sharpness within 0.2 and 20: beyond,
    the data cannot tell.

    Args:
        x, y: (n,) arrays, tensors or lists, n >= 10, both positive, in any order.
        window: first and last x to use; all by default.
        confidence: of the intervals.
        seed: of the bootstrap (see ``fit_power_law``).

    Raises:
        ValueError: as ``fit_power_law``; also y not positive or fewer than ten points.

    Cost: some 20 fits from different starts and 400 refits of five parameters, under a second.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}; 0.95 is usual.")
    curve = log_curve(x, y, window)
    n = len(curve.u)
    if np.isnan(curve.v).any():
        raise ValueError(
            f"{int(np.isnan(curve.v).sum())} of {n} values are not positive, as a power law's must "
            "be; subtract nothing from the curve, or give a window in which it is positive."
        )
    if n < _FEWEST:
        raise ValueError(
            f"a broken power law needs at least {_FEWEST} points, but {n} are left; measure more "
            "often or widen the window."
        )
    generator = np.random.default_rng(seed)
    bounds = _bounds(curve)
    best, cost = least_squares(
        smoothly_broken_power_law, curve.u, curve.v, _starts(curve), bounds=bounds, iterations=100
    )
    parameters = best[int(np.argmin(cost))]
    value, jacobian = smoothly_broken_power_law(curve.u, parameters[None])
    residual = curve.v - value[0]
    noise = weigh_noise(residual, jacobian[0])
    again, cost = least_squares(
        smoothly_broken_power_law,
        curve.u,
        value[0] + noise.draw(_REFITS, n, generator),
        np.tile(parameters, (_REFITS, 1)),
        bounds=bounds,
        iterations=30,
    )
    again = again[np.isfinite(cost)]
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = np.quantile(again, tails, axis=0)
    step = again[:, 2] - again[:, 1]
    left, right = np.quantile(step, tails)
    early, late = float(parameters[1]), float(parameters[2])
    line = solve_line(curve)
    slope = float(line.parameters[1])
    straight = not departure(curve.u, line.residual, line.jacobian, slope, generator).significant
    bend = departure(curve.u, residual, jacobian[0], late, generator)
    is_broken, reason = True, ""
    if straight or left <= 0 <= right:
        is_broken = False
        reason = "no break: a plain power law describes the curve as well; fit that"
    elif bends(bend):
        is_broken = False
        reason = "the curve bends more than once; choose a window with a single crossover"
    elif not bounds[0][3] + 1e-3 < parameters[3] < bounds[1][3] - 1e-3:
        end, lost = ("start", "early") if parameters[3] < 0 else ("end", "late")
        reason = f"the crossover lies at the {end} of the window: it does not hold the {lost} law"
    centre = curve.centre
    about = curve.v - curve.v.mean()
    total = float(about @ about)
    return BrokenPowerLawFit(
        early=early,
        late=late,
        early_interval=(min(float(low[1]), early), max(float(high[1]), early)),
        late_interval=(min(float(low[2]), late), max(float(high[2]), late)),
        crossover=float(np.exp(parameters[3] + centre)),
        crossover_interval=(float(np.exp(low[3] + centre)), float(np.exp(high[3] + centre))),
        sharpness=float(np.exp(parameters[4])),
        prefactor=float(np.exp(parameters[0])),
        window=curve.window,
        is_broken=is_broken,
        reason=reason,
        r_squared=1.0 - float(residual @ residual) / total if total > 0 else 0.0,
        residual_correlation=noise.mean_correlation,
        num_points=n,
        confidence=confidence,
    )


def _bounds(curve: LogCurve) -> tuple[Array, Array]:
    u = curve.u
    sharpness = np.log(_SHARPNESS)
    free = np.inf
    low = np.array([-free, -free, -free, u[0], sharpness[0]])
    return low, np.array([free, free, free, u[-1], sharpness[1]])


def _starts(curve: LogCurve) -> Array:
    """Straight lines through the points before and after six breaks, at three sharpnesses."""
    u, v = curve.u, curve.v
    starts = []
    for share in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        crossover = u[0] + share * (u[-1] - u[0])
        split = int(np.clip(np.searchsorted(u, crossover), 3, len(u) - 3))
        before = -np.polyfit(u[:split], v[:split], 1)[0]
        after = -np.polyfit(u[split:], v[split:], 1)[0]
        level = float(np.interp(crossover, u, v))
        starts += [[level, before, after, crossover, np.log(s)] for s in (0.5, 1.5, 5.0)]
    return np.array(starts)
