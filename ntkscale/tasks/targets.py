"""Class labels as regression targets."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.tasks.task import Loss


def centred_one_hot(
    labels: Int[Tensor, " P"], classes: int, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "P C"]:
    """One-hot rows minus 1 / classes, so that every row sums to zero and balanced columns do too.

    Raises:
        ValueError: for a label outside 0 ... classes - 1.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, which is outside "
            f"0 ... {classes - 1}: renumber them from 0."
        )
    rows = torch.full((len(labels), classes), -1.0 / classes, dtype=dtype)
    rows[torch.arange(len(labels)), labels.long()] += 1.0
    return rows


def class_targets(
    labels: Int[Tensor, " P"], classes: int, loss: Loss, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "P C"]:
    """Targets of a classification task.

    Two classes under mse are one column, -1 for label 0 and +1 for label 1; otherwise the centred
    one-hot, of which cross-entropy uses the labels alone.
    """
    if classes == 2 and loss == "mse":
        centred_one_hot(labels, classes)  # refuses labels out of range
        return (2 * labels[:, None] - 1).to(dtype)
    return centred_one_hot(labels, classes, dtype)
