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
from ntkscale.ntk.row_products import add_row_products, row_products
from ntkscale.ntk.uses import Use

ROWS = 512
"""Rows of a tile. Its squares of float32 fill 3 MiB, and larger products are no faster."""

LEAST = 128
"""Rows of the smallest squares on the diagonal: products of fewer rows lose speed."""

LEAST_PAIRED = 256
"""The same where outputs are paired: such squares waste nothing, but for an output with itself."""


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


def add_gram(term: GramTerm, a: Chunk, b: Chunk, kind: Kind, into: Mapping[str, Tensor]) -> None:
    """Add the kernel of one term to those `into`, each (G, n1, n2).

    G is 1 for "trace", C for "diagonal", C^2 for "full". Where `a` is `b`, entries above the
    diagonal may be left out.
    """
    symmetric = a is b
    left = Factors.of(term.uses, a)
    right = left if symmetric else Factors.of(term.uses, b)
    work = _Squares()
    for rows, columns in _tiles(a.n, b.n, left.positions, symmetric, kind):
        diagonal = symmetric and rows == columns
        _add_tile(term, left, right, rows, columns, diagonal, kind, into, work)


def add_traced_grams(terms: Sequence[GramTerm], a: Chunk, b: Chunk, into: Tensor) -> None:
    """Add the sum of traced kernels with one position a sample to `into` (n1, n2).

    All terms tile by tile, so that the kernel passes through memory once. Where `a` is `b`, what
    `into` has up to the diagonal is completed by symmetry.
    """
    symmetric = a is b
    lefts = [Factors.of(t.uses, a) for t in terms]
    rights = lefts if symmetric else [Factors.of(t.uses, b) for t in terms]
    work = _Squares()
    for rows, columns in _tiles(a.n, b.n, 1, symmetric, "trace"):
        total = None
        for term, left, right in zip(terms, lefts, rights, strict=True):
            for g in range(left.groups):
                products = _left_products(left, right, g, rows, columns, work)
                if term.bias is not None:
                    products += 1
                ((_, other),) = _cotangent_products(
                    left, right, g, rows, columns, False, "trace", work
                )
                if total is None:
                    total = torch.mul(products, other, out=work.square("total", products))
                elif isinstance(other, Tensor):
                    total.addcmul_(products, other)
                else:
                    total.add_(products, alpha=other)
        assert total is not None
        target = into[rows, columns]
        if not symmetric:
            target += total
        elif rows == columns:
            total += target
            target.copy_(torch.tril(total) + torch.tril(total, -1).T)
        else:
            total += target
            target.copy_(total)
            turned = work.square("turned", total.T)
            into[columns, rows].copy_(turned.copy_(total.T))


def _tiles(
    n1: int, n2: int, positions: int, symmetric: bool, kind: Kind
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles; symmetric, up to the diagonal, where they are smaller."""
    least = LEAST_PAIRED if kind == "full" else LEAST
    step = max(1, ROWS // positions)
    for i in range(0, n1, step):
        rows = slice(i, min(i + step, n1))
        for j in range(0, i if symmetric else n2, step):
            yield rows, slice(j, min(j + step, n2))
        if symmetric:
            yield from _triangle(rows, max(1, least // positions))


def _triangle(rows: slice, least: int) -> Iterator[tuple[slice, slice]]:
    """The lower half of a square, halved down to squares of the least size on the diagonal."""
    if rows.stop - rows.start <= least:
        yield rows, rows
        return
    middle = (rows.start + rows.stop) // 2
    yield from _triangle(slice(rows.start, middle), least)
    yield slice(middle, rows.stop), slice(rows.start, middle)
    yield from _triangle(slice(middle, rows.stop), least)


class _Squares:
    """Memory for tiles, used again and again: fresh memory costs more than the sums in it."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int, int], Tensor] = {}

    def square(self, name: str, like: Tensor) -> Tensor:
        """The memory of this name for a matrix of this shape."""
        key = (name, like.shape[0], like.shape[1])
        if key not in self.known:
            self.known[key] = like.new_empty(like.shape)
        return self.known[key]

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """left @ right^T in the memory of this name."""
        key = (name, left.shape[0], right.shape[0])
        if key not in self.known:
            self.known[key] = left.new_empty(key[1:])
        return row_products(left, right, self.known[key])


def _add_tile(
    term: GramTerm,
    a: Factors,
    b: Factors,
    rows: slice,
    columns: slice,
    diagonal: bool,
    kind: Kind,
    into: Mapping[str, Tensor],
    work: _Squares,
) -> None:
    p = a.positions
    r, s = slice(rows.start * p, rows.stop * p), slice(columns.start * p, columns.stop * p)
    apart = term.bias is not None and into[term.bias] is not into[term.weight]
    for g in range(a.groups):
        left = _left_products(a, b, g, r, s, work)
        if term.bias is not None and not apart:
            left += 1
        for places, product in _cotangent_products(a, b, g, r, s, diagonal, kind, work):
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
        # `into[...] += part` would write the sum back onto itself a second time.
        target = into[place.at, rows, columns]
        target += part.T if place.turned else part


def _summed(t: Tensor, positions: int) -> Tensor:
    """Sum over the positions of both sides."""
    if positions == 1:
        return t
    n, m = t.shape[0] // positions, t.shape[1] // positions
    # Along the memory first.
    return t.view(n, positions, m * positions).sum(1).view(n, m, positions).sum(2)


def _left_products(a: Factors, b: Factors, g: int, r: slice, s: slice, work: _Squares) -> Tensor:
    """Products of activations; of looked-up rows, whether they are the same."""
    if a.index is None or b.index is None:
        return work.product("left", a.left[g][r], b.left[g][s])
    i, j = a.index[r], b.index[s]
    return ((i[:, None] == j) & (i < a.beyond)[:, None]).to(a.dtype)


def _cotangent_products(
    a: Factors,
    b: Factors,
    g: int,
    r: slice,
    s: slice,
    diagonal: bool,
    kind: Kind,
    work: _Squares,
) -> Iterator[tuple[tuple[_Place, ...], Tensor | float]]:
    """Products of cotangents, with the places in the kernel they belong to."""
    if a.weights is not None and b.weights is not None:
        yield from _weighted_products(a, b, g, r, s, diagonal, kind, work)
        return
    left, right = a.dense[g], b.dense[g]
    count = len(left)
    if kind == "trace":
        total = work.product("right", left[0][r], right[0][s])
        for c in range(1, count):
            add_row_products(total, left[c][r], right[c][s])
        yield _FIRST, total
    elif kind == "diagonal":
        for c in range(count):
            yield (_Place(c),), work.product("right", left[c][r], right[c][s])
    else:
        for c in range(count):
            for d in range(c if diagonal else 0, count):
                places = (_Place(c * count + d),)
                if diagonal and c < d:
                    places += (_Place(d * count + c, turned=True),)
                yield places, work.product("right", left[c][r], right[d][s])


def _weighted_products(
    a: Factors,
    b: Factors,
    g: int,
    r: slice,
    s: slice,
    diagonal: bool,
    kind: Kind,
    work: _Squares,
) -> Iterator[tuple[tuple[_Place, ...], Tensor | float]]:
    assert a.weights is not None
    weights = a.weights[:, g]
    count = len(weights)

    def product(w: Tensor) -> Tensor | float:
        if not a.shared:
            return float(w.sum())
        return work.product("right", a.shared[g][r] * w, b.shared[g][s])

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
