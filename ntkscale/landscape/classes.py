"""The class a network chooses, and how often it is wrong."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def chosen_class(outputs: Float[Tensor, "m C"]) -> Int[Tensor, "m"]:
    """Index of the largest output; a single output stands for two classes, chosen by its sign."""
    return outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[..., 0] > 0).long()


def error_rate(outputs: Float[Tensor, "m C"], labels: Int[Tensor, "m"]) -> float:
    """Share of samples with a wrong class; an output that is nan is wrong.

    Raises:
        ValueError: labels that are not one whole number a sample, or outside the classes.
    """
    check_labels(outputs, labels, "labels")
    return int(wrong(outputs, labels).sum()) / len(outputs)


def wrong(outputs: Float[Tensor, "m C"], labels: Int[Tensor, "m"]) -> Bool[Tensor, "m"]:
    """Which samples get a wrong class, or none because an output is nan."""
    return (chosen_class(outputs) != labels.to(outputs.device)) | outputs.isnan().any(-1)


def check_labels(outputs: Float[Tensor, "n C"], labels: Tensor, name: str) -> None:
    """Refuse labels that cannot belong to these outputs; `name` says which labels.

    Raises:
        ValueError: not one whole number a sample, or outside the classes.
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != outputs.shape[:1] or not whole:
        raise ValueError(
            f"{name} of shape {tuple(labels.shape)} and {labels.dtype} cannot be compared with "
            f"outputs of shape {tuple(outputs.shape)}; pass one whole number a sample."
        )
    classes = max(2, outputs.shape[-1])
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"{name} run from {int(labels.min())} to {int(labels.max())} where the network has "
            f"{classes} classes; number them from 0."
        )
