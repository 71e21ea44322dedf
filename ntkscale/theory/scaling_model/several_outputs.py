"""The reduced flow for C outputs: steps in log t, implicit in the C x C matrix R.

With A = R^T R held at its mean over a step and X = R^-1 linear in t, every row of y and
d = X theta - y has a closed form in the eigenbasis of A:

    d' = X' theta - s A d,   y' = s A d

R itself follows R^T R' = gamma y' y^T by the midpoint rule, which keeps the conservation law
R^T R = 1 + gamma y y^T exactly. The equation for R is solved by Anderson's mixing from an
extrapolated guess: plain iteration swings with ratio gamma z / (1 + gamma z), just below one.
Steps end at the times asked for: what is read between the ends of a step does not extrapolate.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

TOLERANCE = 1e-13
ITERATIONS = 200
MEMORY = 8
FIRST = 0.2
"""Coarsest step in log t, halved as a whole so that errors of the steps extrapolate."""


def integrate(
    eigenvalues: Float[ndarray, "M"],
    target: Float[ndarray, "M C"],
    count: Float[ndarray, "M"],
    gamma: float,
    times: Float[ndarray, "T"],
    start: float,
    step: float,
    progress: Callable[[int, int], object] | None,
) -> tuple[Float[ndarray, "T M C"], Float[ndarray, "T"], Float[ndarray, "T"]]:
    """theta - c, kernel scale and lazy time at the times; steps of at most `step` in log t."""
    state = SeveralOutputs(eigenvalues, target, count, gamma)
    residual = np.empty((len(times), *target.shape))
    scale, lazy_time = np.ones(len(times)), np.zeros(len(times))
    for i, time in enumerate(times):
        if time > state.time:
            first = state.time or min(start, time)
            steps = round(np.ceil(np.log(time / first) / FIRST) * FIRST / step)
            nodes = np.geomspace(first, time, steps + 1)
            for node in nodes if state.time == 0 else nodes[1:]:
                state.advance(node - state.time)
            state.time = float(time)
        residual[i] = state.d @ state.R.T
        scale[i], lazy_time[i] = _scale(state.R), state.lazy_time
        if progress is not None:
            progress(i + 1, len(times))
    return residual, scale, lazy_time


class SeveralOutputs:
    """State of the flow at the end of the last step, and how it got there."""

    def __init__(
        self,
        eigenvalues: Float[ndarray, "M"],
        target: Float[ndarray, "M C"],
        count: Float[ndarray, "M"],
        gamma: float,
    ) -> None:
        self.eigenvalues = eigenvalues[:, None]
        self.target = target
        self.count = count[:, None]
        self.gamma = gamma
        self.y = np.zeros_like(target)
        self.d = target.copy()
        self.R = np.eye(target.shape[1])
        self.X = np.eye(target.shape[1])
        self.time = self.lazy_time = 0.0
        self.slope = np.zeros_like(self.R)

    def advance(self, width: float) -> None:
        """Take a step of that flow time."""
        self.R_before, self.X_before, self.width = self.R, self.X, width
        R = self.R if self.gamma == 0 else self._solve(self.R + width * self.slope)
        self.slope = (R - self.R_before) / width
        moved, self.d = self._move(R)
        self.y = self.y + moved
        self.R, self.X = R, np.linalg.inv(R)
        self.time += width
        self.lazy_time += width * (_scale(self.R_before) + _scale(R)) / 2

    def _move(
        self, R: Float[ndarray, "C C"]
    ) -> tuple[Float[ndarray, "M C"], Float[ndarray, "M C"]]:
        """Change of y, and the new d, if the step ends at R."""
        values, vectors = np.linalg.eigh((self.R_before.T @ self.R_before + R.T @ R) / 2)
        z = self.eigenvalues * (self.width * values)
        decayed = -np.expm1(-z)
        kept = np.divide(decayed, z, out=np.ones_like(z), where=z > 0)
        d = self.d @ vectors
        pushed = self.target @ ((np.linalg.inv(R) - self.X_before).T @ vectors)
        moved = decayed * d + (1 - kept) * pushed
        return moved @ vectors.T, (np.exp(-z) * d + kept * pushed) @ vectors.T

    def _solve(self, R: Float[ndarray, "C C"]) -> Float[ndarray, "C C"]:
        """R at the end of the step: the fixed point of the midpoint rule."""
        size = R.shape
        tried: list[ndarray] = []
        misses: list[ndarray] = []
        x = R.ravel()
        miss = x
        for _ in range(ITERATIONS):
            R = x.reshape(size)
            moved, _ = self._move(R)
            push = self.gamma * (self.count * moved).T @ (self.y + moved / 2)
            half = (self.R_before + R) / 2
            miss = (self.R_before + np.linalg.solve(half.T, push)).ravel() - x
            if np.linalg.norm(miss) <= TOLERANCE * np.linalg.norm(x):
                return R
            tried.append(x)
            misses.append(miss)
            del tried[:-MEMORY], misses[:-MEMORY]
            x = x + miss / 2
            if len(tried) > 1:
                d_miss = np.diff(np.stack(misses), axis=0).T
                d_tried = np.diff(np.stack(tried), axis=0).T
                weights = np.linalg.lstsq(d_miss, miss, rcond=None)[0]
                x = x - (d_tried + d_miss / 2) @ weights
        raise ArithmeticError(
            f"the growth of the kernel did not settle at time {self.time:.3g} (still "
            f"{np.linalg.norm(miss) / np.linalg.norm(x):.1g} off, relative); use a smaller gamma."
        )


def _scale(R: Float[ndarray, "C C"]) -> float:
    """tr(R^T R) / C."""
    return float(np.square(R).sum() / len(R))
