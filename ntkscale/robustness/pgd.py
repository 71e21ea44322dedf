"""Projected gradient descent: small steps, each clipped to the ball and the range."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss
from ntkscale.robustness.checks import check_attack
from ntkscale.robustness.loss_gradient import Model, loss_gradient
from ntkscale.robustness.threat import Threat


def pgd(
    model: Model,
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    threat: Threat,
    *,
    steps: int = 10,
    step_size: float | None = None,
    random_start: bool = False,
    seed: int = 0,
    loss: Loss = "auto",
) -> Float[Tensor, "n ..."]:
    """The last of `steps` iterates x <- clip_range(clip_ball(x + step_size sign(g))).

    In the l2 norm g / |g|_2 stands for sign(g). Without a random start it is deterministic.

    Args:
        model, x, labels, threat, loss: as of `fgsm`.
        steps: gradients taken.
        step_size: of each, in the threat's norm; None: 2.5 eps / steps.
        random_start: begin at a uniform point of the ball instead of at x.
        seed: of that point.

    Returns:
        (n, ...) in dtype and device of x, without a graph; eps = 0 gives x bit for bit.

    Cost: `steps` forward and backward passes.

    Source: Madry et al. 2018 (arXiv 1706.06083), whose step size the default is; Tsilivis & Kempe
    2022 (arXiv 2210.05577) begin at x.

    Raises:
        ValueError: as of `fgsm`; steps below 1, or a step size that is not positive.
    """
    check_attack(model, x, labels, threat)
    if steps < 1:
        raise ValueError(f"steps is {steps}; take 1 or more.")
    if step_size is not None and not 0 < step_size < math.inf:
        raise ValueError(f"step_size is {step_size}; pass a positive one, or None for the default.")
    start = x.detach()
    if threat.eps == 0:
        return start.clone()
    size = 2.5 * threat.eps / steps if step_size is None else step_size
    current = start
    if random_start:
        current = threat.draw(start, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        _, gradient = loss_gradient(model, current, labels, loss)
        current = threat.project(current + size * threat.steepest(gradient).to(start), start)
    return current
