"""The same student in the mean-field parameterization, from lazy to rich.

f = sum_j a_j phi(w_j.x / sqrt(d)) / (gamma0 N), parameters N(0, 1), dtheta/dt = -gamma0^2 N grad
1/2 E (f - y)^2. In the variables of this room, A_j = a_j / (gamma0 N) and V_j = w_j / sqrt(d),
f = sum_j A_j phi(V_j.x), this is descent on L = E (f - y)^2 with one rate for each layer:

    dA/dt = -1 / (2 N) dL/dA,    dV/dt = -gamma0^2 N / (2 d) dL/dV.

Start: pairs of opposite a, so that f = 0 without centring.
"""

from dataclasses import dataclass

import torch

from ntkscale.theory.local_analysis.stages import Student


@dataclass(frozen=True)
class MeanField:
    """A two-layer student of given richness.

    Attributes:
        gamma0: richness; lazy is small.
        width: neurons N, an even number.
        dimension: d.
    """

    gamma0: float
    width: int
    dimension: int

    def start(self, seed: int) -> Student:
        """A (N,) and V (N, d) of a new network with f = 0.

        Raises:
            ValueError: an odd width.
        """
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width {self.width} is no number of pairs: give an even one.")
        generator = torch.Generator().manual_seed(seed)
        half = self.width // 2
        a = torch.randn(half, generator=generator, dtype=torch.float64)
        w = torch.randn(half, self.dimension, generator=generator, dtype=torch.float64)
        a, w = torch.cat((a, -a)), torch.cat((w, w))
        return a / (self.gamma0 * self.width), w / self.dimension**0.5

    def rates(self, step: float) -> tuple[float, float]:
        """Step sizes of A and V, by `stages.descend`, that take `step` of flow time."""
        return step / (2 * self.width), step * self.gamma0**2 * self.width / (2 * self.dimension)
