"""What callers may hand to a theory: numbers and arrays of any library, checked in one sentence."""

import math
from typing import SupportsFloat

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

Array = Tensor | ArrayLike
"""A torch tensor (its device is where everything is computed), or anything numpy makes one of."""


def number(value: object) -> float:
    """The value as a float; nan where it is no number, which fails every check of a range."""
    if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # arrays of several entries
        return math.nan


def whole(value: object, name: str, least: int = 1) -> int:
    """The value as an int, also where it is given as 2.0 or 1e4.

    Raises:
        ValueError: it is no whole number, or below `least`.
    """
    checked = number(value)
    if not checked.is_integer() or checked < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}.")
    return int(checked)


def array(values: Array, name: str, device: torch.device | None = None) -> Float[Tensor, "..."]:
    """The values as a float64 tensor, differentiable where they are.

    Args:
        values: a tensor, or anything numpy makes an array of.
        name: of the argument, for messages.
        device: where to put it; None: where it is.

    Raises:
        ValueError: they are no real numbers, or not all finite.
    """
    try:
        # By way of numpy, as torch would make single precision of a list.
        tensor = values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no array of numbers ({error}); give one.") from None
    if tensor.is_complex():
        raise ValueError(f"{name} is complex; give real numbers.")
    tensor = tensor.to(device=device, dtype=torch.float64)
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} has entries that are not finite; remove those samples.")
    return tensor
