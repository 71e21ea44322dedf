"""What an attack increases: a loss a sample, from outputs and labels."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

LossName = Literal["auto", "margin", "cross-entropy", "dlr", "mse"]

Loss = LossName | Callable[[Tensor, Tensor], Tensor]
"""A name, or a function of outputs (n, C) and labels (n,) that gives a loss a sample, (n,)."""


def per_sample_loss(
    outputs: Float[Tensor, "n C"], labels: Int[Tensor, "n"], loss: Loss = "auto"
) -> Float[Tensor, "n"]:
    """The loss of every sample; a single output f stands for two classes, y = -1 and +1.

    Args:
        outputs: (n, C).
        labels: class indices; 0 and 1 for a single output.
        loss: one of

            - ``"auto"``: margin for one output, cross-entropy for several;
            - ``"margin"``: -y f; max over other classes of f_j - f_label. Never saturates;
            - ``"cross-entropy"``: log(1 + exp(-y f)); -log softmax(f)_label;
            - ``"dlr"``: the difference of logits ratio, unchanged when all outputs are shifted or
              scaled: (max_{j != label} f_j - f_label) / (f_pi1 - f_pi3), pi sorting f downwards
              (Croce & Hein 2020, arXiv 2003.01690, eq. 6; 1e-12 in the denominator is from their
              code);
            - ``"mse"``: |f - y|^2, with y = -1, +1 or the centred one-hot;
            - a function of outputs and labels.

    Raises:
        ValueError: an unknown name, labels that are not class indices of these outputs, dlr with
            fewer than three classes, or a function that does not return a value a sample.
    """
    if callable(loss):
        values = loss(outputs, labels)
        if not isinstance(values, Tensor) or values.shape != outputs.shape[:1]:
            what = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"the loss returns {what} for {len(outputs)} samples; return a value a sample "
                "(reduction='none')."
            )
        return values
    labels = check_labels(outputs, labels)
    single = outputs.shape[1] == 1
    if loss == "auto":
        loss = "margin" if single else "cross-entropy"
    if loss == "margin":
        return _margin(outputs, labels)
    if loss == "cross-entropy":
        if single:
            return F.softplus(_margin(outputs, labels))
        return F.cross_entropy(outputs, labels, reduction="none")
    if loss == "dlr":
        if outputs.shape[1] < 3:
            raise ValueError(
                f"the dlr loss needs three classes or more, and there are {outputs.shape[1]} "
                "outputs; choose loss='margin' or 'cross-entropy'."
            )
        top = outputs.topk(3, dim=1).values
        return _margin(outputs, labels) / (top[:, 0] - top[:, 2] + 1e-12)
    if loss == "mse":
        return (outputs - _targets(outputs, labels)).square().sum(1)
    raise ValueError(
        f"unknown loss {loss!r}: choose auto, margin, cross-entropy, dlr or mse, or pass a "
        "function of outputs and labels."
    )


def correct(outputs: Float[Tensor, "n C"], labels: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Which samples get their class: f > 0 is 1 for one output; a tie and nan count as wrong.

    Raises:
        ValueError: labels that are not class indices of these outputs.
    """
    return _margin(outputs, check_labels(outputs, labels)) < 0


def as_rows(outputs: object, count: int) -> Float[Tensor, "n C"]:
    """What a model returned for `count` samples, as (n, C); (n,) is one output.

    Raises:
        ValueError: not a tensor of one row a sample.
    """
    if isinstance(outputs, Tensor) and outputs.ndim in (1, 2) and len(outputs) == count:
        return outputs[:, None] if outputs.ndim == 1 else outputs
    what = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    raise ValueError(
        f"the model returns {what} for {count} samples; it must return one row of outputs a "
        "sample, so wrap it in a function that does."
    )


def check_labels(outputs: Float[Tensor, "n C"], labels: Tensor) -> Int[Tensor, "n"]:
    """Class indices as int64, where the outputs are.

    Raises:
        ValueError: not one whole number a sample, or outside the classes.
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != outputs.shape[:1] or not whole:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} and {labels.dtype} do not fit outputs of shape "
            f"{tuple(outputs.shape)}; pass one class index a sample (of targets -1 and +1: "
            "(y > 0).long())."
        )
    classes = max(2, outputs.shape[1])
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())} where the model has "
            f"{classes} classes; number them from 0."
        )
    return labels.to(outputs.device, torch.int64)


def _margin(outputs: Tensor, labels: Tensor) -> Tensor:
    """Largest other output minus the label's; negative where the class is right."""
    if outputs.shape[1] == 1:
        return -_targets(outputs, labels)[:, 0] * outputs[:, 0]
    own = outputs.gather(1, labels[:, None])
    others = outputs.scatter(1, labels[:, None], -torch.inf).amax(1)
    return others - own[:, 0]


def _targets(outputs: Tensor, labels: Tensor) -> Tensor:
    classes = outputs.shape[1]
    if classes == 1:
        return (2 * labels[:, None] - 1).to(outputs)
    return F.one_hot(labels, classes).to(outputs) - 1 / classes
