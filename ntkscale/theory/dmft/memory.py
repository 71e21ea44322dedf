"""How an optimiser remembers past gradients: one strictly lower-triangular matrix over times.

Every weight of a network is W(t) = W(0) + sum_s w(t, s) (-gradient at s). So everything that
theory integrates over the past, it sums with the same weights w(t, s), and all that is particular
to an optimiser is in them. With gradient descent and momentum the sums are exact at any learning
rate. For gradient flow they are a quadrature rule. All of them need the past alone, s < t, so that
equations can be marched through without solving for the present.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import number, whole


def memory_weights(
    steps: int, learning_rate: float, *, momentum: float = 0.0, flow: bool = False
) -> Float[Tensor, "T T"]:
    """w(t, s) of T = steps + 1 times; zero for s >= t.

    Gradient descent: the learning rate eta. Heavy ball: eta (1 - mu^(t-s)) / (1 - mu), from
    theta(t + 1) = theta(t) + eta v(t + 1), v(t + 1) = mu v(t) - gradient. Flow: what integrates
    from 0 to t by values at s = 0 ... t - 1, of third order: Gregory's rule at the start, that of
    Adams and Bashforth at the end (errors of integrals fall as eta^3).

    Args:
        steps: T - 1.
        learning_rate: eta; in flow the distance between times.
        momentum: mu, 0 to below 1.
        flow: weights of gradient flow.

    Raises:
        ValueError: numbers out of range; momentum in a flow.
    """
    steps = whole(steps, "steps")
    if not 0 < number(learning_rate) < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}.")
    if not 0 <= number(momentum) < 1:
        raise ValueError(f"momentum must be 0 or more and below 1, got {momentum!r}.")
    if flow and momentum:
        raise ValueError(
            f"flow with momentum {momentum}: gradient flow has none; drop one of the two."
        )
    learning_rate, momentum = float(learning_rate), float(momentum)
    t = torch.arange(steps + 1, dtype=torch.float64)
    lag = t[:, None] - t
    if not flow:
        growth = (1 - momentum ** lag.clamp_min(0)) / (1 - momentum)
        return learning_rate * growth.tril(-1)
    w = torch.ones_like(lag).tril(-1)
    w[4:, 0] -= 7 / 12
    w[4:, 1] += 1 / 12
    row = torch.arange(steps + 1)[4:]
    w[row, row - 1] += 11 / 12
    w[row, row - 2] -= 5 / 12
    # Fewer than four past values: the open rules that they allow, of order 1, 2 and 3. Integrals
    # of one and two steps are small, so their errors are of the order of the rest.
    for count, rule in enumerate(((1.0,), (0.0, 2.0), (0.75, 0.0, 2.25)), start=1):
        if count <= steps:
            w[count, :count] = torch.tensor(rule, dtype=torch.float64)
    return learning_rate * w
