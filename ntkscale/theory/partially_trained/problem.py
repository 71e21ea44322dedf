"""A network of which one hidden layer is trained, as a problem in function space.

With frozen features u(x) (the inputs of a shallow network, the random layers of a deeper one) and
h = W u, nothing of the network is left but the Gram matrix G of u, what h is at the start, and c.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise, activation
from ntkscale.theory.arguments import array, number

_ROUNDING = 1e-14  # of the largest eigenvalue, for each point: below it an eigenvalue is zero


@dataclass(frozen=True, eq=False)
class Problem:
    """f = sum_i c_i sigma(h_i) / (gamma0 m) on n points, with dW/dt = -gamma0^2 m grad L.

    L = 1/(2n) sum_a (f_a - y_a)^2. gamma0 = 1 is the mean-field scaling, 1/sqrt(m) that of the NTK
    twin. In function space (Chen, Vanden-Eijnden & Bruna 2022, shallow and partially trained
    three-layer networks alike),

        dh_ia/dt = -gamma0 (c_i / n) sum_b G_ab sigma'(h_ib) e_b,   e = f - y
        de/dt = -(A o G) e / n,   A_ab = (1/m) sum_i c_i^2 sigma'(h_ia) sigma'(h_ib)

    Arrays may be given in any form and become float64 tensors on the Gram matrix's device.

    Attributes:
        gram: G, (n, n): u.u' of frozen features with the fan-in divided out, x.x' / D if shallow.
        hidden: (n, m) h at the start.
        readout: c, (m,).
        targets: y, (n,).
        activation: sigma, a name or an `Activation`.
        gamma0: richness.
        cross: (q, n) Gram matrix of further points with these; None: there are none.
        cross_hidden: (q, m) h of the further points at the start.
        centered: the output at the start is subtracted.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, gamma0 not above 0, or a
            Gram matrix that is not symmetric.
    """

    gram: Float[Tensor, "n n"]
    hidden: Float[Tensor, "n m"]
    readout: Float[Tensor, "m"]
    targets: Float[Tensor, "n"]
    activation: str | Activation | Pointwise
    gamma0: float = 1.0
    cross: Float[Tensor, "q n"] | None = None
    cross_hidden: Float[Tensor, "q m"] | None = None
    centered: bool = False

    def __post_init__(self) -> None:
        gram = array(self.gram, "gram").detach()
        checked: dict[str, Tensor] = {"gram": gram}
        for name in ("hidden", "readout", "targets", "cross", "cross_hidden"):
            value = getattr(self, name)
            if value is not None:
                checked[name] = array(value, name, gram.device).detach()
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        n, m = len(gram), len(self.readout)
        wanted = {"gram": (n, n), "hidden": (n, m), "readout": (m,), "targets": (n,)}
        if (self.cross is None) != (self.cross_hidden is None):
            raise ValueError("cross and cross_hidden are of the same points: give both or neither.")
        if self.cross is not None:
            wanted |= {"cross": (len(self.cross), n), "cross_hidden": (len(self.cross), m)}
        for name, shape in wanted.items():
            if tuple(checked[name].shape) != shape:
                raise ValueError(
                    f"{name} has shape {tuple(checked[name].shape)}, but {n} points and {m} "
                    f"neurons need {shape}."
                )
        if not torch.allclose(gram, gram.mT, rtol=1e-9, atol=1e-9 * float(gram.abs().max())):
            raise ValueError("gram is not symmetric: give u.u' of one set of points.")
        if not 0 < number(self.gamma0) < math.inf:
            raise ValueError(
                f"gamma0 must be above 0 and finite, got {self.gamma0!r}: the NTK twin of m "
                "neurons has 1/sqrt(m)."
            )

    @cached_property
    def sigma(self) -> Activation:
        """The nonlinearity with its derivative."""
        return activation(self.activation)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of G; one that is zero to rounding is 0."""
        values = torch.linalg.eigvalsh(self.gram)
        low, high = float(values[0]), float(values[-1])
        return (low if low > _ROUNDING * len(values) * high else 0.0), high

    @cached_property
    def start(self) -> Float[Tensor, "n"]:
        """f at the start on the n points; 0 if centred."""
        return self.outputs(self.hidden)

    @cached_property
    def loss(self) -> float:
        """L at the start."""
        return float((self.start - self.targets).square().mean()) / 2

    def outputs(self, hidden: Float[Tensor, "k m"], *, test: bool = False) -> Float[Tensor, "k"]:
        """f for given h of the n points, or with `test` of the further points."""
        f = self._sums(hidden)
        if self.centered:
            first = self.cross_hidden if test else self.hidden
            assert first is not None  # further points are asked for only where there are some
            f = f - self._sums(first)
        return f

    def tangent(self, hidden: Float[Tensor, "n m"]) -> Float[Tensor, "n n"]:
        """The kernel A o G for given h of the n points; n^2 m multiply-adds."""
        slopes = self.sigma.first(hidden) * self.readout
        return slopes @ slopes.mT / len(self.readout) * self.gram

    def cross_tangent(self) -> Float[Tensor, "q n"]:
        """A o G of the further points with the n points, at the start.

        Raises:
            ValueError: there are no further points.
        """
        if self.cross is None or self.cross_hidden is None:
            raise ValueError("the problem has no further points: give cross and cross_hidden.")
        first, second = (
            self.sigma.first(h) * self.readout for h in (self.cross_hidden, self.hidden)
        )
        return first @ second.mT / len(self.readout) * self.cross

    def features(self, hidden: Float[Tensor, "n m"]) -> Float[Tensor, "n n"]:
        """The feature kernel sigma(h) sigma(h)^T / m for given h."""
        phi = self.sigma(hidden)
        return phi @ phi.mT / len(self.readout)

    def _sums(self, hidden: Float[Tensor, "k m"]) -> Float[Tensor, "k"]:
        return self.sigma(hidden) @ self.readout / (self.gamma0 * len(self.readout))
