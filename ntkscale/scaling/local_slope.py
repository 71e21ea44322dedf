"""The exponent from point to point, for pictures of crossovers."""

import numpy as np
from numpy.typing import ArrayLike

from ntkscale.scaling.curves import Array, log_curve


def local_slope(x: ArrayLike, y: ArrayLike, *, span: float = 0.5) -> tuple[Array, Array]:
    """Local exponent p of y ~ x^-p: a straight line through each point's neighbours.

    A line is fitted to the points within a factor of 10^(span/2) of each x (at least the nearest
    three points), so its noise is that of the points it holds. For a number to quote, with an
    interval, use ``fit_power_law`` in a window.

    Args:
        x, y: (n,) n >= 5, both positive, in any order.
        span: width of the neighbourhood in decades.

    Returns:
        x (n,) ascending and the exponent (n,) at each.

    Raises:
        ValueError: as ``fit_power_law``; also y not positive or span not positive.
    """
    if not span > 0:
        raise ValueError(f"span must be a positive number of decades, not {span}; 0.5 is usual.")
    curve = log_curve(x, y, None)
    if np.isnan(curve.v).any():
        raise ValueError("y must be positive to have a local exponent; drop the other points.")
    u, v = curve.u, curve.v
    half = span * np.log(10.0) / 2
    slopes = np.empty_like(u)
    for i, centre in enumerate(u):
        distance = np.abs(u - centre)
        # The third-nearest distinct x keeps the line determined where points are sparse.
        nearest = np.unique(distance)[:3].max()
        near = distance <= max(half, nearest) + 1e-12
        about = u[near] - u[near].mean()
        slopes[i] = -(about @ v[near]) / (about @ about)
    return np.exp(u + curve.centre), slopes
