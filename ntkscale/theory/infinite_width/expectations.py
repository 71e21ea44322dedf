"""E phi(u) phi(v) and E phi'(u) phi'(v) for Gaussian u, v: closed forms, or the Hermite series.

a, b, c: the variances of u and v, their covariance. ReLU^q: see `arc_cosine`; erf: Williams 1997.
GELU, phi(h) = h P(h) with P the normal distribution function, follows from Stein's lemma: with
J = 1 / (2 pi sqrt((1 + a)(1 + b) - c^2)) and k = 1 / (1 + a) + 1 / (1 + b) - 1,

    E phi phi = c [1/4 + arcsin(c / sqrt((1 + a)(1 + b))) / (2 pi)] + J (a b + c^2 k),

and, as for every phi, E phi' phi' is its derivative by c (Price's theorem).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation
from ntkscale.theory.infinite_width.arc_cosine import arc_cosine
from ntkscale.theory.infinite_width.hermite import HermiteSeries


class Expectations(Protocol):
    """What the recursions ask of a nonlinearity."""

    def table(self, variance: Float[Tensor, "..."]) -> tuple[Float[Tensor, "k ..."], float]:
        """What `pair` needs of each sample, and the relative error of what `pair` gives."""
        ...

    def pair(
        self,
        covariance: Float[Tensor, "..."],
        first: Float[Tensor, "k ..."],
        second: Float[Tensor, "k ..."],
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E phi(u) phi(v) and E phi'(u) phi'(v); the tables broadcast to the covariance."""
        ...

    def single(
        self, variance: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E phi(u)^2 and E phi'(u)^2."""
        ...


Two = tuple[Tensor, Tensor]


class ClosedForm:
    """Expectations as functions of the covariance and the two variances.

    Args:
        pair: (c, a, b) -> E phi phi, E phi' phi'.
        single: a -> the same for u = v; None: pair(a, a, a).
        scale: a factor of both.
    """

    def __init__(
        self,
        pair: Callable[[Tensor, Tensor, Tensor], Two],
        single: Callable[[Tensor], Two] | None = None,
        scale: float = 1.0,
    ) -> None:
        self._pair, self._single, self._scale = pair, single, scale

    def table(self, variance: Float[Tensor, "..."]) -> tuple[Float[Tensor, "1 ..."], float]:
        """The variance itself."""
        return variance[None], 0.0

    def pair(self, covariance: Tensor, first: Tensor, second: Tensor) -> Two:
        """See `Expectations`."""
        value, slope = self._pair(covariance, first[0], second[0])
        return self._scale * value, self._scale * slope

    def single(self, variance: Tensor) -> Two:
        """See `Expectations`."""
        if self._single is None:
            value, slope = self._pair(variance, variance, variance)
        else:
            value, slope = self._single(variance)
        return self._scale * value, self._scale * slope


def expectations(phi: Activation) -> Expectations:
    """Closed forms for linear, ReLU^q, erf, GELU and their multiples, the series for the rest."""
    scale = phi.factor**2
    if phi.known is not None and phi.power is not None:
        power = phi.power
        return ClosedForm(partial(_relu, power=power), partial(_relu_single, power=power), scale)
    if phi.known in _CLOSED:
        return ClosedForm(_CLOSED[phi.known], scale=scale)
    return HermiteSeries(phi)


def _relu(c: Tensor, a: Tensor, b: Tensor, *, power: int) -> Two:
    product = a * b
    # Where a variance is zero, so are both expectations (phi'(0) = 0); no gradient there.
    positive = product > 0
    product = torch.where(positive, product, 1.0)
    geometric = product.sqrt()
    value, slope = arc_cosine(c / geometric, power)
    level = positive.to(c.dtype) / (2 * math.pi)
    return level * geometric**power * value, level * geometric ** (power - 1) * slope


def _relu_single(a: Tensor, *, power: int) -> Two:
    moment = math.prod(range(1, 2 * power, 2)) / 2  # E g_+^(2q), half of (2q - 1)!!
    lower = math.prod(range(1, 2 * power - 2, 2)) / 2
    slope = (a > 0) * 0.5 if power == 1 else power**2 * lower * a ** (power - 1)
    return moment * a**power, slope.to(a.dtype)


def _linear(c: Tensor, a: Tensor, b: Tensor) -> Two:
    return c, torch.ones_like(c)


def _erf(c: Tensor, a: Tensor, b: Tensor) -> Two:
    product = (1 + 2 * a) * (1 + 2 * b)
    value = 2 / math.pi * torch.asin(2 * c * product.rsqrt())
    return value, 4 / math.pi * (product - 4 * c.square()).rsqrt()


def _gelu(c: Tensor, a: Tensor, b: Tensor) -> Two:
    product = (1 + a) * (1 + b)
    determinant = product - c.square()
    both = 0.25 + torch.asin(c * product.rsqrt()) / (2 * math.pi)  # E P(u) P(v)
    density = determinant.rsqrt() / (2 * math.pi)
    k = 1 / (1 + a) + 1 / (1 + b) - 1
    polynomial = a * b + c.square() * k
    value = c * both + density * polynomial
    slope = both + c * density * (1 + polynomial / determinant + 2 * k)
    return value, slope


_CLOSED: dict[str, Callable[[Tensor, Tensor, Tensor], Two]] = {
    "linear": _linear,
    "erf": _erf,
    "gelu": _gelu,
}
