"""The lazy limit: the NTK twin of many neurons, and of many frozen features, in closed form."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.arguments import Array, array
from ntkscale.theory.infinite_width import kernels, lazy_flow, propagate
from ntkscale.theory.partially_trained.problem import Problem


def limit_flow(
    problem: Problem, times: Sequence[float]
) -> tuple[Float[Tensor, "T n"], Float[Tensor, "T q"] | None]:
    """Outputs over time where A o G stays what it is at the start: the twin's limit.

        f(t) = f(0) + Theta_* Theta_0^-1 (1 - exp(-Theta_0 t / n)) (y - f(0)),  Theta_0 = A(0) o G

    At t = inf kernel regression with Theta_0. It does not depend on gamma0 but through f(0).

    Args:
        problem: the network at its start; its further points are predicted too.
        times: flow times from 0 to infinity.

    Returns:
        Outputs on the n points and on the further ones, if there are any.
    """
    theta = problem.tangent(problem.hidden)
    left = problem.targets - problem.start
    own = lazy_flow(theta, left, times, cross=theta).mean + problem.start
    if problem.cross_hidden is None:
        return own, None
    first = problem.outputs(problem.cross_hidden, test=True)
    return own, lazy_flow(theta, left, times, cross=problem.cross_tangent()).mean + first


def limit_movement(problem: Problem, time: float) -> Float[Tensor, "n m"]:
    """h(t) - h(0) of the network linearised at its start, which a lazy one tends to.

    -gamma0 G (E o sigma'(h(0)) c) / n with E = int_0^t e, e the errors of `limit_flow`: of order
    gamma0, 1/sqrt(m) in the twin.

    Raises:
        ValueError: a time below 0 or not finite (along null directions of A o G errors stay).
    """
    if not 0 <= time < math.inf:
        raise ValueError(f"time {time!r} must be 0 or above, and finite.")
    values, vectors = torch.linalg.eigh(problem.tangent(problem.hidden))
    rates = values.clamp_min(0) / len(values)
    # (1 - exp(-r t)) / r, which is t at r = 0.
    spent = torch.where(rates > 0, -torch.expm1(-rates * time) / rates.clamp_min(1e-300), time)
    errors = vectors @ (spent * (vectors.mT @ (problem.start - problem.targets)))
    memory = errors[:, None] * problem.sigma.first(problem.hidden) * problem.readout
    return -problem.gamma0 / len(values) * (problem.gram @ memory)


def infinite_gram(
    x1: Array,
    x2: Array | None = None,
    *,
    depth: int,
    activation: str | Activation | Pointwise = "relu",
    bias: float = 0.0,
    normalised: bool = False,
) -> Float[Tensor, "n1 n2"]:
    """G of infinitely many frozen features: the NNGP kernel of the layers below the trained one.

    Args:
        x1, x2: inputs; None: `x1` with itself.
        depth: hidden layers of the whole network, the trained one the last: 1 gives x.x' / D.
        activation: of the frozen layers.
        bias: standard deviation of their biases.
        normalised: their phi is scaled to unit second moment.
    """
    if depth == 1:
        first = array(x1, "x1").flatten(1)
        second = first if x2 is None else array(x2, "x2", first.device).flatten(1)
        return first @ second.mT / first.shape[1]
    return kernels(
        x1,
        x2,
        depth=depth - 1,
        activation=activation,
        bias_variance=bias**2,
        normalised=normalised,
    ).nngp


def infinite_kernel(
    gram: Array,
    first: Array | None = None,
    second: Array | None = None,
    *,
    activation: str | Activation | Pointwise = "relu",
    normalised: bool = False,
) -> Float[Tensor, "n1 n2"]:
    """Theta_0 = G o E sigma'(u) sigma'(v) of infinitely many neurons, (u, v) ~ N(0, G).

    Args:
        gram: G, e.g. from `infinite_gram`.
        first, second: its diagonal on each set of points; None for both: one set.
        activation: sigma.
        normalised: sigma is scaled to unit second moment.
    """
    both = propagate(gram, first, second, depth=1, activation=activation, normalised=normalised)
    return both.ntk - both.nngp
