"""The fast gradient method: one step to the edge of the ball."""

from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss
from ntkscale.robustness.checks import check_attack
from ntkscale.robustness.loss_gradient import Model, loss_gradient
from ntkscale.robustness.threat import Threat


def fgsm(
    model: Model,
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    threat: Threat,
    *,
    loss: Loss = "auto",
) -> Float[Tensor, "n ..."]:
    """x + eps sign(g), or x + eps g / |g|_2 a sample, clipped to the range.

    On a model that is linear in x, and where the range does not bind, no point of the ball has a
    larger loss. A sample whose gradient is zero or not finite stays; `sanity_checks` counts those.

    Returns:
        (n, ...) in dtype and device of x, without a graph; eps = 0 gives x bit for bit.

    Cost: one forward and one backward pass.

    Source: Goodfellow et al. 2015 (arXiv 1412.6572); Tsilivis & Kempe 2022 (arXiv 2210.05577),
    section 3, on kernels.

    Raises:
        ValueError: inputs outside the range, a model in training mode, or labels, outputs and loss
            that do not fit each other.
    """
    check_attack(model, x, labels, threat)
    start = x.detach()
    if threat.eps == 0:
        return start.clone()
    _, gradient = loss_gradient(model, start, labels, loss)
    return threat.project(start + threat.eps * threat.steepest(gradient).to(start), start)
