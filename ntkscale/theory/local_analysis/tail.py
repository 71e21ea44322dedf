"""kappa(rho) = sum_(k >= 2) h_k^2 rho^k: what is left of a nonlinearity beyond constant and line.

A student's constant and linear part are kept at their optimum, so that of phi = sum_k h_k he_k only
the tail k >= 2 is learned. For unit u, v and x ~ N(0, 1), rho = u.v, the tail's kernel is

    kappa(rho) = E phi(u.x) phi(v.x) - h_0^2 - h_1^2 rho,    kappa' = E phi'(u.x) phi'(v.x) - h_1^2

(Price's theorem). ReLU: kappa = (sqrt(1 - rho^2) + rho arcsin rho - 1) / (2 pi) and kappa' =
arcsin rho / (2 pi) (for Zhou & Ge 2024, section D.3 of the specification). The expectations are
those of `theory.infinite_width`, in closed form or as Hermite series.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Pointwise, activation
from ntkscale.theory.infinite_width.arc_cosine import arc_cosine
from ntkscale.theory.infinite_width.expectations import expectations

Pair = tuple[Tensor, Tensor]
NAMES = ("relu", "abs", "relu2", "relu3", "gelu", "erf", "tanh", "square")
SAMPLES = (-0.9, -0.4, 0.3, 0.8)


@dataclass(frozen=True)
class Tail:
    """A nonlinearity beyond its constant and linear part.

    Attributes:
        name: as given to `tail`.
        function: phi itself, elementwise.
        first: phi', at a kink the value that autograd gives.
        pair: rho -> kappa, kappa'; elementwise float64 in [-1, 1], differentiable.
        symmetry: of the tail: 1 if even (directions count up to sign), -1 if odd (up to a sign that
            goes into the read-out), 0 if neither.
        second: h_2^2, what one step from a symmetric start sees of the teacher; 0: nothing.
    """

    name: str
    function: Pointwise
    first: Pointwise
    pair: Callable[[Tensor], Pair]
    symmetry: Literal[-1, 0, 1]
    second: float

    def kappa(self, rho: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """kappa(rho) alone."""
        return self.pair(rho)[0]

    @property
    def power(self) -> float:
        """kappa(1) = E phi_(>=2)^2, the power of one teacher neuron."""
        return float(self.kappa(torch.ones(1, dtype=torch.float64)))


def tail(name: str) -> Tail:
    """The nonlinearity of that name.

    Args:
        name: ``"relu"``, ``"abs"`` (|z|, twice ReLU but for a line), ``"square"`` (z^2, which only
            has a second Hermite coefficient), or what `theory.activations` knows: ``"relu2"``,
            ``"gelu"``, ``"erf"``, ``"tanh"`` ...

    Raises:
        ValueError: another name, or one whose tail is zero.
    """
    if name == "abs":
        return _described(name, torch.abs, torch.sign, lambda rho: _scaled(_relu(rho), 4.0))
    if name == "square":
        return _described(name, torch.square, _double, lambda rho: (2 * rho.square(), 4 * rho))
    phi = activation(name)
    if name == "linear":
        raise ValueError("linear has nothing beyond its linear part: choose another activation.")
    pair = _relu if name == "relu" else _beyond_linear(name)
    return _described(name, phi.function, phi.first, pair)


def _double(h: Tensor) -> Tensor:
    return 2 * h


def _described(
    name: str, function: Pointwise, first: Pointwise, pair: Callable[[Tensor], Pair]
) -> Tail:
    rho = torch.tensor(SAMPLES, dtype=torch.float64)
    value, mirrored = pair(rho)[0], pair(-rho)[0]
    symmetry: Literal[-1, 0, 1] = 0
    if torch.allclose(value, mirrored, rtol=1e-9, atol=1e-14):
        symmetry = 1
    elif torch.allclose(value, -mirrored, rtol=1e-9, atol=1e-14):
        symmetry = -1
    # kappa is even to leading order: h_2^2 = kappa''(0) / 2.
    step = torch.tensor([1e-3], dtype=torch.float64)
    second = float((pair(step)[0] + pair(-step)[0]) / (2 * step.square()))
    return Tail(name, function, first, pair, symmetry, second if second > 1e-6 else 0.0)


def _relu(rho: Tensor) -> Pair:
    if not (torch.is_grad_enabled() and rho.requires_grad):  # where time is spent: training
        turn = torch.asin(rho.clamp(-1, 1)).div_(2 * math.pi)
        value = torch.addcmul(torch.ones_like(rho), rho, rho, value=-1).clamp_min_(0).sqrt_()
        return value.sub_(1).div_(2 * math.pi).addcmul_(rho, turn), turn
    value, slope = arc_cosine(rho, 1)
    return value / (2 * math.pi) - 1 / (2 * math.pi) - rho / 4, slope / (2 * math.pi) - 0.25


def _scaled(pair: Pair, factor: float) -> Pair:
    return factor * pair[0], factor * pair[1]


def _beyond_linear(name: str) -> Callable[[Tensor], Pair]:
    expected = expectations(activation(name))
    table, _ = expected.table(torch.ones(1, dtype=torch.float64))
    constant, line = (
        float(part) for part in expected.pair(torch.zeros(1, dtype=torch.float64), table, table)
    )

    def pair(rho: Tensor) -> Pair:
        own = table.to(rho.device)
        own = own.reshape(len(own), *([1] * rho.ndim))
        value, slope = expected.pair(rho.clamp(-1, 1), own, own)
        return value - constant - line * rho, slope - line

    return pair
