"""The two losses, member by member, with their gradients in the outputs.

The gradients are written out because a step needs them without the loss itself: full-batch
gradient flow takes thousands of steps of a few milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ntkscale.training.precision import wide


@dataclass(frozen=True)
class Loss:
    """A loss as a sum over samples; dividing by their number is left to the caller.

    Attributes:
        value: (outputs (..., n, C), answers) -> (...,), summed over the n samples, in float64.
        gradient: (outputs (..., n, C), answers) -> (..., n, C), its derivative in the outputs.
        curvature: largest eigenvalue of one sample's Hessian in its outputs, over all outputs.
    """

    value: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]
    curvature: float


def squared_error(
    outputs: Float[Tensor, "... n C"], targets: Float[Tensor, "n C"]
) -> Float[Tensor, "..."]:
    """Sum over samples of |y - f|^2, without 1/2, in float64; shape (...,)."""
    return wide(outputs - targets).square().sum((-2, -1))


def _half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * squared_error(outputs, targets)


def _cross_entropy(
    outputs: Float[Tensor, "... n C"], labels: Int[Tensor, "n"]
) -> Float[Tensor, "..."]:
    log_p = F.log_softmax(wide(outputs), dim=-1)
    index = labels[:, None].expand(*log_p.shape[:-1], 1)
    return -log_p.gather(-1, index).sum((-2, -1))


def _cross_entropy_gradient(
    outputs: Float[Tensor, "... n C"], labels: Int[Tensor, "n"]
) -> Float[Tensor, "... n C"]:
    answers = F.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return F.softmax(outputs, dim=-1) - answers


LOSSES: dict[str, Loss] = {
    "mse": Loss(_half_squared_error, torch.sub, curvature=1.0),
    # diag(p) - p p^T has no eigenvalue above 1/2, reached at p = (1/2, 1/2, 0, ...).
    "cross-entropy": Loss(_cross_entropy, _cross_entropy_gradient, curvature=0.5),
}
"""By the name a task gives: half the squared error, and cross-entropy in nats."""
