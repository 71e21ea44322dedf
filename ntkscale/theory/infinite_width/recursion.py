"""The recursion over layers, for a block of pairs of inputs.

With w and b the variances of weights and biases, Phi and Phi' the expectations of phi phi and
phi' phi' under the layer's covariance,

    S_1 = w x.x' / D + b,        T_1 = S_1
    S_(l+1) = w Phi(S_l) + b,    T_(l+1) = S_(l+1) + w Phi'(S_l) T_l
    nngp = w Phi(S_L),           ntk = nngp + w Phi'(S_L) T_L
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise, activation
from ntkscale.theory.arguments import number, whole
from ntkscale.theory.infinite_width.expectations import Expectations, expectations

Layer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a layer's covariance to the two expectations."""


@dataclass(frozen=True)
class Rule:
    """A network's depth, nonlinearity and variances, checked.

    Attributes:
        depth: number of hidden layers L.
        expectations: of phi phi and phi' phi'.
        weight: w, of every weight matrix.
        bias: b, of every hidden layer's biases.
        scale: c^2 if the nonlinearity is c phi.
    """

    depth: int
    expectations: Expectations
    weight: float
    bias: float
    scale: float


def rule(
    depth: int,
    phi: str | Activation | Pointwise,
    weight_variance: float,
    bias_variance: float,
    normalised: bool | None,
) -> Rule:
    """Check the options of a kernel.

    Raises:
        ValueError: a depth below one, a weight variance that is not positive, a negative bias
            variance, or an unknown nonlinearity.
    """
    depth = whole(depth, "depth")
    if not 0 < number(weight_variance) < math.inf:
        raise ValueError(f"weight_variance must be positive and finite, got {weight_variance!r}.")
    if not 0 <= number(bias_variance) < math.inf:
        raise ValueError(f"bias_variance must be at least 0 and finite, got {bias_variance!r}.")
    nonlinearity = activation(phi)
    if normalised is None:  # as networks do
        normalised = (nonlinearity.power or 0) > 1 or depth >= 3
    scale = 1 / nonlinearity.second_moment() if normalised else 1.0
    return Rule(
        depth, expectations(nonlinearity), float(weight_variance), float(bias_variance), scale
    )


@dataclass(frozen=True)
class Block:
    """The kernels of a block of pairs, and layer by layer what they are made of.

    Attributes:
        nngp, ntk: of the output.
        phi: L tensors, c^2 Phi(S_l).
        slopes: L tensors, c^2 Phi'(S_l).
    """

    nngp: Tensor
    ntk: Tensor
    phi: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]

    def backward_kernels(self, weight: float) -> tuple[Tensor, ...]:
        """G^l of the L layers: G^(L+1) = 1, G^l = w Phi'(S_l) G^(l+1)."""
        kernels: list[Tensor] = []
        for slope in reversed(self.slopes):
            kernels.append(weight * (slope * kernels[-1] if kernels else slope))
        return tuple(reversed(kernels))


@dataclass(frozen=True)
class Samples:
    """What the recursion needs of each of n inputs.

    Attributes:
        tables: of each layer, see `Expectations.table`.
        own: each input paired with itself.
        error: largest relative error of an expectation.
    """

    tables: tuple[Float[Tensor, "k n"], ...]
    own: Block
    error: float


def samples(variance: Float[Tensor, "n"], rule: Rule) -> Samples:
    """The recursion for each input with itself, from S_1(x, x)."""
    tables, errors = [], []

    def single(variance: Tensor) -> tuple[Tensor, Tensor]:
        table, error = rule.expectations.table(variance)
        tables.append(table)
        errors.append(error)
        return rule.expectations.single(variance)

    own = _recursion(variance, [single] * rule.depth, rule)
    return Samples(tuple(tables), own, max(errors))


def block(
    covariance: Float[Tensor, "n1 n2"],
    first: Sequence[Float[Tensor, "k n1"]],
    second: Sequence[Float[Tensor, "k n2"]],
    rule: Rule,
) -> Block:
    """The recursion for all pairs, from S_1 and the two tables of each layer."""
    pair = rule.expectations.pair
    layers = [
        partial(pair, first=a[:, :, None], second=b[:, None, :])
        for a, b in zip(first, second, strict=True)
    ]
    return _recursion(covariance, layers, rule)


def _recursion(covariance: Tensor, layers: Sequence[Layer], rule: Rule) -> Block:
    tangent = covariance
    phi, slopes = [], []
    for layer, expected in enumerate(layers, start=1):
        value, slope = (rule.scale * moment for moment in expected(covariance))
        phi.append(value)
        slopes.append(slope)
        # The read-out has no bias.
        covariance = rule.weight * value + (rule.bias if layer < rule.depth else 0.0)
        tangent = covariance + rule.weight * slope * tangent
    return Block(covariance, tangent, tuple(phi), tuple(slopes))


def symmetric(values: Float[Tensor, "n n"], diagonal: Float[Tensor, "n"]) -> Float[Tensor, "n n"]:
    """The upper triangle mirrored, with that diagonal."""
    above = torch.triu(values, diagonal=1)
    return above + above.mT + torch.diag(diagonal)
