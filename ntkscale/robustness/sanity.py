"""Signs that an attack fails for reasons of its own, so that its accuracy is no robustness."""

import itertools
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss, correct, per_sample_loss
from ntkscale.robustness.checks import check_attack
from ntkscale.robustness.controls import random_signs
from ntkscale.robustness.loss_gradient import Model, loss_gradient, outputs_of
from ntkscale.robustness.pgd import pgd
from ntkscale.robustness.threat import Threat

_LADDER = (0.25, 0.5, 1.0)
"""Shares of eps at which the loss is compared."""

_STEPS, _MORE_STEPS = 10, 40


def sanity_checks(
    model: Model, x: Float[Tensor, "n ..."], labels: Int[Tensor, "n"], threat: Threat
) -> list[str]:
    """A sentence for every sign that gradients mislead, with its meaning or cure; none: no sign.

    Looked at, by PGD on the loss ``"auto"``: outputs that differ from call to call; samples
    without a gradient; a mean loss that does not grow with eps; samples that stay right though x'
    may be anything in the range (an unbounded range: within ten times the spread of the inputs);
    random signs that raise the loss as much as the attack. A hundred samples are enough.

    Cost: about 70 forward and backward passes.

    Source: Carlini et al. 2019 (arXiv 1902.06705), section 3; the flags of AutoAttack (Croce & Hein
    2020, arXiv 2003.01690).

    Raises:
        ValueError: what `fgsm` refuses.
    """
    check_attack(model, x, labels, threat)
    labels = labels.to(x.device)
    found: list[str] = []
    outputs, gradient = loss_gradient(model, x, labels)
    again = outputs_of(model, x)
    scale = float(outputs.abs().max())
    gap = float((again - outputs).abs().max())
    rounding = 1e3 * torch.finfo(outputs.dtype).eps
    if not gap <= rounding * scale:
        found.append(
            f"outputs differ by up to {gap:.2g} from one call to the next: gradients are noise; "
            "take the randomness out, or attack the mean over many calls."
        )
    flat = gradient.flatten(1)
    empty = int(((flat == 0).all(1) | ~flat.isfinite().all(1)).sum())
    if empty:
        found.append(
            f"{empty} of {len(x)} samples have a gradient that is zero or not finite, and stay as "
            "they are: gradients are masked; try loss='margin' or 'dlr', or float64."
        )
    if threat.eps > 0:
        found += _growth(model, x, labels, threat)
    found += _anything(model, x, labels, threat)
    return found


def _growth(model: Model, x: Tensor, labels: Tensor, threat: Threat) -> list[str]:
    found: list[str] = []
    losses = [_mean_loss(model, x, labels)]
    for share in _LADDER:
        ball = replace(threat, eps=share * threat.eps)
        losses.append(_mean_loss(model, pgd(model, x, labels, ball, steps=_STEPS), labels))
    # A hundredth of the whole rise is not a fall.
    allowed = 0.01 * (max(losses) - min(losses))
    falls = any(after < before - allowed for before, after in itertools.pairwise(losses))
    if falls or not losses[-1] > losses[0]:
        shown = ", ".join(f"{value:.4g}" for value in losses)
        found.append(
            f"the mean loss does not grow with eps ({shown} at 0, 1/4, 1/2 and all of it): the "
            "gradient does not lead uphill; take more and smaller steps, or another loss."
        )
    noise = _mean_loss(model, random_signs(x, threat), labels)
    if noise >= losses[-1]:
        found.append(
            f"random signs of equal size are as harmful as the attack (mean loss {noise:.4g} and "
            f"{losses[-1]:.4g}): the gradient knows nothing; what falls under it falls under noise."
        )
    return found


def _anything(model: Model, x: Tensor, labels: Tensor, threat: Threat) -> list[str]:
    """Samples that no change within the whole range makes wrong."""
    low = x.min().item() if threat.low is None else threat.low
    high = x.max().item() if threat.high is None else threat.high
    bounded = threat.low is not None and threat.high is not None
    reach = (high - low or 1.0) * (1 if bounded else 10)
    eps = reach if threat.norm == "linf" else reach * x[0].numel() ** 0.5
    left = torch.arange(len(x), device=x.device)
    # A second loss where the first one has saturated on the way.
    losses: tuple[Loss, ...] = ("auto", "margin")
    for loss in losses:
        moved = pgd(
            model, x[left], labels[left], replace(threat, eps=eps), steps=_MORE_STEPS, loss=loss
        )
        left = left[correct(outputs_of(model, moved), labels[left])]
        if not len(left):
            return []
    return [
        f"{len(left)} of {len(x)} samples stay right though x' may be anything in the range: the "
        "attack does not find what is there (or the model knows one class alone); take more steps, "
        "another loss, or an attack without gradients."
    ]


def _mean_loss(model: Model, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(per_sample_loss(outputs_of(model, x), labels).double().mean())
