"""What the minimiser is to leading order in lambda, the support at the teacher's directions (D.4).

min L + lambda |mu|_1 over signed measures on the sphere. If all of mu sits at the w_i*,

    c = a* - (lambda / 2) Kss^-1 s,    MSE = (lambda^2 / 4) s^T Kss^-1 s,
    mass = |a*|_1 - (lambda / 2) s^T Kss^-1 s,    Kss_ij = kappa(w_i*.w_j*),   s = sign a*.

The true support is moved by an angle O(lambda), so MSE is a little above.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.population import Population


@dataclass(frozen=True)
class Minimiser:
    """The minimiser with its support at the teacher's directions.

    Attributes:
        coefficients: c (k,); a sign other than that of a* means that lambda is too large for it.
        mse: of it.
        mass: of it.
    """

    coefficients: Float[Tensor, "k"]
    mse: float
    mass: float

    def holds(self, population: Population) -> bool:
        """Whether every neuron keeps the sign of its teacher, which the formulas take for given."""
        return bool((self.coefficients * population.teacher.weights > 0).all())


def minimiser(population: Population, lam: float) -> Minimiser:
    """The formulas of D.4."""
    weights = population.teacher.weights
    signs = torch.sign(weights)
    inverse = torch.linalg.solve(population.teacher_gram, signs)
    strength = float(signs @ inverse)
    return Minimiser(
        weights - lam / 2 * inverse,
        lam**2 / 4 * strength,
        float(weights.abs().sum()) - lam / 2 * strength,
    )
