"""Whether kernels of different architectures, widths or seeds have the same leading features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.robustness.predictor import KernelPredictor


def subspace_overlap(
    first: Float[Tensor, "n r1"], second: Float[Tensor, "n r2"], count: int
) -> float:
    """|V1^T V2|_F^2 / k of the leading k columns: 1 for the same space, k / n by chance.

    Args:
        first, second: orthonormal columns, as `KernelPredictor.eigenvectors`.
        count: k.

    Raises:
        ValueError: vectors on different points, or fewer than k of them.
    """
    a, b = _leading(first, second, count)
    return float((a.mT @ b).square().sum()) / count


def principal_angles(
    first: Float[Tensor, "n r1"], second: Float[Tensor, "n r2"], count: int
) -> Float[Tensor, "k"]:
    """Angles between the spaces of the leading k columns, smallest first, in radians.

    Small ones are taken from their sine, large ones from their cosine (Bjorck & Golub 1973), so
    that all are accurate to rounding.

    Raises:
        ValueError: as `subspace_overlap`.
    """
    a, b = _leading(first, second, count)
    cross = a.mT @ b
    cosine = torch.linalg.svdvals(cross).clamp(max=1)
    sine = torch.linalg.svdvals(b - a @ cross).flip(0).clamp(max=1)
    return torch.where(cosine.square() > 0.5, sine.arcsin(), cosine.arccos())


@dataclass(frozen=True)
class FeatureConsistency:
    """M kernels compared pair by pair, at K numbers of leading features.

    Attributes:
        counts: k.
        overlap: of the leading eigenspaces on the training points, `subspace_overlap`.
        chance: overlap of random spaces, k / n.
        correlation: of the outputs f_{<k} over held-out inputs, all outputs together.
    """

    counts: tuple[int, ...]
    overlap: Float[Tensor, "K M M"]
    chance: Float[Tensor, "K"]
    correlation: Float[Tensor, "K M M"]


def feature_consistency(
    predictors: Sequence[KernelPredictor], counts: Sequence[int], x: Float[Tensor, "m ..."]
) -> FeatureConsistency:
    """Compare the leading features of several kernels on the same training set.

    Args:
        predictors: on the same inputs and targets.
        counts: k; where k splits a pair of equal eigenvalues, the space is not well defined.
        x: held-out inputs.

    Raises:
        ValueError: predictors of different training sets, or a count out of range.

    Cost: M^2 K products (k, n) (n, k), and f_{<k} on x for each kernel and k.
    """
    if not predictors:
        raise ValueError("there is no kernel to compare: give at least one predictor.")
    reference = predictors[0]
    for other in predictors[1:]:
        same = len(other.eigenvalues) == len(reference.eigenvalues) and torch.equal(
            other.targets, reference.targets
        )
        if not same or not torch.equal(
            other.inputs.flatten(1).double(), reference.inputs.flatten(1).double()
        ):
            raise ValueError(
                "the predictors were fitted to different training sets: fit each kernel to the "
                "same inputs and targets."
            )
    many, n = len(predictors), len(reference.eigenvalues)
    overlap = torch.ones(len(counts), many, many, dtype=torch.float64)
    correlation = torch.ones_like(overlap)
    for row, k in enumerate(counts):
        with torch.no_grad():
            outputs = [p.features(range(k))(x).double().flatten().cpu() for p in predictors]
        centred = [f - f.mean() for f in outputs]
        unit = torch.stack([f / torch.linalg.vector_norm(f) for f in centred])
        correlation[row] = unit @ unit.mT
        for i, one in enumerate(predictors):
            for j, other in enumerate(predictors[:i]):
                shared = subspace_overlap(one.eigenvectors, other.eigenvectors, k)
                overlap[row, i, j] = overlap[row, j, i] = shared
    chance = torch.tensor([k / n for k in counts], dtype=torch.float64)
    return FeatureConsistency(tuple(counts), overlap, chance, correlation)


def _leading(first: Tensor, second: Tensor, count: int) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"vectors of shape {tuple(first.shape)} and {tuple(second.shape)} are not on the same "
            "points: give (n, r) eigenvectors of kernels on one set of inputs."
        )
    if not 1 <= count <= min(first.shape[1], second.shape[1]):
        raise ValueError(
            f"there are no {count} leading vectors of {first.shape[1]} and {second.shape[1]}: give "
            "a count from 1 to the smaller number."
        )
    return first[:, :count].double(), second[:, :count].double()
