"""y ~ prefactor x^-exponent (+ offset), with an interval, a window, and the right to refuse."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.scaling.curves import (
    Array,
    LogCurve,
    Solution,
    log_curve,
    solve_line,
)
from ntkscale.scaling.departure import Departure, departure
from ntkscale.scaling.noise import weigh_noise
from ntkscale.scaling.offset import last_value, plateau_reason, refit_offset, solve_offset
from ntkscale.scaling.windows import Window, bends, choose_window, describe_bend

_DRAWS = 2000
_VISIBLE_OFFSET = 0.1  # share of the last value below which an offset is an extrapolation
_NO_OFFSET = (0.0, (0.0, 0.0))
_MORE_SCATTER_THAN_TREND = 0.3  # r_squared


@dataclass(frozen=True)
class PowerLawFit:
    """A power law fitted to one curve, or the reason why there is none.

    Attributes:
        exponent: p in y ~ prefactor x^-p + offset; negative for growth. Kept when the law is
            refused, nan only where no line can be drawn.
        interval: where the exponent lies with probability ``confidence``. It allows for residuals
            correlated from point to point, and spans the local exponents of a curve whose bend is
            more than noise.
        prefactor: in units of y at x = 1.
        offset: 0 unless asked for and supported by the data, in units of y.
        offset_interval: its interval; (0, 0) when no offset was fitted.
        window: first and last x used.
        is_power_law: whether to believe the exponent.
        reason: why not; or, for an accepted law, what is worth knowing (empty: nothing).
        r_squared: share of the variance of log y that the law explains.
        residual_correlation: correlation of neighbouring residuals of log y.
        local_exponents: exponent in the first, middle and last third of the window (in log x).
        num_points: number of points in the window.
        confidence: probability the intervals are meant for.
    """

    exponent: float
    interval: tuple[float, float]
    prefactor: float
    offset: float
    offset_interval: tuple[float, float]
    window: tuple[float, float]
    is_power_law: bool
    reason: str
    r_squared: float
    residual_correlation: float
    local_exponents: tuple[float, float, float]
    num_points: int
    confidence: float

    def __call__(self, x: ArrayLike) -> Array:
        """The fitted law at ``x``, same shape."""
        x = np.asarray(x, dtype=np.float64)
        return self.prefactor * x**-self.exponent + self.offset


def fit_power_law(
    x: ArrayLike,
    y: ArrayLike,
    *,
    offset: bool = False,
    window: tuple[float, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> PowerLawFit:
    """Fit y ~ prefactor x^-exponent, or prefactor x^-exponent + offset, by least squares in log y.

    The interval is a bootstrap: noise curves as correlated as the residuals, whose correlation and
    variance are themselves uncertain, are added to the fitted law and fitted again. Give a curve
    sampled evenly in log x; the noise is taken as stationary from point to point.

    With ``offset`` the offset is kept only if its interval excludes zero and it makes up a tenth
    of the last value; otherwise the plain law is returned, the reason says so, and the interval
    spans both models. Without it a curve that levels off is refused.

    Args:
        x, y: (n,) arrays, tensors or lists, n >= 5, x > 0, in any order.
        window: first and last x to use; by default the data choose (see ``choose_window``).
        confidence: of the intervals.
        seed: of the bootstrap; the same seed gives the same interval.

    Raises:
        ValueError: shapes differ, fewer than five points, x not positive, a number not finite,
            an empty window, a confidence outside (0, 1).

    Cost: some ten milliseconds for hundreds of points; a few hundred with ``offset``, or when the
    window has to be searched.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}; 0.95 is usual.")
    curve = log_curve(x, y, window)
    missing = int(np.isnan(curve.v).sum())
    if missing:
        return _refuse_signs(curve, missing, confidence)
    generator = np.random.default_rng(seed)
    with_offset = _fit_with_offset(curve, window is None, confidence, generator) if offset else None
    if with_offset is not None and with_offset.unsupported is None:
        return with_offset.fit
    generator = np.random.default_rng(seed)  # the plain fit is the same whatever came before
    found = _window(curve, False, window is None, generator)
    s = solve_line(curve.part(found.start, found.stop))
    fit = _report_line(s, found, confidence, generator)
    if with_offset is None:
        plateau = plateau_reason(s, found.bend, generator) if fit.is_power_law else ""
        return replace(fit, is_power_law=False, reason=plateau) if plateau else fit
    other = with_offset.fit
    both = fit.interval
    if other.offset > 0:
        both = min(both[0], other.interval[0]), max(both[1], other.interval[1])
    return replace(
        fit,
        interval=both,
        offset_interval=other.offset_interval,
        reason="; ".join(filter(None, [fit.reason, with_offset.unsupported])),
    )


@dataclass(frozen=True)
class _OffsetFit:
    """A fit with an offset, and why the data do not support the offset (None: they do)."""

    fit: PowerLawFit
    unsupported: str | None


def _window(curve: LogCurve, offset: bool, search: bool, generator: np.random.Generator) -> Window:
    def measure(part: LogCurve) -> Departure:
        s = (solve_offset if offset else solve_line)(part)
        return departure(part.u, s.residual, s.jacobian, float(s.parameters[1]), generator)

    if search:
        return choose_window(curve, measure)
    bend = measure(curve)
    holds = not bends(bend)
    return Window(
        0, len(curve.u), bend, holds, "" if holds else f"no power law: {describe_bend(bend)}"
    )


def _report_line(
    s: Solution, found: Window, confidence: float, generator: np.random.Generator
) -> PowerLawFit:
    noise = weigh_noise(s.residual, s.jacobian)
    shifts = noise.draw(_DRAWS, len(s.residual), generator) @ np.linalg.pinv(s.jacobian)[1]
    exponent = float(s.parameters[1])
    return _report(s, found, exponent - shifts, noise.mean_correlation, _NO_OFFSET, confidence)


def _fit_with_offset(
    curve: LogCurve, search: bool, confidence: float, generator: np.random.Generator
) -> _OffsetFit:
    # In units of the curve's own size, so that the offset's starts and steps are of order one.
    size = float(curve.v.mean())
    unit = float(np.exp(size))
    curve = LogCurve(curve.u, curve.v - size, curve.centre)
    found = _window(curve, True, search, generator)
    s = solve_offset(curve.part(found.start, found.stop))
    noise = weigh_noise(s.residual, s.jacobian)
    again = refit_offset(s, noise, generator)
    c = float(s.parameters[2])
    low, high = (float(edge) for edge in np.quantile(again[:, 2], _tails(confidence)))
    share = c / last_value(s)
    unsupported = None
    if c <= 0:
        unsupported = "the curve does not level off, so no offset was fitted"
    elif low <= 0:
        unsupported = "the interval of the offset includes zero, so none was fitted"
    elif share < _VISIBLE_OFFSET:
        unsupported = (
            f"a fitted offset would be {share:.0%} of the last value, an extrapolation, so none "
            "was fitted"
        )
    s = replace(
        s,
        curve=LogCurve(s.curve.u, s.curve.v + size, s.curve.centre),
        parameters=s.parameters + np.array([size, 0.0, 0.0]),
    )
    offsets = (c * unit, (low * unit, high * unit))
    fit = _report(s, found, again[:, 1], noise.mean_correlation, offsets, confidence)
    return _OffsetFit(fit, unsupported)


def _report(
    s: Solution,
    found: Window,
    exponents: Array,
    correlation: float,
    offset: tuple[float, tuple[float, float]],
    confidence: float,
) -> PowerLawFit:
    exponent = float(s.parameters[1])
    interval = _interval(exponents, exponent, confidence)
    bend = found.bend
    if bend.significant:
        interval = (min(interval[0], *bend.exponents), max(interval[1], *bend.exponents))
    about = s.curve.v - s.curve.v.mean()
    total = float(about @ about)
    r_squared = 1.0 - float(s.residual @ s.residual) / total if total > 0 else 0.0
    low, high = np.quantile(exponents, [0.005, 0.995])
    if not found.holds:
        accepted, reason = False, found.reason
    elif low <= 0 <= high or total == 0:
        accepted = False
        reason = f"no trend: the exponent {exponent:.3g} cannot be told from zero"
    elif r_squared < _MORE_SCATTER_THAN_TREND:
        accepted = False
        reason = f"the scatter exceeds the trend: a power law explains {r_squared:.0%} of log y"
    else:
        accepted, reason = True, found.reason
        if bend.significant and not reason:
            reason = f"slight bend, spanned by the interval: {describe_bend(bend)}"
    with np.errstate(over="ignore"):
        prefactor = float(np.exp(s.parameters[0] + exponent * s.curve.centre))
    return PowerLawFit(
        exponent=exponent,
        interval=interval,
        prefactor=prefactor,
        offset=offset[0],
        offset_interval=offset[1],
        window=s.curve.window,
        is_power_law=accepted,
        reason=reason,
        r_squared=r_squared,
        residual_correlation=correlation,
        local_exponents=bend.exponents,
        num_points=len(s.residual),
        confidence=confidence,
    )


def _tails(confidence: float) -> list[float]:
    return [0.5 - confidence / 2, 0.5 + confidence / 2]


def _interval(exponents: Array, exponent: float, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(exponents, _tails(confidence))
    return min(float(low), exponent), max(float(high), exponent)


def _refuse_signs(curve: LogCurve, missing: int, confidence: float) -> PowerLawFit:
    nan = float("nan")
    return PowerLawFit(
        exponent=nan,
        interval=(nan, nan),
        prefactor=nan,
        offset=0.0,
        offset_interval=(0.0, 0.0),
        window=curve.window,
        is_power_law=False,
        reason=f"{missing} of {len(curve.u)} values are not positive, as a power law's must be",
        r_squared=nan,
        residual_correlation=nan,
        local_exponents=(nan, nan, nan),
        num_points=len(curve.u),
        confidence=confidence,
    )
