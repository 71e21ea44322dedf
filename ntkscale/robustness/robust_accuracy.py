"""Accuracy under attack, with what speaks against believing it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.stats import binomtest
from torch import Tensor

from ntkscale.robustness.attack_losses import correct
from ntkscale.robustness.checks import check_batch, check_evaluating
from ntkscale.robustness.loss_gradient import Model, outputs_of
from ntkscale.robustness.sanity import sanity_checks
from ntkscale.robustness.threat import Threat

Attack = Callable[[Model, Tensor, Tensor], Tensor]
"""(model, x, labels) to adversarial inputs, such as ``partial(pgd, threat=Threat(8 / 255))``."""

_MOST_SAMPLES = 500
_MOST_BYTES = 8 << 20  # of inputs at a time
_CHECKED = 100
"""Samples of the first batch that the sanity checks look at."""


@dataclass(frozen=True)
class RobustAccuracy:
    """Accuracies with and without an attack.

    Attributes:
        clean: share of the inputs that get their class.
        robust: the same of the adversarial inputs.
        interval: exact binomial (Clopper-Pearson) interval of `robust`.
        adversarial: the adversarial inputs, in the order of the inputs.
        warnings: a sentence for every reason to doubt the number.
    """

    clean: float
    robust: float
    interval: tuple[float, float]
    adversarial: Float[Tensor, "n ..."]
    warnings: tuple[str, ...]


def robust_accuracy(
    model: Model,
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    attack: Attack,
    *,
    batch_size: int | None = None,
    confidence: float = 0.95,
    sanity: Threat | None = None,
) -> RobustAccuracy:
    """Attack all inputs, batch by batch, and count. A tie and nan count as wrong.

    An attack that draws random numbers by a seed draws the same ones in every batch.

    Args:
        model: any callable of a batch.
        x, labels: inputs (n, ...) and class indices (n,).
        attack: called with model, inputs and labels of a batch.
        batch_size: samples attacked at a time; None: at most 500 and 8 MiB of inputs.
        confidence: of the interval.
        sanity: run `sanity_checks` for this threat on up to 100 samples of the first batch.

    Cost: the attack's, and two forward passes.

    Raises:
        ValueError: what `fgsm` refuses; a batch size below 1, a confidence outside 0 to 1, or an
            attack that returns inputs of another shape.
    """
    check_batch(x, labels)
    check_evaluating(model, x)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; take 1 or more, or None for the default.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; pass a share between 0 and 1, as 0.95.")
    x = x.detach()
    size = batch_size or max(1, min(_MOST_SAMPLES, _MOST_BYTES // (x[0].nbytes)))
    clean = robust = nans = 0
    attacked: list[Tensor] = []
    for batch, answers in zip(x.split(size), labels.split(size), strict=True):
        moved = attack(model, batch, answers).detach()
        if moved.shape != batch.shape:
            raise ValueError(
                f"the attack returns shape {tuple(moved.shape)} for inputs of shape "
                f"{tuple(batch.shape)}; return one adversarial input a sample."
            )
        outputs = outputs_of(model, moved)
        clean += int(correct(outputs_of(model, batch), answers).sum())
        robust += int(correct(outputs, answers).sum())
        nans += int((~outputs.isfinite()).any(1).sum())
        attacked.append(moved)
    warnings: list[str] = []
    if nans:
        warnings.append(
            f"{nans} of {len(x)} adversarial inputs have outputs that are not finite and count as "
            "wrong: the model has diverged, or the attack returns nan."
        )
    if robust > clean:
        warnings.append(
            f"the attack helps: {robust} of {len(x)} inputs are right under it and {clean} without "
            "it; look whether it increases the loss, and whether labels are what the model learned."
        )
    if sanity is not None:
        few = slice(min(size, _CHECKED))
        warnings += sanity_checks(model, x[few], labels[few], sanity)
    interval = binomtest(robust, len(x)).proportion_ci(confidence, method="exact")
    return RobustAccuracy(
        clean=clean / len(x),
        robust=robust / len(x),
        interval=(float(interval.low), float(interval.high)),
        adversarial=torch.cat(attacked),
        warnings=tuple(warnings),
    )
