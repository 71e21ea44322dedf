"""The three stages of training (Zhou & Ge 2024, algorithm of D.5), on either loss.

0 constant and line are taken out of the target and kept at their optimum: the losses do that.
1 from f = 0 one large step on W, with lambda_0 = 1 / eta_0, so that nothing of W_0 remains: rows
  become multiples of -dL/dw_j ~ a_j H w_j and land near the teacher's subspace.
2 W stays, rows normalised; a is fitted with a ridge. Then |a_j| = |w_j|, the product as it was.
3 descent on a and W together, L + lambda / 2 (|a|^2 + |W|^2), for lambda, lambda / 2, ...
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.objective import Objective

JITTER = 1e-6
"""Mass that balancing gives every neuron: one without any would never move again."""

Student = tuple[Tensor, Tensor]


def symmetric_start(width: int, dimension: int, seed: int) -> Student:
    """a (m,) = +-1 and W (m, d) on the sphere in pairs of opposite a, so that f = 0.

    Raises:
        ValueError: an odd width.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width {width} is no number of pairs: give an even one.")
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(width // 2, dimension, generator=generator, dtype=torch.float64)
    half = half / half.norm(dim=1, keepdim=True)
    signs = torch.ones(width // 2, dtype=torch.float64)
    return torch.cat((signs, -signs)), torch.cat((half, half))


def early_step(
    objective: Objective, a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"], rate: float = 1.0
) -> Float[Tensor, "... m d"]:
    """W after one step of size `rate` with weight decay 1 / `rate`: -rate dL/dW."""
    return -rate * objective.gradients(a, W)[1]


def second_layer(
    objective: Objective, W: Float[Tensor, "... m d"], ridge: float
) -> tuple[Float[Tensor, "... m"], Float[Tensor, "... m d"]]:
    """Rows of length one, and the a to which descent on L + ridge |a|^2 converges."""
    units = W / W.norm(dim=-1, keepdim=True)
    gram, target = objective.normal_equations(units)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge * eye, target), units


def balance(
    a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"], jitter: float = JITTER
) -> Student:
    """|a_j| = |w_j| with sign and direction as they are, a_j |w_j| too but for `jitter`."""
    norms = W.norm(dim=-1)
    size = (a.abs() * norms + jitter).sqrt()
    return torch.where(a < 0, -size, size), W * (size / norms)[..., None]


def descend(
    objective: Objective,
    a: Float[Tensor, "... m"],
    W: Float[Tensor, "... m d"],
    lam: float | Float[Tensor, "..."],
    steps: int,
    rate: float | tuple[Tensor, Tensor],
) -> Student:
    """Gradient descent on L + lambda / 2 (|a|^2 + |W|^2).

    Args:
        objective: L.
        a: read-out.
        W: directions times norms; no row may be zero.
        lam: lambda, one for all students or one each.
        steps: to take.
        rate: step size; two tensors: those of a and of W, one for all students or one each.
    """
    pair = rate if isinstance(rate, tuple) else (rate, rate)
    lam, *rates = (torch.as_tensor(one, dtype=a.dtype, device=a.device) for one in (lam, *pair))
    rate_a, rate_w = rates[0][..., None], rates[1][..., None, None]
    keep_a, keep_w = 1 - rate_a * lam[..., None], 1 - rate_w * lam[..., None, None]
    for _ in range(steps):
        by_a, by_w, _ = objective.gradients(a, W)
        a, W = keep_a * a - rate_a * by_a, keep_w * W - rate_w * by_w
    return a, W


def penalty(a: Float[Tensor, "... m"], W: Float[Tensor, "... m d"]) -> Float[Tensor, "..."]:
    """(|a|^2 + |W|^2) / 2, at balance the total mass; at least that otherwise."""
    return (a.square().sum(-1) + W.square().sum((-1, -2))) / 2
