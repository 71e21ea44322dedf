"""Dynamical mean-field theory of the solvable model: mean loss at finite width, batch and data.

The randomness of A(0), of the data and of the batches is averaged out for large N, P and B. What
is left are T x T matrices over pairs of steps, which have to agree with one another (arXiv
2409.17858, appendix on the mean-field equations; arXiv 2402.01092 for gamma = 0). All of them are
causal: their rows at step t follow from rows before it. So nothing is iterated. One march over the
steps, a row at a time, solves the equations to rounding; no fixed point can be missed.

For mode k with eigenvalue l, target w* and transfer matrix H, with Theta the strictly lower
triangle of ones and o the product entry by entry:

    W = (I - eta^2 gamma Theta (C3 o Theta))^-1 eta Theta            w = W v3, Cw = W C3 W^T
    K = W + eta gamma Theta o Cw,  Y = K R3,  H = (I + l Y R1)^-1,  m = w* H 1
    C0 = sum l [m m^T + H (D + l E) H^T],  D = K (C3 / N) K^T,  E = Y S Y^T
    C2 = R1 (sum l^2 [m m^T + H (D + l E) H^T]) R1^T + (sum l) S - Q S - (Q S)^T
         with Q = R1 (sum l^2 H) Y
    R2 = -R1 (sum l H) K,  R3 = (I - R2 / N)^-1,  C3 = R3 C2 R3^T
    one-pass SGD: R1 = I,  S = diag(C0 + sigma^2) / B
    fixed data:   R1 = (I + (sum l H) Y / P)^-1,  C1 = R1 (C0 + sigma^2) R1^T,  S = C1 / P

The linear network without projection has C2 in place of C3 in W, W in place of K (in D and R2), and
Y = W R3 + eta gamma Theta o Cw.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ntkscale.theory.scaling_model.spectrum import Spectrum

DIVERGED = 1e3
"""An mse this many times the power of target and noise is an instability, not a transient."""


@dataclass(frozen=True)
class MeanField:
    """Mean-field curves at steps 0 ... T - 1, float64.

    Attributes:
        times: learning rate times step.
        mse: excess test loss, mean over A(0), data and batches; label noise is not in it.
        bias: the part of it that is left when the predictions of many models, each with its own
            A(0) and data, are averaged.
        train_mse: on the fixed data with its noisy labels; None without fixed data.
        kernel_scale: 1 + gamma c with c = |w|^2 / N, the diagonal of `weight_covariance`. It starts
            from 1; gamma c is the strength of feature learning.
        weight_covariance: w(t) . w(s) / N.
        multiply_adds: what the march took, to leading order.
    """

    times: Float[ndarray, "T"]
    mse: Float[ndarray, "T"]
    bias: Float[ndarray, "T"]
    train_mse: Float[ndarray, "T"] | None
    kernel_scale: Float[ndarray, "T"]
    weight_covariance: Float[ndarray, "T T"]
    multiply_adds: int


def mean_field(
    spectrum: Spectrum,
    gamma: float,
    steps: int,
    *,
    learning_rate: float,
    width: float | None = None,
    num_data: float | None = None,
    batch_size: float | None = None,
    noise: float = 0.0,
    projected: bool = True,
    memory: int = 4 << 30,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> MeanField:
    """Solve the mean-field equations of gradient descent, in discrete steps.

    Without width, data or batch size (N = P = B = inf) this is the exact recursion of gradient
    descent on the population. Else terms of relative order 1/N, 1/P, 1/B in the few largest modes
    are dropped; of simulations at N, B of 16 to 60 the first few steps are off by up to some 15 %,
    later ones by 2 %. Rows of the spectrum stand for `count` modes each; its tails act as modes
    that are too slow to be learned.

    Args:
        spectrum: of one output.
        gamma: feature learning, gamma0^2; 0 is lazy.
        steps: T; the last entry is after T - 1 steps.
        learning_rate: eta.
        width: N; None is infinite.
        num_data: P fixed samples, full batch; None is the population.
        batch_size: B fresh samples a step (one pass); None is the population.
        noise: sigma, standard deviation of the labels' noise, seen where there are samples.
        projected: A(t + 1) = A + eta gamma w g^T A(0)^T A(0) / N; False leaves the projection out,
            which is a two-layer linear network.
        memory: bytes that the transfer matrices may take, 8 T^2 rows. Everything else is T^2.
        device: where to compute.
        progress: called with the steps done and T.

    Cost: rows T^3 multiply-adds with one of width, data or batch size, 4/3 of it with width and
    another; rows T^2 with none.

    Raises:
        ValueError: several outputs; a number that is not positive; fixed data and batches at once;
            noise without samples; transfer matrices beyond `memory`; a learning rate with
            eta (1 + 2 gamma c) lambda_1 >= 2 at some step (up to twice as strict as need be where
            many modes are learned), or a loss that diverges otherwise.
    """
    _check(spectrum, gamma, steps, learning_rate, width, num_data, batch_size, noise)
    random = not (width is None and num_data is None and batch_size is None)
    rows = len(spectrum.eigenvalues)
    if random and 8 * steps**2 * rows > memory:
        raise ValueError(
            f"{rows} rows of the spectrum and {steps} steps need {8 * steps**2 * rows / 2**30:.1f} "
            f"GiB of transfer matrices, above memory = {memory / 2**30:.1f} GiB: bin the spectrum "
            "(modes_per_decade), take fewer steps, or allow more memory."
        )
    march = _March(
        spectrum, gamma, steps, learning_rate, width, num_data, batch_size, noise, projected, device
    )
    limit = DIVERGED * (spectrum.total_power + noise**2)
    for t in range(steps):
        march.step(t)
        mse, scale = float(march.c0[t, t]), 1 + gamma * float(march.cw[t, t])
        sharpness = learning_rate * (2 * scale - 1) * float(spectrum.eigenvalues[0])
        if not (mse <= limit and sharpness < 2):
            raise ValueError(
                f"learning_rate {learning_rate} is unstable at step {t}: eta (1 + 2 gamma c) "
                f"lambda_1 is {sharpness:.4g} and must stay below 2, mse is {mse:.3g} and began "
                f"at {spectrum.total_power:.3g}; take a smaller learning rate, larger batches or "
                "fewer steps."
            )
        if progress is not None:
            progress(t + 1, steps)
    return march.result()


def _check(
    spectrum: Spectrum,
    gamma: float,
    steps: int,
    learning_rate: float,
    width: float | None,
    num_data: float | None,
    batch_size: float | None,
    noise: float,
) -> None:
    if spectrum.target.shape[1] != 1:
        raise ValueError(
            f"the mean-field equations are for one output, the spectrum has "
            f"{spectrum.target.shape[1]}; solve several outputs by flow, finite_flow or simulate."
        )
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be zero (lazy) or positive and finite, got {gamma}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    positive = [("learning_rate", learning_rate), ("width", width)]
    for name, value in [*positive, ("num_data", num_data), ("batch_size", batch_size)]:
        if value is not None and not 0 < value < math.inf:
            cure = "" if name == "learning_rate" else "; None is infinite"
            raise ValueError(f"{name} must be positive and finite, got {value}{cure}.")
    if num_data is not None and batch_size is not None:
        raise ValueError(
            "num_data (fixed samples, full batch) and batch_size (fresh samples at every step) "
            "cannot be combined: mini-batches of fixed data are not in these equations; drop one."
        )
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise is a standard deviation, zero or positive, got {noise}.")
    if noise and num_data is None and batch_size is None:
        raise ValueError(
            f"noise {noise} on labels acts through samples; give num_data or batch_size with it."
        )


class _March:
    """The matrices of the equations, filled row by row; symmetric ones column by column as well."""

    def __init__(
        self,
        spectrum: Spectrum,
        gamma: float,
        steps: int,
        learning_rate: float,
        width: float | None,
        num_data: float | None,
        batch_size: float | None,
        noise: float,
        projected: bool,
        device: torch.device | str,
    ) -> None:
        def tensor(array: Float[ndarray, "R"]) -> Float[Tensor, "R"]:
            return torch.tensor(array, dtype=torch.float64, device=device)

        def matrix() -> Float[Tensor, "T T"]:
            return torch.zeros(steps, steps, dtype=torch.float64, device=device)

        self.steps, self.eta, self.gamma, self.projected = steps, learning_rate, gamma, projected
        self.width, self.num_data, self.batch_size = width, num_data, batch_size
        self.noise, self.tail = noise, (spectrum.tail_power, spectrum.tail_trace)
        self.values = tensor(spectrum.eigenvalues)
        self.target = tensor(spectrum.target[:, 0])
        self.trace = self.values * tensor(spectrum.count)  # count lambda, the weight in sums
        self.weights = torch.stack((self.trace, self.trace * self.values), dim=1)
        self.sum_trace = float(self.trace.sum()) + spectrum.tail_trace
        self.sampled = num_data is not None or batch_size is not None
        self.random = self.sampled or width is not None

        self.w, self.cw, self.k, self.y = matrix(), matrix(), matrix(), matrix()
        self.c0, self.c1, self.g, self.c2, self.c3 = (matrix() for _ in range(5))
        self.d, self.e, self.s, self.q = matrix(), matrix(), matrix(), matrix()
        self.h1, self.h2 = matrix(), matrix()  # sum count lambda H, sum count lambda^2 H
        self.r1, self.r3 = (torch.eye(steps, dtype=torch.float64, device=device) for _ in range(2))
        rows = len(self.values)
        self.m = torch.zeros(steps, rows, dtype=torch.float64, device=device)
        # H[t, s, k]: a step's row of all modes is one stretch of memory, and rows up to t a matrix.
        shape = (steps, steps, rows) if self.random else (0, 0, rows)
        self.h = torch.zeros(shape, dtype=torch.float64, device=device)

    def step(self, t: int) -> None:
        """Rows t of everything, from rows before it."""
        now, before = slice(t + 1), slice(t)
        self._weights_and_kernels(t)
        transfer = self.y[t, before] @ self.r1[before, before]  # row t of Y R1
        self.m[t] = self.target - self.values * (transfer @ self.m[before])
        zero, one = (self.m[now] @ (self.m[t, :, None] * self.weights)).T.clone()
        zero += self.tail[0]
        if self.random:
            self._fluctuations(t, transfer, zero, one)
        _symmetric(self.c0, t, zero)
        _symmetric(self.g, t, one)
        self._samples(t)
        self._features(t)

    def _weights_and_kernels(self, t: int) -> None:
        """w = W v3, its covariance, and how v depends on what A(0) and the data bring in."""
        if t == 0:
            return
        eta, before = self.eta, slice(t)
        moved = (self.c3 if self.projected else self.c2)[t - 1, : t - 1] @ self.w[: t - 1]
        self.w[t] = self.w[t - 1] + eta**2 * self.gamma * moved
        self.w[t, t - 1] += eta
        now = slice(t + 1)
        row = (self.w[t, before] @ self.c3[before, before]) @ self.w[now, before].T
        _symmetric(self.cw, t, row)
        learned = eta * self.gamma * self.cw[t, before]
        self.k[t, before] = self.w[t, before] + (learned if self.projected else 0)
        self.y[t, before] = self.k[t, before] @ self.r3[before, before]
        if not self.projected:
            self.y[t, before] += learned

    def _fluctuations(
        self,
        t: int,
        transfer: Float[Tensor, "t"],
        zero: Float[Tensor, "t+1"],
        one: Float[Tensor, "t+1"],
    ) -> None:
        """Row t of H, and what fluctuations of A(0) and of the samples add to both covariances."""
        now, before, rows = slice(t + 1), slice(t), len(self.values)
        flat = self.h.view(self.steps, -1)
        self.h[t, before] = -self.values * (transfer @ flat[before, : t * rows]).view(t, rows)
        self.h[t, t] = 1.0
        own = self.h[t, now]
        sums = own @ self.weights
        sums[t, 0] += self.tail[1]
        self.h1[t, now], self.h2[t, now] = sums.T
        spread = torch.zeros_like(own)
        if self.width is not None:
            row = (self.k[t, before] @ self.c3[before, before]) @ self.k[now, before].T / self.width
            _symmetric(self.d, t, row)
            spread += self.d[now, now] @ own
            zero += self.tail[1] * row
        if self.sampled:
            row = (self.y[t, before] @ self.s[before, before]) @ self.y[now, before].T
            _symmetric(self.e, t, row)
            spread += self.values * (self.e[now, now] @ own)
        both = (spread[:, :, None] * self.weights).reshape(-1, 2)
        added = flat[now, : (t + 1) * rows] @ both
        zero += added[:, 0]
        one += added[:, 1]

    def _samples(self, t: int) -> None:
        """Response and covariance of the residuals on the samples."""
        now, before = slice(t + 1), slice(t)
        if self.batch_size is not None:
            self.c1[t, t] = self.c0[t, t] + self.noise**2
            self.s[t, t] = self.c1[t, t] / self.batch_size
        elif self.num_data is not None:
            response = self.h1[t, now] @ self.y[now, before] / -self.num_data
            self.r1[t, before] = response @ self.r1[before, before]
            seen = self.r1[t, now] @ (self.c0[now, now] + self.noise**2)
            _symmetric(self.c1, t, seen @ self.r1[now, now].T)
            _symmetric(self.s, t, self.c1[t, now] / self.num_data)

    def _features(self, t: int) -> None:
        """Response and covariance of what reaches the features, v3 = A(0) g."""
        now, before = slice(t + 1), slice(t)
        row = (self.r1[t, now] @ self.g[now, now]) @ self.r1[now, now].T
        if self.sampled:
            self.q[t, before] = (self.r1[t, now] @ self.h2[now, now]) @ self.y[now, before]
            row += self.sum_trace * self.s[t, now] - self.q[t, now] @ self.s[now, now]
            row -= self.q[now, now] @ self.s[now, t]
        _symmetric(self.c2, t, row)
        if self.width is not None:
            response = (self.r1[t, now] @ self.h1[now, now]) @ self.k[now, before] / -self.width
            self.r3[t, before] = response @ self.r3[before, before]
            row = (self.r3[t, now] @ self.c2[now, now]) @ self.r3[now, now].T
        _symmetric(self.c3, t, row)

    def result(self) -> MeanField:
        def array(tensor: Tensor) -> Float[ndarray, "..."]:
            return tensor.cpu().numpy().copy()

        rows, matrices = len(self.values), (self.width is not None) + self.sampled
        cubes = (3 + matrices) * self.steps**3 // 3 if self.random else self.steps**2
        return MeanField(
            times=self.eta * np.arange(self.steps, dtype=np.float64),
            mse=array(self.c0.diagonal()),
            bias=array(self.m.square() @ self.trace) + self.tail[0],
            train_mse=None if self.num_data is None else array(self.c1.diagonal()),
            kernel_scale=1 + self.gamma * array(self.cw.diagonal()),
            weight_covariance=array(self.cw),
            multiply_adds=rows * cubes,
        )


def _symmetric(matrix: Float[Tensor, "T T"], t: int, row: Float[Tensor, "t+1"]) -> None:
    matrix[t, : t + 1] = row
    matrix[: t + 1, t] = row
