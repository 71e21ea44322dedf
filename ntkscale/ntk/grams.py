"""Kernels of linear maps from two Gram matrices, without a gradient ever formed.

Works in tiles whose operands and result stay in the cache. With several positions P a sample, the
Gram matrices run over positions, and their product is summed over both: (n P)^2 numbers instead of
the n gradients of C outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.capture import Chunk
from ntkscale.ntk.cores import at_once, over_cores
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


TOGETHER = 8
"""Terms whose products of activations are kept while the pairs of outputs go by, in a tile."""


class _Place(NamedTuple):
    """Which of the kernel's squares a product belongs to; turned: its transpose does."""

    at: int
    turned: bool = False


def add_gram(term: GramTerm, a: Chunk, b: Chunk, kind: Kind, into: Mapping[str, Tensor]) -> None:
    """Add the kernel of one term to those `into`, each (G, n1, n2).

    G is 1 for "trace", C for "diagonal", C^2 for "full". Where `a` is `b`, entries above the
    diagonal may be left out.
    """
    symmetric = a is b
    left = Factors.of(term.uses, a)
    right = left if symmetric else Factors.of(term.uses, b)

    def work(handed_out: Iterator[_Tile]) -> None:
        memory = _Squares()
        for rows, columns in handed_out:
            diagonal = symmetric and rows == columns
            _add_tile(term, left, right, rows, columns, diagonal, kind, into, memory)

    tiles = _tiles(a.n, b.n, left.positions, symmetric, kind)
    over_cores(_large_first(tiles), work, next(iter(into.values())).device)


def add_grams(
    terms: Sequence[GramTerm], a: Chunk, b: Chunk, kind: Kind, into: Float[Tensor, "G n1 n2"]
) -> None:
    """Add the sum of kernels with one position a sample to `into`.

    Several terms tile by tile, so that the kernel passes through memory once for all of them. Where
    `a` is `b`, what `into` has up to the diagonal is completed by symmetry.
    """
    sides: list[_Side] = []
    for term in terms:
        left = Factors.of(term.uses, a)
        right = left if a is b else Factors.of(term.uses, b)
        sides += [_Side(left, right, g, term.bias is not None) for g in range(left.groups)]
        while len(sides) >= TOGETHER:
            _add_sides(sides[:TOGETHER], a, b, kind, into)
            del sides[:TOGETHER]
    if sides:
        _add_sides(sides, a, b, kind, into)


class _Side(NamedTuple):
    """One group of a linear map, on the samples of the rows and of the columns."""

    left: Factors
    right: Factors
    group: int
    biased: bool


def _add_sides(sides: Sequence[_Side], a: Chunk, b: Chunk, kind: Kind, into: Tensor) -> None:
    tiles, pairs = _large_first(_tiles(a.n, b.n, 1, a is b, kind)), list(_pairs(kind, a.outputs))
    team = at_once(into.device)
    # Where tiles are few, pairs of outputs are dealt out as well.
    deals = min(team, len(pairs)) if len(tiles) < 4 * team else 1
    pieces = [(tile, pairs[k::deals]) for tile in tiles for k in range(deals)]

    def work(handed_out: Iterator[tuple[_Tile, list[tuple[int, int]]]]) -> None:
        memory = _Squares()
        for (rows, columns), some in handed_out:
            _add_sides_of_tile(sides, a is b, rows, columns, kind, some, a.outputs, into, memory)

    over_cores(pieces, work, into.device)


def _add_sides_of_tile(
    sides: Sequence[_Side],
    symmetric: bool,
    rows: slice,
    columns: slice,
    kind: Kind,
    pairs: Sequence[tuple[int, int]],
    outputs: int,
    into: Tensor,
    work: "_Squares",
) -> None:
    diagonal = symmetric and rows == columns
    activations: dict[int, Tensor] = {}
    for c, d in pairs:
        here = across = None
        for k, (left, right, g, biased) in enumerate(sides):
            products = activations.get(k)
            if products is None:
                # All pairs of outputs share them; the trace is one pair.
                name = "left" if kind == "trace" else f"left {k}"
                products = _left_products(left, right, g, rows, columns, work, name)
                products = products.add_(1) if biased else products
                if kind != "trace":
                    activations[k] = products
            other = _cotangent_product(left, right, g, rows, columns, kind, (c, d), work)
            here = _add_product(here, products, other, "here", work)
            if c != d and not diagonal:
                if not _weighted(left, right):
                    other = _cotangent_product(left, right, g, rows, columns, kind, (d, c), work)
                across = _add_product(across, products, other, "across", work)
        assert here is not None
        own = twin = into[_place(kind, outputs, c, d)]
        if c != d:
            twin = into[_place(kind, outputs, d, c)]
        if symmetric:
            _complete(own, twin, rows, columns, here, across, work)
            continue
        own[rows, columns].add_(here)
        if across is not None:
            twin[rows, columns].add_(across)


def _add_product(
    total: Tensor | None, left: Tensor, other: Tensor | float, name: str, work: "_Squares"
) -> Tensor:
    """The total with left * other, entry by entry; the first of them is written to `name`."""
    if total is None:
        return torch.mul(left, other, out=work.square(name, left))
    if isinstance(other, Tensor):
        return total.addcmul_(left, other)
    return total.add_(left, alpha=other) if other else total


def _complete(
    own: Float[Tensor, "n n"],
    other: Float[Tensor, "n n"],
    rows: slice,
    columns: slice,
    here: Tensor,
    across: Tensor | None,
    work: "_Squares",
) -> None:
    """Add a tile on or below the diagonal, and write its mirror image: K_cd(x, x') = K_dc(x', x).

    Args:
        own: the square of the outputs c and d.
        other: that of d and c; `own` where they are one output.
        rows: of the tile.
        columns: of the tile; `rows` on the diagonal.
        here: what is added to `own`.
        across: what is added to `other`, off the diagonal, where c and d differ.
        work: memory.
    """

    def write(square: Tensor, tile: Tensor, mirrored: Tensor) -> None:
        square[rows, columns].copy_(tile)
        # Torch transposes whole blocks of memory well, and views of larger ones entry by entry.
        mirrored[columns, rows].copy_(work.square("turned", tile.T).copy_(tile.T))

    if rows != columns:
        write(own, here.add_(own[rows, columns]), other)
        if across is not None:
            write(other, across.add_(other[rows, columns]), own)
        return
    if own is other:
        here.add_(own[rows, columns])
        whole = torch.where(work.lower(here), here, here.T, out=work.square("whole", here))
        own[rows, columns].copy_(whole)
        return
    # Above the diagonal only the mirror image of the other square is complete.
    above = torch.add(here, other[rows, columns].T, out=work.square("above", here))
    here.add_(own[rows, columns])
    whole = torch.where(work.lower(here), here, above, out=work.square("whole", here))
    write(own, whole, other)


_Tile = tuple[slice, slice]
"""Rows and columns."""


def _large_first(tiles: Iterator[_Tile]) -> list[_Tile]:
    """So that no core is left with a large one at the end."""
    return sorted(tiles, key=lambda tile: -_size(tile[0]) * _size(tile[1]))


def _size(span: slice) -> int:
    return span.stop - span.start


def _tiles(n1: int, n2: int, positions: int, symmetric: bool, kind: Kind) -> Iterator[_Tile]:
    """Rows and columns of the tiles; symmetric, up to the diagonal, where they are smaller."""
    least = LEAST_PAIRED if kind == "full" else LEAST
    step = max(1, ROWS // positions)
    for i in range(0, n1, step):
        rows = slice(i, min(i + step, n1))
        for j in range(0, i if symmetric else n2, step):
            yield rows, slice(j, min(j + step, n2))
        if symmetric:
            yield from _triangle(rows, max(1, least // positions))


def _triangle(rows: slice, least: int) -> Iterator[_Tile]:
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
        self.triangles: dict[int, Tensor] = {}

    def square(self, name: str, like: Tensor) -> Tensor:
        """The memory of this name for a matrix of this shape."""
        key = (name, like.shape[0], like.shape[1])
        if key not in self.known:
            self.known[key] = like.new_empty(like.shape)
        return self.known[key]

    def lower(self, like: Tensor) -> Tensor:
        """True on and below the diagonal of a square of this side."""
        side = like.shape[0]
        if side not in self.triangles:
            ones = torch.ones(side, side, dtype=torch.bool, device=like.device)
            self.triangles[side] = ones.tril_()
        return self.triangles[side]

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


def _left_products(
    a: Factors, b: Factors, g: int, r: slice, s: slice, work: _Squares, name: str = "left"
) -> Tensor:
    """Products of activations; of looked-up rows, whether they are the same."""
    if a.index is None or b.index is None:
        return work.product(name, a.left[g][r], b.left[g][s])
    i, j = a.index[r], b.index[s]
    return ((i[:, None] == j) & (i < a.beyond)[:, None]).to(a.dtype)


def _pairs(kind: Kind, outputs: int) -> Iterator[tuple[int, int]]:
    """Pairs c <= d of outputs with a square of their own; the trace has one."""
    if kind == "trace":
        yield 0, 0
        return
    for c in range(outputs):
        for d in range(c, outputs if kind == "full" else c + 1):
            yield c, d


def _place(kind: Kind, outputs: int, c: int, d: int) -> int:
    """Which of the kernel's squares belongs to a pair of outputs."""
    return c * outputs + d if kind == "full" else c


def _weighted(a: Factors, b: Factors) -> bool:
    """Whether outputs differ in what they multiply shared cotangents with, on both sides."""
    return a.weights is not None and b.weights is not None


def _cotangent_product(
    a: Factors,
    b: Factors,
    g: int,
    r: slice,
    s: slice,
    kind: Kind,
    pair: tuple[int, int],
    work: _Squares,
) -> Tensor | float:
    """Products of the cotangents of two outputs; for the trace, their sum over all outputs."""
    c, d = pair
    if _weighted(a, b):
        assert a.weights is not None
        weights = a.weights[:, g]
        w = weights.square().sum(0) if kind == "trace" else weights[c] * weights[d]
        if not a.shared:
            return float(w.sum())
        if not bool((w != 0).any()):
            return 0.0
        return work.product("right", a.shared[g][r] * w, b.shared[g][s])
    left, right = a.dense[g], b.dense[g]
    total = work.product("right", left[c][r], right[d][s])
    if kind == "trace":
        for more in range(1, len(left)):
            add_row_products(total, left[more][r], right[more][s])
    return total


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
    weighted = _weighted(a, b)
    outputs = len(a.weights) if a.weights is not None else len(a.dense[g])
    for c, d in _pairs(kind, outputs):
        product = _cotangent_product(a, b, g, r, s, kind, (c, d), work)
        if not isinstance(product, Tensor) and not product:
            continue
        here, across = _place(kind, outputs, c, d), _place(kind, outputs, d, c)
        if c == d:
            yield (_Place(here),), product
        elif weighted or diagonal:
            # One product serves both orders.
            yield (_Place(here), _Place(across, turned=not weighted)), product
        else:
            yield (_Place(here),), product
            yield (_Place(across),), _cotangent_product(a, b, g, r, s, kind, (d, c), work)
