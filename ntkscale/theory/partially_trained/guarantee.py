"""A rate that is certain before training, where neurons cannot move far enough to die.

While the loss falls at rate r each h_ia moves at most D_i = gamma0 |c_i| Lambda |G_a.|
sqrt(2 n L(0)) / (lambda_min(G) rho) in all, r = (2/n) lambda_min(G) rho, Lambda the supremum of
|sigma'|. If A_aa stays at least rho for every such movement, the loss does fall at that rate.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation
from ntkscale.theory.partially_trained.problem import Problem
from ntkscale.theory.partially_trained.rates import gains

_ITERATIONS = 1000
_CONVERGED = 1e-12


@dataclass(frozen=True)
class Guarantee:
    """What holds at all times, from the start alone: L(t) <= L(0) exp(-rate t).

    Attributes:
        rho: least value of A_aa that any point ever has.
        rate: (2/n) lambda_min(G) rho, 1 / flow time.
        movement: (n, m) bound on |h_ia(t) - h_ia(0)|.
    """

    rho: float
    rate: float
    movement: Float[Tensor, "n m"]


def guarantee(problem: Problem) -> Guarantee | None:
    """The largest rate that closes on itself, or None where none does.

    rho <= min_a (1/m) sum_i c_i^2 inf_{|u - h_ia(0)| <= D_i(rho)} sigma'(u)^2 is solved from
    rho = min_a A_aa(0) down: the right hand side never rises as rho falls, so repeating it ends at
    its largest fixed point, or at zero. Small targets, small gamma0 (many neurons of the NTK twin)
    and a well-conditioned G close; mean-field networks on targets of order one mostly do not,
    and converge all the same.

    Known for the library's nonlinearities; ReLU^q with q > 1 has no bound on sigma' and no answer.
    """
    lowest = problem.extremes[0]
    steepest = largest_slope(problem.sigma)
    rho = float(gains(problem, problem.hidden).min())
    if lowest == 0 or rho == 0 or not math.isfinite(steepest):
        return None
    if problem.loss == 0:
        return Guarantee(rho, 2 / len(problem.targets) * lowest * rho, 0 * problem.hidden)
    rows = problem.gram.square().sum(1).sqrt()
    reach = problem.gamma0 * steepest * math.sqrt(2 * len(rows) * problem.loss) / lowest
    farthest = reach * rows[:, None] * problem.readout.abs()
    for _ in range(_ITERATIONS):
        least = least_slope(problem.sigma, problem.hidden, farthest / rho)
        after = float((least * problem.readout).square().mean(1).min())
        if after <= 0:
            return None
        if after >= rho * (1 - _CONVERGED):
            after = min(after, rho)
            rate = 2 / len(rows) * lowest * after
            return Guarantee(after, rate, farthest / after)
        rho = after
    return None


def largest_slope(sigma: Activation) -> float:
    """Supremum of |sigma'| over the line; inf where there is none, nan where it is not known."""
    if sigma.power is not None:
        return abs(sigma.factor) if sigma.power == 1 else math.inf
    # GELU is steepest where its second derivative, phi(h) (2 - h^2), changes its sign.
    where = {"linear": 0.0, "tanh": 0.0, "erf": 0.0, "gelu": math.sqrt(2)}
    if sigma.known not in where:
        return math.nan
    return float(sigma.first(torch.tensor(where[sigma.known], dtype=torch.float64)).abs())


def least_slope(
    sigma: Activation, centre: Float[Tensor, "..."], radius: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Infimum of |sigma'(u)| over |u - centre| <= radius, for the library's nonlinearities.

    Between its zeros |sigma'| of each of them rises at most once and then falls, so the infimum is
    at an end of the interval, or 0 where sigma' has opposite signs at the ends (GELU).
    """
    low, high = sigma.first(centre - radius), sigma.first(centre + radius)
    return torch.where(low * high > 0, torch.minimum(low.abs(), high.abs()), 0.0)


def largest_output(problem: Problem) -> float:
    """Supremum of |f| over all h, (1/(gamma0 m)) sum |c_i| sup |sigma|; inf if unbounded."""
    sigma = problem.sigma
    if sigma.known not in ("tanh", "erf"):
        return math.inf
    return abs(sigma.factor) * float(problem.readout.abs().mean()) / problem.gamma0
