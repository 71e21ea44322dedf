"""Tangent kernels of infinitely wide networks, as attacks need them: with a gradient in x."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.robustness.expansion import AutogradExpansion, Expansion, Pull
from ntkscale.robustness.relu_slopes import Slopes, relu_slopes
from ntkscale.theory import infinite_width

# Pairs computed at once: 8 MiB a buffer of float64; a GPU wants more.
_PAIRS = 2**20
_PAIRS_ELSEWHERE = 2**24
# Derivatives are kept between outputs and gradient up to that many pairs: 256 MiB.
_KEPT = 2**24


class InfiniteWidthKernel:
    """The tangent kernel of an infinitely wide fully connected network.

    With the defaults that of Tsilivis & Kempe 2022 (arXiv 2210.05577): NTK parameterization, ReLU,
    W_std^2 = 2, b_std^2 = 0.01. The limit of `networks.MLP` in the mean-field or NTK
    parameterization has ``weight_variance=1, readout_bias=False, normalised=None``, and
    `bias_variance` 1 with biases, 0 without.

    Args:
        depth: number of hidden layers.
        activation: as in `theory.infinite_width.kernels`.
        weight_variance, bias_variance: of all weights and of all trained biases.
        readout_bias: the read-out has a bias too, which adds `bias_variance` to the kernel.
        normalised: as in `theory.infinite_width.kernels`.

    Raises:
        ValueError: as `theory.infinite_width.kernels`, at construction.
    """

    def __init__(
        self,
        depth: int = 1,
        activation: str = "relu",
        weight_variance: float = 2.0,
        bias_variance: float = 0.01,
        *,
        readout_bias: bool = True,
        normalised: bool | None = False,
    ) -> None:
        self._kernels = partial(
            infinite_width.kernels,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            normalised=normalised,
        )
        self._kernels(torch.ones(1, 1))  # says what is wrong with the options
        self.depth, self.activation = int(depth), activation
        self.weight_variance, self.bias_variance = float(weight_variance), float(bias_variance)
        self._offset = self.bias_variance if readout_bias else 0.0
        self._closed = activation in ("relu", "relu1")
        self._scale = 2.0 if (self.depth >= 3 if normalised is None else normalised) else 1.0

    def __call__(
        self, x1: Float[Tensor, "n1 ..."], x2: Float[Tensor, "n2 ..."] | None = None
    ) -> Float[Tensor, "n1 n2"]:
        """Theta(x1, x2), float64, differentiable in both."""
        return self._kernels(x1, x2).ntk + self._offset

    def expansion(self, points: Float[Tensor, "P ..."], alpha: Float[Tensor, "P C"]) -> Expansion:
        """f(x) = sum_j Theta(x, x_j) alpha_j; ReLU's gradient in closed form."""
        if not self._closed:
            return AutogradExpansion(self, points, alpha)
        return ClosedExpansion(self, points, alpha)

    def slopes(
        self,
        product: Float[Tensor, "n1 n2"],
        first: Float[Tensor, "n1"],
        second: Float[Tensor, "n2"],
        *,
        slopes: bool = True,
    ) -> Slopes:
        """Theta and its derivatives from x.x' / D and the two |x|^2 / D; for ReLU alone."""
        found = relu_slopes(
            product,
            first,
            second,
            depth=self.depth,
            weight=self.weight_variance,
            bias=self.bias_variance,
            scale=self._scale,
            slopes=slopes,
        )
        found.value.add_(self._offset - self.bias_variance)
        return found


class InfiniteWidthCNNKernel:
    """The tangent kernel of an infinitely wide convolutional network, by autograd.

    Arguments and errors: `theory.infinite_width.cnn_kernels`; `readout_bias` as above. Its cost is
    (H W)^2 numbers a pair in some ten buffers, times the graph's: for small images.
    """

    def __init__(
        self,
        depth: int = 2,
        activation: str = "relu",
        weight_variance: float = 2.0,
        bias_variance: float = 0.01,
        *,
        readout_bias: bool = True,
        halve: bool = False,
        readout: Literal["global", "flatten"] = "flatten",
    ) -> None:
        self._kernels = partial(
            infinite_width.cnn_kernels,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=bias_variance,
            halve=halve,
            readout=readout,
        )
        side = 2 ** int(depth) if halve else 1
        self._kernels(torch.ones(1, 1, side, side))  # says what is wrong with the options
        self._offset = float(bias_variance) if readout_bias else 0.0

    def __call__(
        self, x1: Float[Tensor, "n1 C H W"], x2: Float[Tensor, "n2 C H W"] | None = None
    ) -> Float[Tensor, "n1 n2"]:
        """Theta(x1, x2), float64, differentiable in both."""
        return self._kernels(x1, x2).ntk + self._offset

    def expansion(self, points: Float[Tensor, "P C H W"], alpha: Float[Tensor, "P K"]) -> Expansion:
        """f(x) = sum_j Theta(x, x_j) alpha_j."""
        pixels = points.shape[2] * points.shape[3]
        return AutogradExpansion(self, points, alpha, pairs=max(1, 2**20 // pixels**2))


class ClosedExpansion:
    """The expansion of a kernel of x.x' / D, |x|^2 / D and |x'|^2 / D, block of rows by block.

    With A_ij = sum_c cotangent_ic alpha_jc and the kernel's derivatives G_s and G_q,

        sum_j A_ij dTheta(x_i, x_j) / dx_i = [(G_s o A) X + 2 (sum_j G_q o A) x_i] / D.

    Args:
        kernel: with `slopes`.
        points: X, (P, ...).
        alpha: (P, C); all is computed in its dtype.

    Cost: outputs one product (n, D) (D, P), gradients another of that size, and beyond 2^24 pairs
    the first one again. Memory: blocks of 2^20 pairs in some ten buffers, and 256 MiB at most for
    the derivatives between outputs and gradient.
    """

    def __init__(
        self, kernel: InfiniteWidthKernel, points: Tensor, alpha: Float[Tensor, "P C"]
    ) -> None:
        self._kernel, self._points, self._alpha = kernel, points, alpha
        self._x = points.detach().flatten(1).to(alpha.dtype)
        self._norms = self._x.square().mean(1)

    def to(self, dtype: torch.dtype) -> "ClosedExpansion":
        """The same, computed in another precision."""
        return ClosedExpansion(self._kernel, self._points, self._alpha.to(dtype))

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        if torch.is_grad_enabled() and x.requires_grad:
            return self._kernel(x, self._points).to(self._alpha) @ self._alpha
        flat = self._flat(x)
        return torch.cat(
            [
                self._block(flat[rows], slopes=False).value @ self._alpha
                for rows in self._blocks(len(x))
            ]
            or [self._alpha[:0]]
        )

    def pullback(self, x: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n C"], Pull]:
        """See `Expansion`."""
        flat = self._flat(x)
        keep = len(flat) * len(self._x) <= _KEPT
        blocks = [self._block(flat[rows]) for rows in self._blocks(len(x))] if keep else []
        if keep:
            outputs = torch.cat([block.value @ self._alpha for block in blocks])
        else:
            outputs = self(x.detach())

        def pull(cotangent: Tensor) -> Tensor:
            gradient = torch.empty_like(flat)
            for number, rows in enumerate(self._blocks(len(flat))):
                block = blocks[number] if keep else self._block(flat[rows])
                mixed = cotangent[rows].to(self._alpha) @ self._alpha.mT
                along = torch.einsum("ij,ij->i", block.by_norm, mixed)
                gradient[rows] = (block.by_product * mixed) @ self._x
                gradient[rows] += 2 * along[:, None] * flat[rows]
            return gradient.div_(flat.shape[1]).reshape(x.shape)

        return outputs, pull

    def jacobian(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C ..."]:
        """See `Expansion`; one product of n C rows with X."""
        flat, c = self._flat(x), self._alpha.shape[1]
        found = flat.new_empty(len(flat), c, flat.shape[1])
        for rows in self._blocks(len(flat), c):
            block = self._block(flat[rows])
            mixed = block.by_product[:, None] * self._alpha.mT
            found[rows] = mixed @ self._x
            found[rows] += 2 * (block.by_norm @ self._alpha)[:, :, None] * flat[rows, None]
        return found.div_(flat.shape[1]).reshape(len(x), c, *x.shape[1:])

    def own(self, x: Float[Tensor, "n C ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        n, c = x.shape[:2]
        flat = self._flat(x.flatten(0, 1))
        weights = self._alpha.mT
        found = flat.new_empty(n, c)
        for rows in self._blocks(n, c):
            many = flat[rows.start * c : rows.stop * c]
            values = self._block(many, slopes=False).value.unflatten(0, (-1, c))
            found[rows] = torch.einsum("ncp,cp->nc", values, weights)
        return found

    def _flat(self, x: Tensor) -> Tensor:
        flat = x.detach().flatten(1).to(self._x.dtype)
        if flat.shape[1] != self._x.shape[1]:
            raise ValueError(
                f"x has {flat.shape[1]} features a sample, the kernel's points have "
                f"{self._x.shape[1]}: give inputs of the same task."
            )
        return flat

    def _block(self, flat: Tensor, *, slopes: bool = True) -> Slopes:
        product = (flat @ self._x.mT).div_(flat.shape[1])
        return self._kernel.slopes(product, flat.square().mean(1), self._norms, slopes=slopes)

    def _blocks(self, n: int, copies: int = 1) -> Iterator[slice]:
        pairs = _PAIRS if self._x.device.type == "cpu" else _PAIRS_ELSEWHERE
        step = max(1, pairs // (len(self._x) * copies))
        return (slice(start, min(start + step, n)) for start in range(0, n, step))
