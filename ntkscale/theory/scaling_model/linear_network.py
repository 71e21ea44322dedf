"""Gradient flow of the two-layer linear network: both layers trained, no projection.

    f = W A psi / N,  dW/dt = G A^T,  dA/dt = gamma W^T G,  G = (w* - W A / N) diag(lambda)

with W (C, N) from 0 and A (N, M) from N(0, 1). A neuron, a row (A_i, sqrt(gamma) W_i), is moved by
sqrt(gamma) [[0, G^T], [G, 0]]: a boost of the group O(M, C). The moments of infinitely many neurons
start from diag(1, 0) = diag(1, -1) + diag(0, 1), and boosts keep the first term. So moments are
diag(1, -1) + u u^T at all times, u (M + C, C) the boosted unit vectors of the outputs: what is left
of M^2 numbers is the flow of `flow`, exactly. A(0)^T A(0) / N is the identity there, and projected
descent the same as plain descent.

At finite width they part. Projected descent stays within the N initial features: it is stuck at
N^-(alpha min(1, beta)). Here gamma W W^T / N, the other half of the kernel, has full rank: the
error goes on falling (arXiv 2409.17858, appendix on linear networks). Yet it falls more slowly
than at infinite width for long: what finite width adds decays as a transient of its own. No vector
closes that flow, so it is integrated as it stands, in O(N M) a stage.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ntkscale.theory.scaling_model.chebyshev import step
from ntkscale.theory.scaling_model.flow import flow
from ntkscale.theory.scaling_model.solution import Solution, check_gamma, check_times
from ntkscale.theory.scaling_model.spectrum import Spectrum

DEEP = 1e-14
"""Share of the target's power below which no relative error of the mse is asked for."""


def linear_network_flow(
    spectrum: Spectrum,
    gamma: float,
    times: ArrayLike,
    *,
    width: int | None = None,
    seed: int = 0,
    rtol: float = 1e-4,
    progress: Callable[[int, int], object] | None = None,
) -> Solution:
    """Loss curve of the linear network, at infinite width or for one draw of A(0).

    Args:
        spectrum: at finite width each row is one mode; the tail is never learned. What the trace of
            the tail adds to the kernel between learned modes is left out.
        gamma: ratio of the learning rates of the features and the read-out, gamma0^2.
        times: (T,) flow times in increasing order, from 0 on.
        width: N; None is infinite, and the same as `flow`.
        seed: of A(0).
        rtol: of the mse, estimated step by step. `Solution.error` is the sum of these estimates.
        progress: called with times done and their total, once a time.

    Cost: at finite width O(N M C) a stage, some 100 sqrt(t lambda_1 kernel scale) stages in all.
    N = 64, M = 500 to t = 1e4 take seconds.

    Raises:
        ValueError: gamma is negative, times are not increasing from 0 on, width is not positive, or
            rows stand for more than one mode at finite width.
        ArithmeticError: rtol cannot be reached.
    """
    checked, gamma = check_times(times), check_gamma(gamma)
    if width is None:
        return flow(spectrum, gamma, checked, rtol=rtol, progress=progress)
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}; None is infinite.")
    if (spectrum.count != 1).any():
        raise ValueError(
            "at finite width modes mix, also those of one row: give a spectrum with a row a mode "
            "(modes_per_decade=None)."
        )
    network = _Network(spectrum, gamma, width, np.random.default_rng(seed))
    kept: list[tuple[float, float, float, Float[ndarray, "M C"]]] = []
    for index, time in enumerate(checked):
        network.run_to(float(time), rtol)
        v = network.residual(network.state)
        kept.append((network.mse(v), network.scale(), network.lazy_time, v.T))
        if progress is not None:
            progress(index + 1, len(checked))
    mse, scale, lazy_time, residual = (np.array(column) for column in zip(*kept, strict=True))
    return Solution(checked, mse + spectrum.tail_power, scale, lazy_time, residual, network.error)


class _Network:
    """A and W side by side, (N, M + C), and their flow."""

    def __init__(
        self, spectrum: Spectrum, gamma: float, width: int, generator: np.random.Generator
    ) -> None:
        self.eigenvalues, self.target = spectrum.eigenvalues, spectrum.target.T
        self.gamma, self.width, self.modes = gamma, width, len(spectrum.eigenvalues)
        outputs = len(self.target)
        self.state = np.zeros((width, self.modes + outputs))
        self.state[:, : self.modes] = generator.standard_normal((width, self.modes))
        self.direction = generator.standard_normal(self.modes)
        self.time = self.lazy_time = self.error = 0.0
        self.floor = DEEP * float(np.square(self.target).sum(axis=0) @ self.eigenvalues)
        g = np.linalg.norm(self.target * self.eigenvalues)
        self.next_step = 1e-3 / (float(self.eigenvalues[0]) + math.sqrt(gamma) * float(g))

    def residual(self, state: Float[ndarray, "N K"]) -> Float[ndarray, "C M"]:
        a, w = state[:, : self.modes], state[:, self.modes :]
        return self.target - w.T @ a / self.width

    def mse(self, residual: Float[ndarray, "C M"]) -> float:
        return float((np.square(residual) @ self.eigenvalues).sum())

    def scale(self) -> float:
        w = self.state[:, self.modes :]
        return 1 + self.gamma * float(np.square(w).sum()) / self.width / w.shape[1]

    def slope(self, state: Float[ndarray, "N K"]) -> Float[ndarray, "N K"]:
        a, w = state[:, : self.modes], state[:, self.modes :]
        g = self.residual(state) * self.eigenvalues
        return np.concatenate((self.gamma * (w @ g), a @ g.T), axis=1)

    def stiffness(self) -> float:
        """A bound of the flow's fastest rate: the kernel's largest eigenvalue, and the boost."""
        a, w = self.state[:, : self.modes], self.state[:, self.modes :]
        root = np.sqrt(self.eigenvalues)
        size = 0.0
        for _ in range(5):  # the direction is kept from step to step, so few products do
            moved = root * (a.T @ (a @ (root * self.direction))) / self.width
            size = float(np.linalg.norm(moved))
            self.direction = moved / size
        learned = self.gamma * float(np.linalg.norm(w, 2)) ** 2 / self.width
        g = float(np.linalg.norm(self.residual(self.state) * self.eigenvalues))
        return 1.2 * size + learned * float(self.eigenvalues[0]) + math.sqrt(self.gamma) * g

    def run_to(self, time: float, rtol: float) -> None:
        refused = 0
        while self.time < time:
            h = min(self.next_step, time - self.time)
            new, defect = step(self.slope, self.state, h, self.stiffness())
            error = self._error(new, defect)
            # A third-order local error, with the usual caution.
            factor = min(3.0, max(0.2, 0.8 * (0.1 * rtol / max(error, 1e-300)) ** (1 / 3)))
            if error > 0.1 * rtol:
                refused += 1
                if refused > 60:
                    raise ArithmeticError(
                        f"rtol {rtol} cannot be reached at time {self.time:.3g}; ask for less."
                    )
                self.next_step = h * factor
                continue
            refused, before = 0, self.scale()
            self.state = new
            self.time = time if h == time - self.time else self.time + h
            self.lazy_time += h * (before + self.scale()) / 2
            self.error += error
            if h == self.next_step or factor < 1:  # a step cut short says nothing of the next
                self.next_step = h * factor

    def _error(self, new: Float[ndarray, "N K"], defect: Float[ndarray, "N K"]) -> float:
        """Relative error of the mse that an error of the weights makes."""
        a, w = new[:, : self.modes], new[:, self.modes :]
        da, dw = defect[:, : self.modes], defect[:, self.modes :]
        moved = self.mse((dw.T @ a + w.T @ da) / self.width)
        return 2 * math.sqrt(moved / max(self.mse(self.residual(new)), self.floor))
