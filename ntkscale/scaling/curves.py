"""Log-log curves as arrays, and least squares for the laws that are not straight lines there.

Everything is fitted to log y: an exponent is a slope there, and a loss that falls over decades has
relative, not absolute, errors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Law = Callable[[Array, Array], tuple[Array, Array]]
"""(u (n,), parameters (B, k)) -> log y (B, n) and its derivative (B, n, k); nan where impossible"""

FEWEST_POINTS = 5


@dataclass(frozen=True)
class LogCurve:
    """A curve in log-log coordinates, abscissa ascending.

    Attributes:
        u: (n,) log x minus ``centre``.
        v: (n,) log y; nan where y is not positive.
        centre: mean of log x, subtracted so that the prefactor and the exponent decorrelate.
    """

    u: Array
    v: Array
    centre: float

    @property
    def window(self) -> tuple[float, float]:
        """Smallest and largest x."""
        return float(np.exp(self.u[0] + self.centre)), float(np.exp(self.u[-1] + self.centre))

    def part(self, start: int, stop: int) -> "LogCurve":
        """Points ``start`` to ``stop`` (exclusive) as a curve of their own."""
        u = self.u[start:stop]
        shift = float(u.mean())
        return LogCurve(u - shift, self.v[start:stop], self.centre + shift)


def log_curve(x: ArrayLike, y: ArrayLike, window: tuple[float, float] | None) -> LogCurve:
    """Read, check, cut to ``window`` (inclusive, in units of x) and sort one curve.

    Raises:
        ValueError: shapes differ, a number is not finite, x is not positive, the window is empty
            or fewer than five points are left.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"x and y must be one curve of equal length, but have shapes {x.shape} and {y.shape}; "
            "fit one curve at a time."
        )
    if window is not None:
        low, high = window
        if not low < high:
            raise ValueError(f"window {window} is empty: give (first x, last x) with first < last.")
        # A relative hair of slack, so that a window printed by an earlier fit keeps its end points.
        inside = (x >= low * (1 - 1e-9)) & (x <= high * (1 + 1e-9))
        x, y = x[inside], y[inside]
    if len(x) < FEWEST_POINTS:
        where = "" if window is None else f" in window {window}"
        raise ValueError(
            f"an exponent needs at least {FEWEST_POINTS} points, but {len(x)} are left{where}; "
            "measure more often or widen the window."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        bad = int(np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))[0])
        raise ValueError(
            f"point {bad} of the curve is (x = {x[bad]}, y = {y[bad]}); drop what is not finite."
        )
    if (x <= 0).any():
        raise ValueError(
            f"x must be positive on a logarithmic axis, but its smallest value is {x.min():g}; "
            "drop that point or give a window that begins later."
        )
    if x.min() == x.max():
        raise ValueError(f"all x are {x.min():g}: an exponent needs two different x at least.")
    order = np.argsort(x, kind="stable")
    u = np.log(x[order])
    centre = float(u.mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.where(y > 0, np.log(y), np.nan)[order]
    return LogCurve(u - centre, v, centre)


def power_law(u: Array, parameters: Array) -> tuple[Array, Array]:
    """Straight line a - p u, parameters (a, p)."""
    a, p = parameters.T[:, :, None]
    slopes = np.stack([np.ones_like(u), -u], axis=-1)
    return a - p * u, np.broadcast_to(slopes, (len(parameters), *slopes.shape))


def power_law_with_offset(u: Array, parameters: Array) -> tuple[Array, Array]:
    """log(exp(a - p u) + c), parameters (a, p, c); c may be negative while the sum is positive."""
    a, p, c = parameters.T[:, :, None]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        falling = np.exp(a - p * u)
        total = np.where(falling + c > 0, falling + c, np.nan)
        share = falling / total
        return np.log(total), np.stack([share, -u * share, 1.0 / total], axis=-1)


def smoothly_broken_power_law(u: Array, parameters: Array) -> tuple[Array, Array]:
    """Two straight lines joined smoothly, parameters (a, early, late, break, log s).

    v = a - early w - (late - early) / s log((1 + exp(s w)) / 2), w = u - break: the local
    exponent moves from early to late within about 2 / s of log x on either side.
    """
    a, early, late, crossover, log_s = parameters.T[:, :, None]
    with np.errstate(over="ignore", invalid="ignore"):
        s = np.exp(log_s)
        w = u - crossover
        bend = (np.logaddexp(0.0, s * w) - np.log(2.0)) / s
        passed = 0.5 * (1.0 + np.tanh(0.5 * s * w))
        v = a - early * w - (late - early) * bend
        gradient = [
            np.ones_like(w),
            bend - w,
            -bend,
            early + (late - early) * passed,
            -(late - early) * (w * passed - bend),
        ]
        return v, np.stack(gradient, axis=-1)


def least_squares(
    law: Law,
    u: Array,
    data: Array,
    start: Array,
    *,
    bounds: tuple[Array, Array] | None = None,
    iterations: int = 60,
) -> tuple[Array, Array]:
    """Levenberg-Marquardt for many data sets, or many starts, at once.

    Args:
        data: (B, n) or (n,) log y.
        start: (B, k) parameters at which the law is possible.
        bounds: (k,) lower and upper; steps are clipped to them.

    Returns:
        parameters (B, k) and sums of squares (B,). A start at which the law is impossible comes
        back as it was, with an infinite sum.

    Cost: ``iterations`` evaluations of the law and B solves of k x k.
    """
    data = np.broadcast_to(data, (len(start), len(u)))
    best = np.array(start, dtype=np.float64)
    value, jacobian = law(u, best)
    residual = data - value
    cost = _sum_of_squares(residual)
    damping = np.full(len(best), 1e-3)
    settled = ~np.isfinite(cost)
    diagonal = np.arange(best.shape[1])
    for _ in range(iterations):
        live = np.flatnonzero(~settled)
        if not len(live):
            break
        j, r = jacobian[live], residual[live]
        normal = np.einsum("bnk,bnl->bkl", j, j)
        scale = np.maximum(normal[:, diagonal, diagonal], 1e-12)
        normal[:, diagonal, diagonal] += damping[live, None] * scale + 1e-300
        step = np.linalg.solve(normal, np.einsum("bnk,bn->bk", j, r)[..., None])[..., 0]
        trial = best[live] + step
        if bounds is not None:
            trial = np.clip(trial, *bounds)
        value, slopes = law(u, trial)
        error = data[live] - value
        trial_cost = _sum_of_squares(error)
        better = trial_cost < cost[live]
        gained = live[better]
        small = trial_cost[better] > cost[gained] * (1 - 1e-10)
        best[gained], cost[gained] = trial[better], trial_cost[better]
        jacobian = np.array(jacobian)
        residual = np.array(residual)
        jacobian[gained], residual[gained] = slopes[better], error[better]
        damping[gained] *= 0.3
        damping[live[~better]] *= 5.0
        settled[gained[small]] = True
        settled |= damping > 1e12
    return best, cost


def _sum_of_squares(residual: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        total = (residual**2).sum(axis=-1)
    return np.where(np.isfinite(total), total, np.inf)


@dataclass(frozen=True)
class Solution:
    """A fitted window: parameters (k,), residuals (n,), derivative (n, k)."""

    curve: LogCurve
    parameters: Array
    residual: Array
    jacobian: Array


def solve_line(curve: LogCurve) -> Solution:
    """Least squares of log y by a straight line, parameters (a, p): log y = a - p u."""
    slope = float(curve.u @ curve.v / (curve.u @ curve.u))
    parameters = np.array([curve.v.mean(), -slope])
    value, jacobian = power_law(curve.u, parameters[None])
    return Solution(curve, parameters, curve.v - value[0], np.array(jacobian[0]))
