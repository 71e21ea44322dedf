"""What a kernel learns from data by gradient flow, at any time, and its split into features.

    f_t(x) = K(x, X) alpha_t,   alpha_t = V diag[(1 - exp(-lambda_i t)) / (lambda_i P)] V^T y
    f_i(x) = K(x, X) v_i (v_i . y) / (lambda_i P),   f_inf = sum_i f_i

with lambda_i and v_i the eigenpairs of K(X, X) / P, largest first (Tsilivis & Kempe 2022, arXiv
2210.05577, sections 3 and 4).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale import ntk
from ntkscale.robustness.expansion import AutogradExpansion, Expansion, Kernel, Stacked
from ntkscale.robustness.network_kernel import NetworkKernel

# Eigenvalues below that share of the largest are rounding, by the kernel's precision.
_ROUNDING = {torch.float64: 1e-14, torch.float32: 1e-6}


class KernelPredictor:
    """Kernel regression on (X, y), run for any time.

    Args:
        kernel: `InfiniteWidthKernel`, `NetworkKernel`, or any callable (x1, x2=None) -> (n1, n2)
            that torch can differentiate in x1. One with an `expansion` of its own is asked for it.
        inputs: X, (P, ...).
        targets: y, (P,) or (P, C).

    Attributes:
        eigenvalues: of K / P, largest first, those at rounding level 0; on such directions nothing
            is learned.
        eigenvectors: in columns, the entry of largest modulus positive.
        targets: (P, C), float64.

    Raises:
        ValueError: inputs, targets and kernel that do not fit each other, or are not finite.

    Cost: the kernel on X, and one eigendecomposition of its order n, about 9 n^3 multiply-adds, in
    float64. Order n is P, or P C for the kernel of a network of C outputs.
    """

    def __init__(
        self,
        kernel: Kernel,
        inputs: Float[Tensor, "P ..."],
        targets: Float[Tensor, "P"] | Float[Tensor, "P C"],
    ) -> None:
        if len(inputs) != len(targets) or not len(inputs) or targets.ndim not in (1, 2):
            raise ValueError(
                f"{len(inputs)} inputs and targets of shape {tuple(targets.shape)} do not fit: "
                "give (P,) or (P, C) targets, one row an input."
            )
        if not bool(targets.isfinite().all()):
            raise ValueError("targets hold nan or infinity: remove those samples.")
        self.kernel, self.inputs = kernel, inputs.detach()
        y = targets.detach()[:, None] if targets.ndim == 1 else targets.detach()
        with torch.no_grad():
            gram = kernel(self.inputs, None)
        rounding = _ROUNDING.get(gram.dtype, 1e-6)
        gram = gram.to(device=inputs.device, dtype=torch.float64)
        self.targets = y.to(gram)
        points, count = y.shape
        joint = gram.shape == (points * count, points * count)
        if gram.shape != (points, points) and not joint:
            raise ValueError(
                f"the kernel is {tuple(gram.shape)} for {points} inputs of {count} target(s): give "
                "one that is (P, P), or (P C, P C) for the C outputs of a network."
            )
        # One column per function that shares the kernel: C, or 1 of all outputs, sample-major.
        self._columns = self.targets.reshape(len(gram), -1)
        values, vectors = ntk.eigensystem(gram.div_(points))
        floor = rounding * values.abs().max()
        self.eigenvalues = torch.where(values > floor, values, 0.0)
        self.eigenvectors = vectors
        self._rotated = vectors.mT @ self._columns
        self._inverse = torch.where(values > floor, 1 / values.clamp_min(floor), 0.0) / points

    def at(self, time: float) -> Expansion:
        """f_t at flow time t, from 0 to infinity.

        Raises:
            ValueError: a time below zero, or nan.
        """
        return self._expansion(self._learned(time))

    def feature(self, index: int) -> Expansion:
        """f_i; i = 0 belongs to the largest eigenvalue.

        Raises:
            ValueError: an index outside 0 ... n - 1.
        """
        return self.features([index])

    def features(self, indices: Iterable[int]) -> Expansion:
        """f_I, the sum of f_i over a set of indices; one that is named twice counts once.

        Raises:
            ValueError: an index outside 0 ... n - 1.
        """
        return self._expansion(self._chosen(indices))

    def each_feature(self, indices: Iterable[int]) -> Expansion:
        """The features f_i side by side, x -> (n, k): of one output, in the order given.

        Raises:
            ValueError: an index outside 0 ... n - 1, or several outputs.
        """
        return self.each_set([i] for i in self._checked(indices).tolist())

    def each_set(self, sets: Iterable[Iterable[int]]) -> Expansion:
        """The sums f_I over several sets of indices side by side; otherwise as `each_feature`."""
        return self._side_by_side([self._chosen(indices) for indices in sets])

    def each_time(self, times: Iterable[float]) -> Expansion:
        """f_t at several times side by side; otherwise as `each_feature`."""
        return self._side_by_side([self._learned(time) for time in times])

    def eigenpairs(self, indices: Iterable[int]) -> tuple[Float[Tensor, "k"], Float[Tensor, "n k"]]:
        """Eigenvalues of K / P and eigenvectors of those features; errors as `feature`."""
        chosen = self._checked(indices)
        return self.eigenvalues[chosen], self.eigenvectors[:, chosen]

    def columns(self, alpha: Float[Tensor, "P k"]) -> Expansion:
        """The functions K(x, X) alpha_c of a kernel of one output side by side, x -> (n, k)."""
        if isinstance(self.kernel, NetworkKernel):  # whose columns are the network's outputs
            return Stacked([self._on(column) for column in alpha.split(1, dim=1)])
        return self._on(alpha)

    def _side_by_side(self, weights: list[Tensor]) -> Expansion:
        if self.targets.shape[1] != 1:
            raise ValueError(
                "functions side by side are those of one output, the targets have "
                f"{self.targets.shape[1]}: give targets of -1 and +1, or take one after the other."
            )
        if not weights:
            raise ValueError("there is nothing to put side by side: give at least one.")
        return self.columns(self.eigenvectors @ (torch.stack(weights, dim=1) * self._rotated))

    def _learned(self, time: float) -> Float[Tensor, "n"]:
        if not time >= 0:
            raise ValueError(f"time must be from 0 to infinity, got {time}.")
        exponent = torch.where(self.eigenvalues > 0, self.eigenvalues * time, 0.0)  # 0 x infinity
        return -torch.expm1(-exponent) * self._inverse

    def _chosen(self, indices: Iterable[int]) -> Float[Tensor, "n"]:
        chosen = torch.zeros_like(self._inverse)
        chosen[self._checked(indices)] = 1
        return chosen * self._inverse

    def _expansion(self, weights: Float[Tensor, "n"]) -> Expansion:
        alpha = self.eigenvectors @ (weights[:, None] * self._rotated)
        return self._on(alpha.reshape(self.targets.shape))

    def _on(self, alpha: Float[Tensor, "P C"]) -> Expansion:
        own = getattr(self.kernel, "expansion", None)
        if own is None:
            return AutogradExpansion(self.kernel, self.inputs, alpha)
        return own(self.inputs, alpha)

    def _checked(self, indices: Iterable[int]) -> Tensor:
        chosen = [int(i) for i in indices]
        n = len(self._inverse)
        if not chosen or min(chosen) < 0 or max(chosen) >= n:
            raise ValueError(
                f"feature indices must be from 0 to {n - 1}, got {chosen[:5]}"
                f"{' ...' if len(chosen) > 5 else ''}."
            )
        return torch.tensor(chosen, device=self._inverse.device)
