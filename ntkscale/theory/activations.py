"""Pointwise nonlinearities with their derivative, as theories need them.

The names are those of the networks. The derivative is the one almost everywhere; `kinks` says where
it jumps and how far.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Pointwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """A pointwise nonlinearity phi. Both functions are elementwise, any shape, float64.

    Attributes:
        name: as given to `activation`.
        function: phi.
        first: phi', at a kink the value PyTorch's autograd gives (ReLU: 0).
        kinks: (position, jump of phi') of each kink. Those at zero are taken out of Hermite series,
            which converge slowly with them.
        power: q for ReLU^q, otherwise None.
        known: the library's name if phi is `factor` times a nonlinearity of the library, so that
            closed forms apply; None for a function of one's own.
        factor: see `known`.
    """

    name: str
    function: Pointwise
    first: Pointwise
    kinks: tuple[tuple[float, float], ...] = ()
    power: int | None = None
    known: str | None = None
    factor: float = 1.0

    def __call__(self, h: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """phi(h), elementwise."""
        return self.function(h)

    def scaled(self, factor: float) -> "Activation":
        """The nonlinearity factor * phi, by the same name."""
        return replace(
            self,
            function=lambda h: factor * self.function(h),
            first=lambda h: factor * self.first(h),
            kinks=tuple((position, factor * jump) for position, jump in self.kinks),
            factor=factor * self.factor,
        )

    def second_moment(self) -> float:
        """E phi(g)^2 for g ~ N(0, 1): exact for ReLU^q, to 1e-15 where phi is analytic near the
        real line, to about 1e-5 with kinks elsewhere than at zero."""
        if self.power is not None:
            return self.factor**2 * math.prod(range(1, 2 * self.power, 2)) / 2
        # The trapezoidal rule converges geometrically for integrands analytic in a strip.
        nodes = torch.linspace(-12.0, 12.0, 769, dtype=torch.float64)
        density = torch.exp(-nodes.square() / 2) / math.sqrt(2 * math.pi)
        return float((self.function(nodes).square() * density).sum()) / 32

    def normalised(self) -> "Activation":
        """c phi with c^2 E phi(g)^2 = 1, as networks with ``normalised=True`` have it."""
        return self.scaled(self.second_moment() ** -0.5)


_RELU_POWER = re.compile(r"relu([1-9]?)")


def activation(phi: str | Activation | Pointwise) -> Activation:
    """The nonlinearity of that name, or made of a callable.

    Args:
        phi: ``"linear"``, ``"relu"``, ``"relu2"`` ... ``"relu9"`` for ReLU^q, ``"erf"``,
            ``"tanh"``, ``"gelu"`` (the exact one, h Phi(h)); an `Activation`, returned as it is; or
            any elementwise, differentiable torch function, whose derivative autograd takes. A kink
            at zero is then found by itself. Kinks elsewhere are harmless where neurons are sampled,
            while series with them are short of their tails: read the `error` of kernels.

    Raises:
        ValueError: for any other name.
        TypeError: for something that is neither a name nor callable.
    """
    if isinstance(phi, Activation):
        return phi
    if isinstance(phi, str):
        if match := _RELU_POWER.fullmatch(phi):
            return _relu_power(phi, int(match[1] or 1))
        if phi in _SMOOTH:
            return Activation(phi, *_SMOOTH[phi], known=phi)
        raise ValueError(
            f"unknown activation {phi!r}: choose relu, relu2, relu3 (any ReLU^q up to relu9), "
            + ", ".join(_SMOOTH)
            + ", or give a function."
        )
    if not callable(phi):
        raise TypeError(f"an activation is a name or a function, got {type(phi).__name__}.")
    first = _derivative(phi)
    name = getattr(phi, "__name__", type(phi).__name__)
    below, above = first(torch.tensor([-1e-9, 1e-9], dtype=torch.float64)).tolist()
    kinks = ((0.0, above - below),) if abs(above - below) > 1e-6 else ()
    return Activation(name, phi, first, kinks)


def _relu_power(name: str, power: int) -> Activation:
    def function(h: Tensor) -> Tensor:
        return h.clamp_min(0) if power == 1 else h.clamp_min(0) ** power

    def first(h: Tensor) -> Tensor:
        if power == 1:
            return (h > 0).to(h.dtype)
        return power * h.clamp_min(0) ** (power - 1)

    kinks = ((0.0, 1.0),) if power == 1 else ()
    return Activation(name, function, first, kinks, power, name)


def _density(h: Tensor) -> Tensor:
    return torch.exp(-h.square() / 2) / math.sqrt(2 * math.pi)


def _normal_probability(h: Tensor) -> Tensor:
    return torch.special.ndtr(h)


def _erf_first(h: Tensor) -> Tensor:
    return 2 / math.sqrt(math.pi) * torch.exp(-h.square())


def _tanh_first(h: Tensor) -> Tensor:
    return 1 - torch.tanh(h).square()


def _gelu(h: Tensor) -> Tensor:
    return h * _normal_probability(h)


def _gelu_first(h: Tensor) -> Tensor:
    return _normal_probability(h) + h * _density(h)


_SMOOTH: dict[str, tuple[Pointwise, Pointwise]] = {
    "linear": (torch.clone, torch.ones_like),
    "erf": (torch.erf, _erf_first),
    "tanh": (torch.tanh, _tanh_first),
    "gelu": (_gelu, _gelu_first),
}


def _derivative(function: Pointwise) -> Pointwise:
    """The elementwise derivative, differentiable again where its argument is."""

    def derivative(h: Tensor) -> Tensor:
        graph = torch.is_grad_enabled() and h.requires_grad
        with torch.enable_grad():
            h = h if h.requires_grad else h.detach().requires_grad_()
            # Constant functions have no graph, functions linear in h no second derivative.
            value = function(h)
            if not value.requires_grad:
                return torch.zeros_like(h)
            (slope,) = torch.autograd.grad(
                value.sum(), h, create_graph=True, materialize_grads=True
            )
        return slope if graph else slope.detach()

    return derivative
