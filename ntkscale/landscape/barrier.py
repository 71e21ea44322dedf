"""The error barrier on the straight line between two networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from ntkscale.landscape.batch_norm import batch_norms, recompute_statistics
from ntkscale.landscape.classes import check_labels, wrong
from ntkscale.landscape.model import Weights, evaluating, outputs_by_pieces, values_for
from ntkscale.ntk import unwrap

Statistics = Literal["none", "keep", "recompute"]

PerSample = Callable[[Tensor, Tensor], Tensor]
"""Outputs (n, C) and labels (n, ...) to a value a sample, (n,)."""


@dataclass(frozen=True)
class Barrier:
    """Error R along w(a) = (1 - a) start + a end, on one set of samples.

    Attributes:
        alphas: a from 0 to 1, equally spaced.
        errors: R at each: share of wrong labels, or the mean of the measure asked for.
        batch_norm: where its running statistics came from: ``"keep"`` interpolates those of the
            ends, ``"recompute"`` computes them anew at every a, ``"none"``: there is no batch norm.
    """

    alphas: Float[ndarray, "A"]
    errors: Float[ndarray, "A"]
    batch_norm: Statistics

    @property
    def barrier(self) -> float:
        """B = max R - (R(start) + R(end)) / 2; exactly 0 between a network and itself."""
        return float(self.errors.max() - (self.errors[0] + self.errors[-1]) / 2)


def error_barrier(
    model: nn.Module,
    start: Weights,
    end: Weights,
    sets: Mapping[str, tuple[Tensor, Tensor]],
    *,
    points: int = 11,
    measure: Literal["error"] | PerSample = "error",
    batch_norm: Literal["keep", "recompute"] = "keep",
    statistics_inputs: Float[Tensor, "s ..."] | None = None,
) -> dict[str, Barrier]:
    """Barriers between two networks on several sets of samples, in one walk along the line.

    All that is floating point in the state dicts is interpolated, parameters and buffers; whole
    numbers are those of the start. Networks are evaluated in evaluation mode, and the model given
    keeps parameters, buffers and modes.

    Args:
        model: any module that returns (n, C); its own weights do not matter.
        start, end: state dicts of such models.
        sets: name, such as ``"train"``, to inputs (m, ...) and labels (m,).
        points: number of a, ends included, 3 or more.
        measure: ``"error"``, the share of wrong labels, or a function of outputs (n, C) and labels
            (or whatever stands beside the inputs) that gives a value a sample, such as
            ``partial(F.cross_entropy, reduction="none")``.
        batch_norm: its running statistics: ``"keep"`` interpolates them, which usually overstates
            a barrier; ``"recompute"`` averages over `statistics_inputs` at every a, ends included.
        statistics_inputs: usually the inputs of the training set.

    Returns:
        A `Barrier` for every set, by its name.

    Cost: `points` forward passes of every set, and of `statistics_inputs`.

    Source: Fort et al. 2020 (arXiv 2010.15110), the error barrier.

    Raises:
        ValueError: weights, sets or labels that do not fit the model or each other, fewer than 3
            points, an unknown option, or recomputing without `statistics_inputs`.
    """
    module = unwrap(model)
    has_batch_norm = bool(batch_norms(module))
    _check(points, measure, batch_norm, has_batch_norm and statistics_inputs is None, sets)
    ends = values_for(module, start, "start"), values_for(module, end, "end")
    alphas = np.linspace(0, 1, points)
    errors: dict[str, list[float]] = {name: [] for name in sets}
    with evaluating(module):
        for alpha in alphas:
            values = _between(*ends, float(alpha))
            if has_batch_norm and batch_norm == "recompute":
                assert statistics_inputs is not None  # refused above
                recompute_statistics(module, values, statistics_inputs)
            for name, (inputs, labels) in sets.items():
                errors[name].append(_mean(module, values, inputs, labels, measure, name))
    used = batch_norm if has_batch_norm else "none"
    return {name: Barrier(alphas, np.array(each), used) for name, each in errors.items()}


def _between(start: Weights, end: Weights, alpha: float) -> dict[str, Tensor]:
    """Values on the line; `lerp` is exact at both ends and wherever the ends are equal."""
    return {
        name: torch.lerp(value, end[name], alpha)
        if value.is_floating_point() or value.is_complex()
        else value.clone()
        for name, value in start.items()
    }


def _mean(
    module: nn.Module,
    values: dict[str, Tensor],
    inputs: Tensor,
    labels: Tensor,
    measure: Literal["error"] | PerSample,
    name: str,
) -> float:
    total = 0.0
    for piece, outputs in outputs_by_pieces(module, values, inputs):
        answers = labels[piece].to(outputs.device)
        if measure == "error":
            check_labels(outputs, answers, f"labels of the set {name!r}")
            total += int(wrong(outputs, answers).sum())
        else:
            each = measure(outputs, answers)
            if each.shape != outputs.shape[:1]:
                raise ValueError(
                    f"the measure returns shape {tuple(each.shape)} for {len(outputs)} samples of "
                    f"the set {name!r}; return a value a sample (reduction='none')."
                )
            total += float(each.cpu().double().sum())
    return total / len(inputs)


def _check(
    points: int,
    measure: object,
    batch_norm: str,
    lacks_inputs: bool,
    sets: Mapping[str, tuple[Tensor, Tensor]],
) -> None:
    if points < 3:
        raise ValueError(f"points is {points}; take 3 or more, so that one lies between the ends.")
    if measure != "error" and not callable(measure):
        raise ValueError(f"unknown measure {measure!r}: choose 'error' or pass a function.")
    if batch_norm not in ("keep", "recompute"):
        raise ValueError(f"unknown batch_norm {batch_norm!r}: choose keep or recompute.")
    if batch_norm == "recompute" and lacks_inputs:
        raise ValueError(
            "batch_norm='recompute' needs statistics_inputs, usually those of the training set."
        )
    if not sets:
        raise ValueError("there is no set to measure on; pass {'train': (inputs, labels)}.")
    for name, (inputs, labels) in sets.items():
        if len(inputs) != len(labels):
            raise ValueError(
                f"the set {name!r} has {len(inputs)} inputs and {len(labels)} labels; pass as many "
                "of one as of the other."
            )
