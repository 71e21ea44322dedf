"""Runge-Kutta-Chebyshev: explicit steps for stiff gradient flows.

With s stages the step is stable to h rate = 0.65 s^2, where an ordinary method reaches s: products
with the state are all it needs, and long steps cost the square root of their stiffness. Second
order; formulas of Sommeijer, Shampine & Verwer 1997 (RKC).
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

DAMPING = 2 / 13


def step(
    slope: Callable[[Float[ndarray, "N K"]], Float[ndarray, "N K"]],
    state: Float[ndarray, "N K"],
    h: float,
    rate: float,
) -> tuple[Float[ndarray, "N K"], Float[ndarray, "N K"]]:
    """The state after h, and an estimate of the step's error in it, of order h^3.

    Args:
        slope: d state / dt, with eigenvalues on the negative real axis, or small.
        state: where to start; left as it is.
        h: step.
        rate: a bound of the eigenvalues' modulus; decides the number of stages.

    Cost: sqrt(1.54 h rate) + 2 slopes, five arrays of the state's size.
    """
    stages = max(2, 1 + math.ceil(math.sqrt(1 + 1.54 * h * rate)))
    w0 = 1 + DAMPING / stages**2
    # Chebyshev polynomials at w0 and their first two derivatives, by their recursions.
    t, dt, ddt = np.zeros((3, stages + 1))
    t[:2], dt[1] = (1, w0), 1
    for j in range(2, stages + 1):
        t[j] = 2 * w0 * t[j - 1] - t[j - 2]
        dt[j] = 2 * t[j - 1] + 2 * w0 * dt[j - 1] - dt[j - 2]
        ddt[j] = 4 * dt[j - 1] + 2 * w0 * ddt[j - 1] - ddt[j - 2]
    w1 = dt[-1] / ddt[-1]
    b = np.empty(stages + 1)
    b[2:] = ddt[2:] / dt[2:] ** 2
    b[0], b[1] = b[2], 1 / w0
    a = 1 - b * t
    first = slope(state)
    older, old = state, state + b[1] * w1 * h * first
    for j in range(2, stages + 1):
        mu, nu, scaled = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w1 / b[j - 1]
        new = (1 - mu - nu) * state + mu * old + nu * older
        new += h * scaled * (slope(old) - a[j - 1] * first)
        older, old = old, new
    defect = 0.8 * (state - old) + 0.4 * h * (first + slope(old))
    return old, defect
