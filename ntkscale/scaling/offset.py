"""Curves that level off: y ~ prefactor x^-exponent + offset, and when to suspect one."""

import numpy as np

from ntkscale.scaling.curves import (
    Array,
    LogCurve,
    Solution,
    least_squares,
    power_law_with_offset,
)
from ntkscale.scaling.departure import Departure
from ntkscale.scaling.noise import Noise, weigh_noise

_REFITS = 400
_SUSPICIOUS = 0.3  # chance of a bend above which no plateau is looked for
_PLATEAU = 0.2  # share of the last value from which an offset is called a plateau
_BIASED = 0.08  # of the exponent: what a plateau may take away before the plain law is refused


def solve_offset(curve: LogCurve) -> Solution:
    """Least squares of log y, parameters (a, p, c): log y = log(exp(a - p u) + c).

    Wants log y of order one (mean subtracted): c starts between minus and plus the low end of y.
    """
    u, v = curve.u, curve.v
    lowest = np.exp(np.quantile(v, 0.1))
    starts = []
    for share in (-1.0, 0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 1.0):
        c = share * lowest
        above = np.exp(v) - c
        good = above > 1e-3 * lowest
        # An error of log y counts y / (y - c) times in log(y - c).
        weight = np.where(good, above / np.exp(v), 0.0)
        basis = np.column_stack([np.ones_like(u), -u])
        a, p = np.linalg.lstsq(
            basis * weight[:, None], np.log(np.where(good, above, 1.0)) * weight, rcond=None
        )[0]
        starts.append([a, p, c])
    best, cost = least_squares(power_law_with_offset, u, v, np.array(starts))
    parameters = best[int(np.argmin(cost))]
    value, jacobian = power_law_with_offset(u, parameters[None])
    return Solution(curve, parameters, v - value[0], np.array(jacobian[0]))


def refit_offset(s: Solution, noise: Noise, generator: np.random.Generator) -> Array:
    """Parameters (<= 400, 3) of the law with offset fitted again under drawn noise."""
    again, cost = least_squares(
        power_law_with_offset,
        s.curve.u,
        s.curve.v - s.residual + noise.draw(_REFITS, len(s.residual), generator),
        np.tile(s.parameters, (_REFITS, 1)),
        iterations=30,
    )
    return again[np.isfinite(cost)]


def last_value(s: Solution) -> float:
    """Smallest value of the fitted curve, against which an offset is measured."""
    return float(np.exp((s.curve.v - s.residual).min()))


def plateau_reason(line: Solution, bend: Departure, generator: np.random.Generator) -> str:
    """Why an offset describes a seemingly straight curve better; empty when it does not."""
    first, _, last = bend.exponents
    if bend.chance > _SUSPICIOUS or abs(last) > abs(first):
        return ""
    curve = LogCurve(line.curve.u, line.curve.v - line.curve.v.mean(), line.curve.centre)
    s = solve_offset(curve)
    exponent, c = s.parameters[1:].tolist()
    share = c / last_value(s)
    plain = float(line.parameters[1])
    if share < _PLATEAU or abs(exponent - plain) < _BIASED * abs(exponent):
        return ""
    again = refit_offset(s, weigh_noise(s.residual, s.jacobian), generator)
    if np.quantile(again[:, 2], 0.005) <= 0:
        return ""
    return (
        f"the curve levels off: an offset of {share:.0%} of its last value would make the exponent "
        f"{exponent:.3g} instead of {plain:.3g}; fit offset=True, or give the window in which a "
        "plain power law is meant"
    )
