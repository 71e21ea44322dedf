"""Trajectories of parents and children, seen in the plane in which they move most."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.landscape.model import Weights
from ntkscale.ntk import eigensystem

_BLOCK = 1 << 20  # parameters of every checkpoint that are held in float64 at a time


@dataclass(frozen=True)
class PrincipalPlane:
    """Checkpoints in the plane of their two leading principal components.

    Attributes:
        coordinates: (T, 2) float64, centred; distances are those of the weights, projected. Of each
            component the entry of largest modulus is positive.
        explained: share of the variance about the mean in each of the two.
    """

    coordinates: Float[Tensor, "T 2"]
    explained: Float[Tensor, "2"]


def principal_plane(
    checkpoints: Float[Tensor, "T D"] | Sequence[Weights], *, names: Iterable[str] | None = None
) -> PrincipalPlane:
    """Project checkpoints, of one network or of a parent and its children, on their plane.

    Args:
        checkpoints: flattened weights, one row each, or one state dict each, T >= 3.
        names: entries of the state dicts that count, usually
            ``[name for name, _ in model.named_parameters()]``; None: all that are floating point,
            running statistics of batch norm among them.

    Cost: T^2 D / 2 multiply-adds and an eigensystem of the T x T Gram matrix; no matrix is D x D,
    and beside the checkpoints T * 2^20 float64 are held.

    Raises:
        ValueError: fewer than three checkpoints, checkpoints that differ in names or shapes, that
            are not finite or all equal.
    """
    count = len(checkpoints)
    if count < 3:
        raise ValueError(f"there are {count} checkpoints; a plane needs three or more.")
    gram: Tensor | None = None
    for block in _blocks(checkpoints, names):
        centred = block - block.mean(0)
        gram = centred @ centred.T if gram is None else gram + centred @ centred.T
    if gram is None:
        raise ValueError("the checkpoints have no weights of floating point; choose other names.")
    if not bool(torch.isfinite(gram).all()):
        raise ValueError("a checkpoint holds nan or infinity; leave out runs that diverged.")
    total = gram.trace()
    if total <= 0:
        raise ValueError("all checkpoints are equal; pass some from different times.")
    values, vectors = eigensystem((gram + gram.T) / 2)
    # Rounding leaves tiny negative eigenvalues where all checkpoints lie on one line.
    leading = values[:2].clamp(min=0)
    return PrincipalPlane(vectors[:, :2] * leading.sqrt(), leading / total)


def _blocks(
    checkpoints: Tensor | Sequence[Weights], names: Iterable[str] | None
) -> Iterator[Float[Tensor, "T d"]]:
    """Columns of the table of all weights in float64, some at a time."""
    if isinstance(checkpoints, Tensor):
        if checkpoints.ndim != 2:
            raise ValueError(
                f"the checkpoints have shape {tuple(checkpoints.shape)}; pass one row each."
            )
        yield from (piece.detach().double() for piece in checkpoints.split(_BLOCK, dim=1))
        return
    first = checkpoints[0]
    chosen = [n for n, v in first.items() if v.is_floating_point()] if names is None else [*names]
    for name in chosen:
        shapes = [tuple(c[name].shape) if name in c else None for c in checkpoints]
        if None in shapes or len(set(shapes)) > 1:
            odd = next(i for i, shape in enumerate(shapes) if shape is None or shape != shapes[0])
            raise ValueError(
                f"checkpoint {odd} has {name!r} of shape {shapes[odd]}, the first one "
                f"{shapes[0]}; pass checkpoints of one network."
            )
        flat = [c[name].detach().reshape(-1) for c in checkpoints]
        for at in range(0, flat[0].numel(), _BLOCK):
            yield torch.stack([row[at : at + _BLOCK].double() for row in flat])
