"""Outputs of a model and the gradient of a loss in its inputs, by closed form where it has one."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss, as_rows, per_sample_loss

Model = Callable[[Tensor], Tensor]
"""x (n, ...) to outputs (n, C), or (n, 1) or (n,) for two classes; an ``nn.Module`` is one."""


def loss_gradient(
    model: Model, x: Float[Tensor, "n ..."], labels: Int[Tensor, "n"], loss: Loss = "auto"
) -> tuple[Float[Tensor, "n C"], Float[Tensor, "n ..."]]:
    """Outputs at x, and the gradient of every sample's loss in that sample.

    A model that offers ``pullback(x) -> (outputs, pull)``, with pull taking cotangents (n, C) of
    the outputs to gradients (n, ...), is differentiated by that; any other by autograd, whatever
    the caller's mode. Neither touches the ``.grad`` of the parameters nor the inputs.

    Returns:
        Both detached. A closed form keeps its own dtype: float64 gradients of float32 inputs stay.

    Cost: one forward and one backward pass.

    Source: Tsilivis & Kempe 2022 (arXiv 2210.05577), section 3: for several outputs
    sum_k (softmax(f)_k - y_k) grad f_k, for one -y grad f.

    Raises:
        ValueError: outputs that are not one row a sample or have no derivative in x, or a loss or
            labels that do not fit them.
    """
    with torch.inference_mode(False), torch.enable_grad():
        pullback = getattr(model, "pullback", None)
        if pullback is not None:
            return _by_pullback(pullback, x, labels, loss)
        leaf = x.detach().clone().requires_grad_()
        outputs = as_rows(model(leaf), len(x))
        if not outputs.requires_grad:
            raise ValueError(
                "the model's outputs have no derivative in its inputs; take out what detaches them "
                "(no_grad, detach, numpy), or give the model a `pullback`."
            )
        total = per_sample_loss(outputs, labels, loss).sum()
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(x)
    return outputs.detach(), gradient


def outputs_of(model: Model, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
    """Outputs alone, without autograd.

    Raises:
        ValueError: not one row a sample.
    """
    with torch.no_grad():
        return as_rows(model(x.detach()), len(x))


def _by_pullback(
    pullback: Callable[[Tensor], tuple[Tensor, Callable[[Tensor], Any]]],
    x: Tensor,
    labels: Tensor,
    loss: Loss,
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        outputs, pull = pullback(x.detach())
    rows = as_rows(outputs, len(x)).detach()
    leaf = rows.clone().requires_grad_()
    (cotangent,) = torch.autograd.grad(per_sample_loss(leaf, labels, loss).sum(), leaf)
    with torch.no_grad():
        return rows, pull(cotangent)
