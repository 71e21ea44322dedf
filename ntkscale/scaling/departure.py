"""Does a curve bend away from the law fitted to it, by more than its noise, and by how much?

The residuals are fitted by a polynomial of degree 2 to 4 in log x on top of the law. Whether that
is more than noise is judged against noise curves drawn from the residuals themselves; how much it
matters is read as the local exponent in the first, middle and last third of the window.
"""

from dataclasses import dataclass

import numpy as np

from ntkscale.scaling.curves import Array
from ntkscale.scaling.noise import weigh_noise

_SIGNIFICANT = 0.005
_DRAWS = 2000


@dataclass(frozen=True)
class Departure:
    """Bend of a curve away from its fitted law.

    Attributes:
        chance: probability of a bend as large as this from correlated noise alone.
        exponents: the law's exponent corrected by the smooth part of the residuals, in the first,
            middle and last third of the window (in log x).
    """

    chance: float
    exponents: tuple[float, float, float]

    @property
    def significant(self) -> bool:
        """Unlikely (under 0.5 %) to be noise."""
        return self.chance < _SIGNIFICANT

    @property
    def drift(self) -> float:
        """Largest minus smallest of the three local exponents, relative to their mean."""
        span = max(self.exponents) - min(self.exponents)
        return span / max(abs(float(np.mean(self.exponents))), 1e-300)


def departure(
    u: Array, residual: Array, jacobian: Array, exponent: float, generator: np.random.Generator
) -> Departure:
    """Measure the bend of ``residual`` (n,) left at ``u`` (n,) by a law with ``jacobian`` (n, k).

    The degree is 4, below 30 points 3, below 12 points 2; with too few points for that nothing can
    be said and the chance is 1.

    Cost: 2,000 noise curves of n points.
    """
    n, k = jacobian.shape
    degrees = (2, 3, 4) if n >= 30 else (2, 3) if n >= 12 else (2,)
    flat = Departure(1.0, (exponent, exponent, exponent))
    if n < k + len(degrees) + 1:
        return flat
    t = 2.0 * (u - u[0]) / (u[-1] - u[0]) - 1.0
    bends = np.stack([np.polynomial.Legendre.basis(d)(t) for d in degrees], axis=-1)
    design = np.column_stack([jacobian, bends])
    solve = np.linalg.pinv(design)
    smooth = design @ (solve @ residual)
    edges = np.interp(np.linspace(-1, 1, 4), t, smooth)
    thirds = exponent - np.diff(edges) / ((u[-1] - u[0]) / 3)
    # Rounding alone: nothing to test, and no noise to test it against.
    if np.abs(residual).max() < 1e-9:
        return Departure(1.0, tuple(thirds.tolist()))
    noise = weigh_noise(residual, design)
    draws = noise.draw(_DRAWS, n, generator) @ solve[k:].T
    spread = np.linalg.pinv(draws.T @ draws / _DRAWS)
    found = solve[k:] @ residual
    size = found @ spread @ found
    chance = float(np.mean(np.einsum("bi,ij,bj->b", draws, spread, draws) >= size))
    return Departure(chance, tuple(thirds.tolist()))
