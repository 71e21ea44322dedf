"""Which axis of an inner tensor belongs to the samples: found by probing, never assumed.

Scale the cotangents of sample i by s_i. Whatever belongs to sample i scales by s_i with it. Inside
a model the samples may lie behind the tokens, or be merged with positions into one axis, before or
behind them; an axis of as many entries as there are samples may be something else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SCALES = (0.5, 1.0, 1.6)
"""Factors of the samples of a probe. A wrong axis misses them by a third and more."""

PROBE = len(SCALES)
"""Samples of a probe."""


@dataclass(frozen=True)
class Layout:
    """An axis of size pre * n * post that runs over (pre, samples, post)."""

    axis: int
    pre: int
    post: int

    def samples(self, shape: Sequence[int]) -> int:
        """Number of samples in a tensor of this shape."""
        return shape[self.axis] // (self.pre * self.post)


def by_sample(t: Tensor, layout: Layout) -> Tensor:
    """Samples first: (n, ..., pre * post, ...), the sample axis replaced by its positions.

    A view wherever strides allow it.
    """
    n = layout.samples(t.shape)
    axis = layout.axis
    split = t.unflatten(axis, (layout.pre, n, layout.post)).movedim(axis + 1, 0)
    if layout.pre == 1:
        return split.squeeze(axis + 1)
    return split.flatten(axis + 1, axis + 2)


def broadcast_by_sample(t: Tensor, layout: Layout, shape: Sequence[int]) -> Tensor:
    """`by_sample` of an operand that broadcasts to `shape`, which has the layout."""
    n = layout.samples(shape)
    missing = len(shape) - t.ndim
    t = t.reshape((1,) * missing + tuple(t.shape))
    if t.shape[layout.axis] == shape[layout.axis]:
        return by_sample(t, layout)
    return t.expand(n, *t.shape)


def summed_to(t: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Gradients (n, ...) of a broadcast operand: summed to (n, *shape), or None if it cannot be."""
    extra = t.ndim - 1 - len(shape)
    if extra < 0:
        return None
    if extra:
        t = t.sum(tuple(range(1, 1 + extra)))
    wide = [i + 1 for i, size in enumerate(shape) if size == 1 and t.shape[i + 1] != 1]
    if wide:
        t = t.sum(wide, keepdim=True)
    return t if tuple(t.shape[1:]) == tuple(shape) else None


def find_layout(
    plain: Tensor, scaled: Tensor, scales: Sequence[float], tolerance: float
) -> Layout | None:
    """The layout under which every sample's part of `scaled` is its scale times that of `plain`.

    None where there is none. A tensor of zeros fits anything: ask `is_dead` first.
    """
    n = len(scales)
    factors = torch.tensor(scales, dtype=plain.dtype, device=plain.device)
    for axis, size in enumerate(plain.shape):
        if size % n:
            continue
        rest = size // n
        for pre in (d for d in range(1, rest + 1) if rest % d == 0):
            layout = Layout(axis, pre, rest // pre)
            one = by_sample(plain, layout).reshape(n, -1)
            other = by_sample(scaled, layout).reshape(n, -1)
            gap = torch.linalg.vector_norm(other - factors[:, None] * one, dim=1)
            norm = torch.linalg.vector_norm(one, dim=1)
            if bool((gap <= tolerance * norm).all()):
                return layout
    return None


def is_dead(t: Tensor | None) -> bool:
    """Whether nothing flows here, or something that is no number, so that nothing can be read."""
    if t is None:
        return True
    norm = float(torch.linalg.vector_norm(t.double() if not t.is_complex() else t))
    return norm == 0 or not math.isfinite(norm)


def probe_tolerance(dtype: torch.dtype) -> float:
    """Relative rounding of a scaled cotangent: 1e-9, 1e-4 or, in half precision, 0.1."""
    return {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 0.1)
