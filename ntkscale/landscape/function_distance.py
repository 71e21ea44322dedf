"""How far apart two networks are as functions."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.landscape.classes import chosen_class


def function_distance(
    first: Float[Tensor, "m C"],
    second: Float[Tensor, "m C"],
    *,
    of: Literal["softmax", "logits"] = "softmax",
) -> float:
    """Mean over inputs of |p(x) - p'(x)|_2, from the outputs of two networks.

    Args:
        first, second: outputs on the same inputs, see `outputs_at`.
        of: p is the softmax of the outputs, between 0 and sqrt(2) apart, or the outputs themselves.

    Source: Fort et al. 2020 (arXiv 2010.15110), distance in function space.

    Raises:
        ValueError: outputs of different shapes, an unknown `of`, or the softmax of a single output.
    """
    _check_same_shape(first, second)
    p, q = first.double(), second.double()
    if of == "softmax":
        if first.shape[1] == 1:
            raise ValueError("the softmax of a single output is always 1; pass of='logits'.")
        p, q = p.softmax(1), q.softmax(1)
    elif of != "logits":
        raise ValueError(f"unknown of={of!r}: choose softmax or logits.")
    return float(torch.linalg.vector_norm(p - q, dim=1).mean())


def disagreement(first: Float[Tensor, "m C"], second: Float[Tensor, "m C"]) -> float:
    """Share of inputs for which two networks choose different classes; see `chosen_class`.

    Raises:
        ValueError: outputs of different shapes.
    """
    _check_same_shape(first, second)
    return int((chosen_class(first) != chosen_class(second)).sum()) / len(first)


def _check_same_shape(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape or not first.numel():
        raise ValueError(
            f"the outputs have shapes {tuple(first.shape)} and {tuple(second.shape)}; pass (m, C) "
            "outputs of both networks on the same inputs."
        )
