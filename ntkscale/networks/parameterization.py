"""How weights, multipliers and the richness gamma0 scale with width.

Mean-field (muP), exact at any width: weights are N(0, 1), `h1 = W0 x / sqrt(D)`,
`h(l+1) = Wl phi(hl) / sqrt(N)`, `f = w . phi(hL) / (gamma0 N)`, and gradient flow is
`dtheta/dt = -gamma^2 grad L` with `gamma = gamma0 sqrt(N)`, N the fan-in of the read-out.

Full mean-field, for networks whose last hidden layer alone is trained: that layer is divided by its
whole fan-in M in place of sqrt(M), and `gamma = gamma0 sqrt(M N)` makes up for it.
"""

import math
from dataclasses import dataclass
from typing import Literal

Parameterization = Literal["mean-field", "ntk", "standard", "full-mean-field"]


@dataclass(frozen=True)
class Scaling:
    """The scales of one network, fixed by its parameterization and its read-out fan-in.

    Attributes:
        name: the parameterization.
        readout_fan_in: N, the number of features the read-out sums.
        gamma0: richness; 1/sqrt(N) in the NTK parameterization, 1 in the standard one.
        divided_fan_in: M, the fan-in that the full mean-field divides out whole; otherwise 1.
    """

    name: Parameterization
    readout_fan_in: int
    gamma0: float
    divided_fan_in: int = 1

    @property
    def explicit(self) -> bool:
        """Whether fan-ins are divided out in the forward pass rather than at initialisation."""
        return self.name != "standard"

    def multiplier(self, fan_in: int) -> float:
        """Factor of a hidden layer's linear map in the forward pass."""
        return fan_in**-0.5 if self.explicit else 1.0

    def last_multiplier(self, fan_in: int) -> float:
        """The same for the last hidden layer, 1 / fan_in in the full mean-field."""
        return 1 / fan_in if self.name == "full-mean-field" else self.multiplier(fan_in)

    def deviation(self, fan_in: int) -> float:
        """Standard deviation of a hidden weight at initialisation (standard: He, 2 / fan_in)."""
        return 1.0 if self.explicit else math.sqrt(2.0 / fan_in)

    @property
    def bias_deviation(self) -> float:
        """Standard deviation of a bias at initialisation (standard: 0)."""
        return 1.0 if self.explicit else 0.0

    @property
    def readout_deviation(self) -> float:
        """Standard deviation of a read-out weight (standard: variance 1 / N, no ReLU follows)."""
        return 1.0 if self.explicit else self.readout_fan_in**-0.5


def scaling(
    name: str, readout_fan_in: int, gamma0: float, *, only_trained_fan_in: int | None = None
) -> Scaling:
    """Check `gamma0` against the parameterization and return its scales.

    Args:
        name: ``"mean-field"``; ``"ntk"`` (mean-field at gamma0 = 1/sqrt(N), so gamma = 1);
            ``"standard"`` (He initialisation, no multipliers, zero biases, gamma = 1);
            ``"full-mean-field"``, see above.
        readout_fan_in: N.
        gamma0: richness, positive; the other two fix it themselves and take only the default 1
            (ntk: or 1/sqrt(N)).
        only_trained_fan_in: M, where one hidden layer that takes in neurons is all that is trained.

    Raises:
        ValueError: unknown name, gamma0 not positive and finite, or gamma0 where it is fixed; the
            full mean-field where more is trained than one hidden layer.
    """
    if not (math.isfinite(gamma0) and gamma0 > 0):
        raise ValueError(f"gamma0 must be positive and finite, got {gamma0}: lazy is small, not 0.")
    if name == "mean-field":
        return Scaling("mean-field", readout_fan_in, gamma0)
    if name == "ntk":
        own = readout_fan_in**-0.5
        if gamma0 != 1.0 and not math.isclose(gamma0, own):
            raise ValueError(
                f"the ntk parameterization fixes gamma0 = 1/sqrt(N) = {own:.6g}, got {gamma0}: "
                "leave gamma0 out, or use the mean-field parameterization to choose it."
            )
        return Scaling("ntk", readout_fan_in, own)
    if name == "standard":
        if gamma0 != 1.0:
            raise ValueError(
                f"the standard parameterization has no gamma0, got {gamma0}: "
                "leave it out, or use the mean-field parameterization to choose it."
            )
        return Scaling("standard", readout_fan_in, 1.0)
    if name == "full-mean-field":
        if only_trained_fan_in is None:
            raise ValueError(
                "the full-mean-field parameterization has one learning rate for one layer: it is "
                "for an MLP of two hidden layers or more with trained='last-hidden'; choose "
                "mean-field."
            )
        return Scaling("full-mean-field", readout_fan_in, gamma0, only_trained_fan_in)
    raise ValueError(
        f"unknown parameterization {name!r}: choose mean-field, ntk, standard or full-mean-field."
    )
