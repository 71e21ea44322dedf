"""The reduced flow for one output: steps in log tau, the lazy time, and R a number.

With R^-1 = x, R^2 = kappa = x^-2, in the clock d tau = kappa dt that takes the growth of the kernel
out, the flow is linear once x(tau) is known,

    y' = s (theta x - y),   d = theta x - y,   d' = theta x' - s d,   kappa = 1 + gamma |y|^2

and in a step on which x is linear the new |y|^2 is a quadratic polynomial of the new x: the
implicit equation x^2 (1 + gamma |y|^2) = 1 costs a few scalar operations.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def integrate(
    eigenvalues: Float[ndarray, "M"],
    target: Float[ndarray, "M 1"],
    count: Float[ndarray, "M"],
    gamma: float,
    times: Float[ndarray, "T"],
    start: float,
    step: float,
    progress: Callable[[int, int], object] | None,
) -> tuple[Float[ndarray, "T M 1"], Float[ndarray, "T"], Float[ndarray, "T"]]:
    """theta - c, kernel scale and lazy time at the times; steps equal in log tau from `start`."""
    state = OneOutput(eigenvalues, target, count, gamma)
    residual = np.empty((len(times), *target.shape))
    scale, lazy_time = np.ones(len(times)), np.zeros(len(times))
    residual[times == 0] = target
    done = int((times == 0).sum())
    width = tau = min(start, times[done]) if done < len(times) else start
    while done < len(times):
        reached = state.advance(width)
        while done < len(times) and times[done] <= reached:
            residual[done], scale[done], into = state.inside(times[done])
            lazy_time[done] = tau - width + into
            done += 1
        if progress is not None:
            progress(done, len(times))
        width = np.expm1(step) * tau
        tau += width
    return residual, scale, lazy_time


class OneOutput:
    """State of the flow at the end of the last step, and how it got there."""

    def __init__(
        self,
        eigenvalues: Float[ndarray, "M"],
        target: Float[ndarray, "M 1"],
        count: Float[ndarray, "M"],
        gamma: float,
    ) -> None:
        self.eigenvalues = eigenvalues
        self.target = target[:, 0]
        self.count = count
        self.gamma = gamma
        self.y = np.zeros(len(eigenvalues))
        self.d = self.target.copy()
        self.x = 1.0
        self.time = 0.0

    def advance(self, width: float) -> float:
        """Take a step of tau; the flow time reached."""
        self.d_before, self.x_before, self.time_before = self.d, self.x, self.time
        z = self.eigenvalues * width
        decayed = -np.expm1(-z)
        share = _mean_decay(z, decayed)
        known, slope = decayed * self.d, (1 - share) * self.target
        x_step = self._x_step(self.y + known, slope)
        self.y = self.y + known + x_step * slope
        self.d = np.exp(-z) * self.d + x_step * share * self.target
        self.x += x_step
        self.rate = x_step / width
        self.width = width
        self.time += _elapsed(self.x_before, self.rate, width)
        return self.time

    def inside(self, time: float) -> tuple[Float[ndarray, "M 1"], float, float]:
        """theta - c, kernel scale and tau since the step began, at a time within the last step."""
        into = self.width
        if time < self.time:
            into *= (time - self.time_before) / (self.time - self.time_before)
            for _ in range(50):  # Newton; the elapsed time is convex or concave in tau
                x = self.x_before + self.rate * into
                miss = _elapsed(self.x_before, self.rate, into) - (time - self.time_before)
                into -= miss / x**2
                if abs(miss) <= 1e-14 * time:
                    break
            into = min(max(into, 0.0), self.width)
        x = self.x_before + self.rate * into
        z = self.eigenvalues * into
        decayed = -np.expm1(-z)
        moved = self.rate * into * _mean_decay(z, decayed) * self.target
        d = np.exp(-z) * self.d_before + moved
        return (d / x)[:, None], x**-2, into

    def _x_step(self, y: Float[ndarray, "M"], slope: Float[ndarray, "M"]) -> float:
        """The change u of x that ends at (x + u)^2 (1 + gamma |y + u slope|^2) = 1."""
        if self.gamma == 0:
            return 0.0
        weighted = self.count * slope
        constant = 1 + self.gamma * float(self.count @ np.square(y))
        linear = 2 * self.gamma * float(weighted @ y)
        square = self.gamma * float(weighted @ slope)
        # The product of two increasing functions of x where both are positive: one root. It is
        # looked for in log x, from above.
        low, high = -self.x, self.x
        u = 0.0
        for _ in range(200):
            x, kappa = self.x + u, constant + u * (linear + u * square)
            miss = x * x * kappa - 1
            if miss > 0:
                high = u
            else:
                low = u
            derivative = 2 * x * kappa + x * x * (linear + 2 * u * square)
            new = u - miss / derivative if derivative > 0 else np.inf
            if not low < new < high:
                new = (low + high) / 2
            if abs(new - u) <= 4e-16 * x:
                return new
            u = new
        return u


def _mean_decay(z: Float[ndarray, "M"], decayed: Float[ndarray, "M"]) -> Float[ndarray, "M"]:
    """(1 - exp(-z)) / z."""
    return np.divide(decayed, z, out=np.ones_like(z), where=z > 0)


def _elapsed(x: float, rate: float, width: float) -> float:
    """Flow time of a piece of tau, the integral of 1 / kappa = (x + rate tau)^2."""
    end = x + rate * width
    return width * (x * x + x * end + end * end) / 3
