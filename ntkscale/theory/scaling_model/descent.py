"""Steps of (stochastic) gradient descent on (w, A), exactly, for several seeds at once.

Everything that projected gradient descent does is seen by three small states: c = w B / sqrt(N)
(C, r), Z = w w^T / N (C, C) and the metric G = B^T B (r, r), where A = B A_0. For a gradient g (C,
r) by the features u,

    c' = c + eta (g G + gamma Z g) + eta^2 gamma (g c^T) g
    Z' = Z + eta (g c^T + c g^T) + eta^2 g G g^T
    G' = G + eta gamma (c^T g + g^T c) + eta^2 gamma^2 g^T Z g

from c = 0, Z = 0, G = 1; no power of eta is dropped. The linear network without the projection
obeys the same three lines with u = psi and G(0) = A_0^T A_0 / N.

One-pass batches of Gaussian features need no features. With delta = theta - c, labels' noise of
covariance Sigma and V = delta S delta^T + Sigma, the errors E (B, C) are Gaussian of covariance V,
and given them

    B g = E^T E V^-1 delta S + (E^T E)^(1/2) U,   rows of U ~ N(0, S - S delta^T V^-1 delta S)

so that a step draws O(r + B) numbers, from the distribution that B r features would give.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ntkscale.theory.scaling_model.features import Features
from ntkscale.theory.scaling_model.spectrum import Spectrum


class Descent:
    """States of S seeds; `advance` takes steps.

    Raises:
        ValueError: the learning rate times the kernel's largest eigenvalue reaches 2, at the start
            or later in `advance`, which names the step.
    """

    def __init__(
        self,
        spectrum: Spectrum,
        drawn: list[Features],
        metrics: list[Float[ndarray, "M M"]] | None,
        *,
        gamma: float,
        learning_rate: float,
        batch_size: int | None,
        noise: float,
        exact: bool,
        seeds: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def load(arrays: list[ndarray]) -> Tensor:
            return torch.as_tensor(np.stack(arrays), dtype=dtype, device=device)

        # Ranks of draws can differ by modes at the edge of rounding: those get eigenvalue zero.
        rank = max(len(f.eigenvalues) for f in drawn)
        self.ranks = [len(f.eigenvalues) for f in drawn]

        def pad(array: ndarray, axis: int) -> ndarray:
            widths = [(0, 0)] * array.ndim
            widths[axis] = (0, rank - array.shape[axis])
            return np.pad(array, widths)

        self.eta, self.gamma, self.batch_size, self.exact = learning_rate, gamma, batch_size, exact
        self.eigenvalues = load([pad(f.eigenvalues, 0) for f in drawn])[:, None, :]
        self.target = load([pad(f.target.T, 1) for f in drawn])
        outputs = self.target.shape[1]
        self.c = torch.zeros_like(self.target)
        self.Z = torch.zeros(len(drawn), outputs, outputs, dtype=dtype, device=device)
        self.one = torch.eye(outputs, dtype=dtype, device=device)
        self.unprojected = metrics is not None
        self.G: Tensor | None = None
        if metrics is not None:
            self.G = load(metrics)
        elif gamma > 0 and exact:
            self.G = torch.eye(rank, dtype=dtype, device=device).repeat(len(drawn), 1, 1)
        self.samples = self.labels = None
        if drawn[0].samples is not None and (batch_size is not None or self.unprojected):
            self.samples = load([pad(f.samples, 1) for f in drawn if f.samples is not None])
            self.labels = load([f.labels for f in drawn if f.labels is not None])
        elif batch_size is not None:
            floors = [_unlearnable(spectrum, f) + noise**2 * np.eye(outputs) for f in drawn]
            self.floor = load(floors)
            self.floor_root = _root(self.floor)
        self.generators = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]
        self.step = 0
        self.noise_power = outputs * noise**2
        self.passed = torch.zeros(len(drawn), dtype=dtype, device=device)
        self.top = self.eigenvalues.repeat(1, outputs, 1) + 1e-3 * self.eigenvalues.amax()
        if self.unprojected and self.samples is not None:
            self.top = torch.ones_like(self.labels.mT) if self.labels is not None else self.top
        self._check(iterations=30)

    def advance(self, steps: int) -> None:
        """Take that many steps."""
        draws = self._draws(steps)
        for i in range(steps):
            self._update(self._gradient(draws, i))
        self.step += steps
        self._check()

    def coefficients(self) -> list[Float[ndarray, "r C"]]:
        """c of each seed."""
        both = zip(self.c.double().cpu().numpy(), self.ranks, strict=True)
        return [c[:, :rank].T for c, rank in both]

    def losses_passed(self) -> list[float]:
        """Sum of the mse before each step since the last call, one-pass batches only."""
        passed = self.passed.double().tolist()
        self.passed = torch.zeros_like(self.passed)
        return passed

    def kernel_scale(self) -> list[float]:
        """1 + gamma tr(Z) / C of each seed."""
        z = torch.diagonal(self.Z, dim1=1, dim2=2).mean(1)
        return (1 + self.gamma * z).double().tolist()

    def _draws(self, steps: int) -> Tensor | None:
        """Random numbers of these steps; each seed has its own stream, whoever runs beside it."""
        if self.batch_size is None:
            return None
        c, like = self.c.shape[1], {"dtype": self.c.dtype, "device": self.c.device}
        if self.samples is not None:
            high, size = self.samples.shape[1], (steps, self.batch_size)
            picks = [
                torch.randint(high, size, generator=g, device=self.c.device)
                for g in self.generators
            ]
            return torch.stack(picks, dim=1)
        columns = self.c.shape[2] + c + self.batch_size
        normals = [torch.randn(steps, c, columns, generator=g, **like) for g in self.generators]
        return torch.stack(normals, dim=1)

    def _gradient(self, draws: Tensor | None, i: int) -> Float[Tensor, "S C r"]:
        """(1/B) E^T U, with E the errors and U the features of a batch."""
        if self.samples is not None and self.labels is not None:
            samples, labels = self.samples, self.labels
            if draws is not None:
                seeds = torch.arange(len(samples), device=samples.device)[:, None]
                samples, labels = samples[seeds, draws[i]], labels[seeds, draws[i]]
            missed = labels - samples @ self.c.mT
            return missed.mT @ samples / samples.shape[1]
        delta = self.target - self.c
        pull = delta * self.eigenvalues
        if draws is None or self.batch_size is None:
            return pull
        r, c = self.c.shape[2], self.c.shape[1]
        x = draws[i, :, :, :r] * self.eigenvalues.sqrt()
        own = draws[i, :, :, r : r + c] @ self.floor_root.mT
        covariance = pull @ delta.mT + self.floor
        loss = torch.diagonal(covariance, dim1=1, dim2=2).sum(1)
        self.passed += loss - self.noise_power
        errors = _root(covariance) @ draws[i, :, :, r + c :]
        gram = errors @ errors.mT
        # V may vanish where everything is learned and nothing is noise.
        tiny = torch.finfo(x.dtype).tiny
        covariance = covariance + tiny * self.one
        inverse = 1 / covariance if c == 1 else torch.linalg.inv(covariance)
        whiten = inverse @ pull
        u = x - (x @ delta.mT + own) @ whiten
        return (gram @ whiten + _root(gram) @ u) / self.batch_size

    def _update(self, g: Float[Tensor, "S C r"]) -> None:
        eta, gamma, c, Z = self.eta, self.gamma, self.c, self.Z
        moved = self._metric(g)
        overlap = g @ c.mT
        self.c = c + eta * moved
        if gamma > 0:
            self.c = self.c + (eta * gamma * Z + eta**2 * gamma * overlap) @ g
        if self.G is not None and gamma > 0:
            left = torch.cat([c, g], dim=1)
            right = torch.cat(
                [eta * gamma * g, eta * gamma * c + (eta * gamma) ** 2 * Z @ g], dim=1
            )
            self.G.baddbmm_(left.mT, right)
        if self.exact:
            self.Z = Z + eta * (overlap + overlap.mT) + eta**2 * moved @ g.mT
        else:
            self.Z = _balanced(self.c @ self.c.mT, gamma)

    def _metric(self, g: Float[Tensor, "S C r"]) -> Float[Tensor, "S C r"]:
        """How c answers to a gradient g, over eta: g G, without Z's part."""
        if self.G is not None:
            return g @ self.G
        if self.gamma > 0:
            kappa = self.one + self.gamma * self.Z
            inverse = 1 / kappa if len(self.one) == 1 else torch.linalg.inv(kappa)
            return g + self.gamma * (g @ self.c.mT) @ inverse @ self.c
        return g

    def _sharpness(self, iterations: int) -> float:
        """Largest eigenvalue of the kernel now, over seeds: power iteration from the last one."""
        root = self.eigenvalues.sqrt()
        whole = self.samples if self.unprojected else None
        top = 0.0
        for _ in range(iterations):
            self.top = self.top / torch.linalg.vector_norm(self.top, dim=(1, 2), keepdim=True)
            g = self.top * root if whole is None else self.top @ whole / whole.shape[1] ** 0.5
            moved = self._metric(g) + self.gamma * self.Z @ g
            self.top = moved * root if whole is None else moved @ whole.mT / whole.shape[1] ** 0.5
            top = float(torch.linalg.vector_norm(self.top, dim=(1, 2)).max())
        return top

    def _check(self, iterations: int = 2) -> None:
        finite = bool(torch.isfinite(self.c).all() and torch.isfinite(self.Z).all())
        sharpness = self._sharpness(iterations) if finite else float("inf")
        if not self.eta * sharpness < 2:
            raise ValueError(
                f"unstable at step {self.step}: the learning rate times the kernel's largest "
                f"eigenvalue, at most (1 + 2 gamma z) lambda_1, must stay below 2 but is "
                f"{self.eta * sharpness:.3g}; use a learning rate below "
                f"{min(self.eta, 2 / sharpness):.2g}, or fewer steps."
            )


def _unlearnable(spectrum: Spectrum, features: Features) -> Float[ndarray, "C C"]:
    """Covariance over outputs of what the best coefficients leave."""
    v = features.unlearned(spectrum, features.target)
    left = v.T @ (spectrum.eigenvalues[:, None] * v)
    left += features.ridge * features.target.T @ features.target
    return left + spectrum.tail_power / v.shape[1] * np.eye(v.shape[1])


def _root(matrix: Float[Tensor, "S C C"]) -> Float[Tensor, "S C C"]:
    """Symmetric square root of a positive semi-definite matrix."""
    if matrix.shape[-1] == 1:
        return matrix.clamp(min=0).sqrt()
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT


def _balanced(square: Float[Tensor, "S C C"], gamma: float) -> Float[Tensor, "S C C"]:
    """Z of Z (1 + gamma Z) = c c^T, as gradient flow keeps it."""
    if square.shape[-1] == 1:
        return 2 * square / (1 + (1 + 4 * gamma * square).sqrt())
    values, vectors = torch.linalg.eigh(square)
    z = 2 * values / (1 + (1 + 4 * gamma * values.clamp(min=0)).sqrt())
    return (vectors * z[:, None, :]) @ vectors.mT
