"""Kernels of linear maps from two Gram matrices, without a gradient ever formed.

Works in tiles whose operands and result stay in the cache. With several positions P a sample, the
Gram matrices run over positions, and their product is summed over both: (n P)^2 numbers instead of
the n gradients of C outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.capture import Chunk
from ntkscale.ntk.factors import Factors
from ntkscale.ntk.uses import Use

ROWS = 512
"""Rows of a tile. Its three squares of float32 fill 3 MiB, and longer products are no faster."""

LEAST = 128
"""Rows below which products lose speed."""


@dataclass(frozen=True)
class GramTerm:
    """A weight, and perhaps the bias added by the same operations.

    Attributes:
        weight: its name.
        bias: the bias's name, or None. Its gradient is that of one further row of ones.
        uses: all uses of the weight, with their places among a chunk's operands.
    """

    weight: str
    bias: str | None
    uses: tuple[tuple[int, Use], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters whose kernels this gives."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


class _Place(NamedTuple):
    """Which of the kernel's squares a product belongs to; turned: its transpose does."""

    at: int
    turned: bool = False


_FIRST = (_Place(0),)


def add_grams(
    terms: Sequence[GramTerm], a: Chunk, b: Chunk, kind: Kind, into: Mapping[str, Tensor]
) -> None:
    """Add the kernels of all terms to those `into`, each (G, n1, n2).

    G is 1 for "trace", C for "diagonal", C^2 for "full". Where `a` is `b`, entries above the
    diagonal may be left out.
    """
    symmetric = a is b
    pairs = [(t, Factors.of(t.uses, a)) for t in terms]
    others = pairs if symmetric else [(t, Factors.of(t.uses, b)) for t in terms]
    for (term, left), (_, right) in zip(pairs, others, strict=True):
        step = max(1, tile_rows(a.n * left.positions) // left.positions)
        for i in range(0, a.n, step):
            rows = slice(i, min(i + step, a.n))
            for j in range(0, rows.stop if symmetric else b.n, step):
                columns = slice(j, min(j + step, b.n))
                _add_tile(term, left, right, rows, columns, symmetric and i == j, kind, into)


def tile_rows(rows: int) -> int:
    """Rows of a tile: of few rows, small tiles leave out more of what symmetry gives."""
    return max(LEAST, min(ROWS, rows // 4))


def _add_tile(
    term: GramTerm,
    a: Factors,
    b: Factors,
    rows: slice,
    columns: slice,
    diagonal: bool,
    kind: Kind,
    into: Mapping[str, Tensor],
) -> None:
    p = a.positions
    r, s = slice(rows.start * p, rows.stop * p), slice(columns.start * p, columns.stop * p)
    apart = term.bias is not None and into[term.bias] is not into[term.weight]
    for g in range(a.groups):
        left = a.left_gram(g, r, b, s)
        if term.bias is not None and not apart:
            left += 1
        for places, product in _cotangent_products(a, b, g, r, s, diagonal, kind):
            if term.bias is not None and apart:
                bias = product if isinstance(product, Tensor) else torch.full_like(left, product)
                _put(into[term.bias], places, rows, columns, _summed(bias, p))
            if p == 1 and len(places) == 1 and isinstance(product, Tensor):
                into[term.weight][places[0].at, rows, columns].addcmul_(left, product)
            else:
                _put(into[term.weight], places, rows, columns, _summed(left * product, p))


def _put(
    into: Tensor, places: Sequence["_Place"], rows: slice, columns: slice, part: Tensor
) -> None:
    for place in places:
        into[place.at, rows, columns] += part.T if place.turned else part


def _summed(t: Tensor, positions: int) -> Tensor:
    """Sum over the positions of both sides."""
    if positions == 1:
        return t
    n, m = t.shape[0] // positions, t.shape[1] // positions
    # Along the memory first.
    return t.view(n, positions, m * positions).sum(1).view(n, m, positions).sum(2)


def _cotangent_products(
    a: Factors, b: Factors, g: int, r: slice, s: slice, diagonal: bool, kind: Kind
) -> Iterator[tuple[tuple[_Place, ...], Tensor | float]]:
    """Products of cotangents, with the places in the kernel they belong to."""
    if a.weights is not None and b.weights is not None:
        yield from _weighted_products(a, b, g, r, s, diagonal, kind)
        return
    left, right = a.dense[g], b.dense[g]
    count = len(left)
    if kind == "trace":
        total = left[0][r] @ right[0][s].T
        for c in range(1, count):
            total.addmm_(left[c][r], right[c][s].T)
        yield _FIRST, total
    elif kind == "diagonal":
        for c in range(count):
            yield (_Place(c),), left[c][r] @ right[c][s].T
    else:
        for c in range(count):
            for d in range(c if diagonal else 0, count):
                places = (_Place(c * count + d),)
                if diagonal and c < d:
                    places += (_Place(d * count + c, turned=True),)
                yield places, left[c][r] @ right[d][s].T


def _weighted_products(
    a: Factors, b: Factors, g: int, r: slice, s: slice, diagonal: bool, kind: Kind
) -> Iterator[tuple[tuple[_Place, ...], Tensor | float]]:
    assert a.weights is not None
    weights = a.weights[:, g]
    count = len(weights)

    def product(w: Tensor) -> Tensor | float:
        if not a.shared:
            return float(w.sum())
        return (a.shared[g][r] * w) @ b.shared[g][s].T

    if kind == "trace":
        yield _FIRST, product(weights.square().sum(0))
    elif kind == "diagonal":
        for c in range(count):
            yield (_Place(c),), product(weights[c].square())
    else:
        for c in range(count):
            for d in range(c, count):
                w = weights[c] * weights[d]
                if bool((w != 0).any()):
                    # One product serves both orders.
                    places = (_Place(c * count + d),)
                    if c < d:
                        places += (_Place(d * count + c),)
                    yield places, product(w)
