"""alpha and beta of a kernel and a target, from eigenvalues and the target's power along them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.scaling.curves import FEWEST_POINTS, Array
from ntkscale.scaling.noise import weigh_noise

_DRAWS = 2000
_ROUNDING = 1e-12  # of the largest eigenvalue, or of the whole power
_TIED = 1e-6  # relative gap under which two eigenvalues have no order


@dataclass(frozen=True)
class SourceCapacity:
    """Source and capacity exponents of one kernel and one target.

    Attributes:
        alpha: eigenvalue_k ~ k^-alpha. Below 1 the trace sits in the far tail (see ``predict``).
        beta: power above k ~ eigenvalue_k^beta.
        alpha_interval, beta_interval: where they lie with probability ``confidence``: correlated
            residuals, and what the two exponents are in the first, middle and last half of the
            window (in log k), whichever reaches further; for beta also what it is when power k
            itself counts as remaining.
        window: first and last k used, 1-based and inclusive.
        alpha_r_squared, beta_r_squared: share of the variance of the logarithm explained.
        num_eigenvalues: how many eigenvalues are positive beyond rounding.
        confidence: probability the intervals are meant for.
    """

    alpha: float
    beta: float
    alpha_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    window: tuple[int, int]
    alpha_r_squared: float
    beta_r_squared: float
    num_eigenvalues: int
    confidence: float


def source_capacity(
    eigenvalues: ArrayLike,
    power: ArrayLike,
    *,
    tail: float = 0.0,
    window: tuple[int, int] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> SourceCapacity:
    """Fit alpha and beta by least squares on log-log axes over a window of indices.

    alpha: minus the slope of log eigenvalue_k on log k. beta: the slope of
    log(sum_(l > k) power_l + tail) on log eigenvalue_k. Eigenvalues equal to a millionth have no
    order among themselves (the cosine and the sine of one frequency), so their power is shared
    evenly between them: the result does not depend on how a solver turned them.

    The default window has a decade at least, and goes from k = 10 to a tenth of the P eigenvalues
    where that is more, since a sample of P points bends the spectrum beyond:
    (min(10, max(2, P / 30)), max(P / 10, min(P / 3, ten times the first))); P = 256 gives
    (8, 80), P = 4,096 gives (10, 409). It ends where eigenvalues or remaining power reach rounding.

    Args:
        eigenvalues: (P,) of the kernel matrix over P, in any order; sorted here, power with them.
            Zero and negative ones are not fitted, but their power counts as remaining.
        power: (P,) squared target coefficient on each eigenvector, summed over outputs.
        tail: target power known to lie beyond all of them, in units of ``power``. Without it the
            remaining power of a power-law target falls too fast towards the end.
        window: first and last k, 1-based and inclusive.
        confidence: of the intervals.
        seed: of the bootstrap.

    Source: arXiv 2409.17858 for the definitions. Cost: a sort and 2,000 noise curves, milliseconds.

    Raises:
        ValueError: shapes differ, numbers not finite, negative power or tail, a window outside the
            usable indices or of fewer than five, a confidence outside (0, 1).
    """
    values, strength, remaining, usable = _remaining_power(eigenvalues, power, tail)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}; 0.95 is usual.")
    first, last = _default_window(len(values), usable) if window is None else window
    if not 1 <= first <= last <= usable:
        raise ValueError(
            f"window {(first, last)} must lie within 1 to {usable}, where eigenvalues and the "
            "power above them are positive; choose a smaller one or give the tail."
        )
    if last - first + 1 < FEWEST_POINTS:
        raise ValueError(
            f"window {(first, last)} holds {last - first + 1} eigenvalues, but an exponent needs "
            f"{FEWEST_POINTS}; widen it or use more points."
        )
    k = np.arange(first, last + 1)
    log_k = np.log(k)
    log_value = np.log(values[first - 1 : last])
    log_remaining = np.log(remaining[first - 1 : last])
    # Whether power k itself counts as remaining is a convention: both lie in the interval.
    log_with_own = np.log(remaining[first - 1 : last] + strength[first - 1 : last])
    generator = np.random.default_rng(seed)
    alpha, alpha_interval, alpha_r2 = _slope(log_k, log_value, log_k, confidence, generator)
    beta, (low, high), beta_r2 = _slope(log_value, log_remaining, log_k, confidence, generator)
    own = _line(log_value, log_with_own)
    return SourceCapacity(
        alpha=-alpha,
        beta=beta,
        alpha_interval=(-alpha_interval[1], -alpha_interval[0]),
        beta_interval=(min(low, own), max(high, own)),
        window=(int(first), int(last)),
        alpha_r_squared=alpha_r2,
        beta_r_squared=beta_r2,
        num_eigenvalues=int((values > _ROUNDING * values[0]).sum()),
        confidence=confidence,
    )


def _remaining_power(
    eigenvalues: ArrayLike, power: ArrayLike, tail: float
) -> tuple[Array, Array, Array, int]:
    """Descending eigenvalues, power of each, power above it plus tail, number of usable indices."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    strength = np.asarray(power, dtype=np.float64)
    if values.ndim != 1 or values.shape != strength.shape:
        raise ValueError(
            f"eigenvalues and power must be two lists of equal length, but have shapes "
            f"{values.shape} and {strength.shape}; sum the power over outputs."
        )
    if len(values) < FEWEST_POINTS:
        raise ValueError(
            f"alpha and beta need at least {FEWEST_POINTS} eigenvalues, not {len(values)}; use a "
            "larger probe set."
        )
    if not (np.isfinite(values).all() and np.isfinite(strength).all() and np.isfinite(tail)):
        raise ValueError(
            "eigenvalues, power or tail hold a number that is not finite; look for an overflow in "
            "the kernel or the targets."
        )
    if (strength < 0).any() or tail < 0:
        raise ValueError(
            "power and tail are squared coefficients and cannot be negative; pass squares."
        )
    order = np.argsort(-values, kind="stable")
    values, strength = values[order], strength[order]
    if values[0] <= 0:
        raise ValueError("no eigenvalue is positive: this is not a kernel's spectrum; check it.")
    strength = _share_among_equals(values, strength)
    total = float(strength.sum()) + tail
    # Summed from the small end, so that the last entries keep their digits.
    remaining = np.append(np.cumsum(strength[::-1])[::-1][1:], 0.0) + tail
    usable = int(np.argmin(np.append(values > _ROUNDING * values[0], False)))
    usable = min(usable, int(np.argmin(np.append(remaining > _ROUNDING * total, False))))
    return values, strength, remaining, usable


def _share_among_equals(values: Array, strength: Array) -> Array:
    """Replace the power of every run of equal eigenvalues by its mean over the run."""
    new_run = np.append(True, values[:-1] - values[1:] > _TIED * np.abs(values[:-1]))
    run = np.cumsum(new_run) - 1
    return (np.bincount(run, weights=strength) / np.bincount(run))[run]


def _default_window(count: int, usable: int) -> tuple[int, int]:
    first = min(10, max(2, count // 30))
    last = max(count // 10, min(count // 3, 10 * first))
    last = min(last, usable)
    # Tiny problems: what there is.
    return (first, last) if last - first + 1 >= FEWEST_POINTS else (1, usable)


def _slope(
    x: Array, y: Array, log_k: Array, confidence: float, generator: np.random.Generator
) -> tuple[float, tuple[float, float], float]:
    """Slope of y on x, its interval (noise and choice of window), and r squared."""
    n = len(x)
    design = np.column_stack([np.ones(n), x - x.mean()])
    solve = np.linalg.pinv(design)
    fitted = solve @ y
    residual = y - design @ fitted
    # The noise is weighed beside log k, which is smooth: beside a staircase of paired eigenvalues
    # the zigzag of the residual would look like a part of the law.
    smooth = np.column_stack([np.ones(n), log_k - log_k.mean()])
    shifts = weigh_noise(residual, smooth).draw(_DRAWS, n, generator) @ solve[1]
    slope = float(fitted[1])
    low, high = slope - np.quantile(shifts, [0.5 + confidence / 2, 0.5 - confidence / 2])
    candidates = [slope, float(low), float(high)]
    for start in (0.0, 0.25, 0.5):
        edges = log_k[0] + (log_k[-1] - log_k[0]) * np.array([start, start + 0.5])
        part = (log_k >= edges[0] - 1e-9) & (log_k <= edges[1] + 1e-9)
        if part.sum() >= FEWEST_POINTS and np.ptp(x[part]) > 0:
            candidates.append(_line(x[part], y[part]))
    variance = float(((y - y.mean()) ** 2).sum())
    r_squared = 1.0 - float(residual @ residual) / variance if variance > 0 else 0.0
    return slope, (min(candidates), max(candidates)), r_squared


def _line(x: Array, y: Array) -> float:
    about = x - x.mean()
    return float(about @ y / (about @ about))
