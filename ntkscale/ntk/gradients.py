"""Kernels from the gradients of one parameter at a time, for every sample and output.

A slice of the parameter small enough for the cache is taken at a time; its gradients are formed,
multiplied with each other and forgotten.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.capture import Chunk
from ntkscale.ntk.cores import over_cores
from ntkscale.ntk.factors import Rights, left_of, rights_of
from ntkscale.ntk.row_products import add_row_products, row_products, sums_in_blocks
from ntkscale.ntk.rules import Product
from ntkscale.ntk.uses import Use

SLICE = 16 << 20
"""Bytes of one output's gradients formed at a time: they stay in the last-level cache until
multiplied."""

SLICES = 128 << 20
"""Bytes of all outputs' slices together: narrow slices are formed at a third of the speed, so that
several outputs take more than fits the cache."""

LONG = 8_192
"""Columns of one product of BLAS. Float32 products over millions of columns lose three digits."""

NARROW = 32
"""Fewer columns than this make slow products."""

FLUSH = 65_536
"""Columns summed in the model's precision before they are added to a float64 sum."""

DEALT_OUT = 1 << 31
"""Multiply-adds from which stripes are dealt out to cores. Torch's own threads wait for the next
operation for a while, on the cores that the stripes would have."""

PIECES = 8
"""Stripes a symmetric product is cut into: a little more than half of it is computed."""

ROWS = 128
"""Rows of a stripe that cost no speed; of smaller products a quarter is a stripe."""

STACKED = 2_048
"""Up to this many rows, the gradients of all outputs are multiplied in one product."""


@dataclass(frozen=True)
class Source:
    """Uses that receive the same thing from the parameter.

    Attributes:
        uses: with their places among a chunk's operands.
        into: flat positions in the parameter of what they receive; None where it is the parameter
            in some order, and nothing else of it is used.
        pull_back: from gradients (k, *shape) of what they receive to those of the parameters, by
            name, (k, size); None where that is a matter of positions.
    """

    uses: tuple[tuple[int, Use], ...]
    into: Int[Tensor, " s"] | None = None
    pull_back: Callable[[Tensor], dict[str, Tensor]] | None = None


@dataclass(frozen=True)
class GradientTerm:
    """A parameter whose kernel comes from gradients.

    Attributes:
        name: the parameter's.
        size: its number of entries, a complex one counted twice.
        sources: all the ways it is used.
    """

    name: str
    size: int
    sources: tuple[Source, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters whose kernels this gives."""
        return (self.name,)

    @property
    def sliced(self) -> bool:
        """Whether gradients can be formed a slice at a time: one source, products alike."""
        source, *others = self.sources
        if others or source.pull_back is not None:
            return False
        first, *_ = rules = [use.rule for _, use in source.uses]
        return isinstance(first, Product) and all(
            isinstance(r, Product) and (r.left_first, r.rows) == (first.left_first, first.rows)
            for r in rules
        )


def add_gradients(
    term: GradientTerm, a: Chunk, b: Chunk, kind: Kind, into: Mapping[str, Tensor]
) -> None:
    """Add the kernels of one term to those `into`, each (G, n1, n2), as `grams.add_gram` does."""
    if not term.sliced:
        _add_whole(term, a, b, kind, into)
        return
    left = _Sliced.of(term, a, kind)
    right = left if a is b else _Sliced.of(term, b, kind)
    target = into[term.name]
    if left.shared is not None and kind != "trace" and left.groups == 1:
        _add_shared(left, right, kind, target)
    elif kind == "trace":
        total = _Sum(a.n, b.n, left.dtype, target.device, symmetric=a is b)
        for span in left.spans():
            for c in range(left.outputs):
                one = left.form(c, span, 0)
                total.add(one, one if a is b else right.form(c, span, 1))
        target[0].add_(total.result())
    elif kind == "diagonal":
        for c in range(left.outputs):
            total = _Sum(a.n, b.n, left.dtype, target.device, symmetric=a is b)
            for span in left.spans():
                one = left.form(c, span, 0)
                total.add(one, one if a is b else right.form(c, span, 1))
            target[c].add_(total.result())
    else:
        _add_full(
            left.spans(left.outputs),
            lambda span: left.form_all(span, 0),
            None if a is b else lambda span: right.form_all(span, 1),
            (left.outputs, a.n, b.n),
            target,
            left.dtype,
        )


class _Sum:
    """Sum of products of long rows, in float64 over stretches summed in the model's precision."""

    def __init__(
        self, n1: int, n2: int, dtype: torch.dtype, device: torch.device, *, symmetric: bool
    ) -> None:
        self.part = torch.zeros(n1, n2, dtype=dtype, device=device)
        exact = dtype == torch.float64 or device.type == "mps"
        self.total = self.part if exact else torch.zeros(n1, n2, dtype=torch.float64, device=device)
        self.symmetric = symmetric
        self.columns = 0

    def add(self, left: Float[Tensor, "n1 w"], right: Float[Tensor, "n2 w"]) -> None:
        """Add left @ right^T."""
        n = left.shape[0]
        long = left.shape[1] if sums_in_blocks(left, right) else LONG
        step = max(32, n // 4 if n < PIECES * ROWS else n // PIECES) if self.symmetric else n

        def work(starts: Iterator[int]) -> None:
            for i in starts:
                last = min(i + step, n) if self.symmetric else right.shape[0]
                for start in range(0, left.shape[1], long):
                    span = slice(start, start + long)
                    into = self.part[i : i + step, :last]
                    add_row_products(into, left[i : i + step, span], right[:last, span])

        stripes = range(0, n, step)[::-1]
        if n * right.shape[0] * left.shape[1] < DEALT_OUT:
            work(iter(stripes))
        else:
            over_cores(stripes, work, left.device)
        self.columns += left.shape[1]
        if self.columns > FLUSH:
            self._flush()

    def result(self) -> Tensor:
        """The sum; where it is symmetric, only up to the diagonal."""
        self._flush()
        return self.total

    def _flush(self) -> None:
        if self.total is not self.part:
            self.total += self.part
            self.part.zero_()
        self.columns = 0


class _Sliced:
    """Gradients of one weight, a slice of it at a time, into memory that is used again."""

    def __init__(
        self, lefts: list[Tensor], rights: list[Rights], rows: int, n: int, outputs: int
    ) -> None:
        self.lefts, self.rights, self.rows, self.n, self.outputs = lefts, rights, rows, n, outputs
        one = rights[0]
        sample = one.dense[0] if one.dense else one.weights
        assert sample is not None
        self.dtype, self.width = sample.dtype, sample.shape[-1]
        self.groups = 1 if rows else lefts[0].shape[1]
        self.a = rows if rows else lefts[0].shape[-1]
        self.shared = self.weights = None
        if len(rights) == 1 and one.shared is not None and one.weights is not None:
            self.shared = one.shared
            if self.groups == 1:
                self.weights = one.weights[:, 0]
        self._buffers: dict[int, Tensor] = {}

    @classmethod
    def of(cls, term: GradientTerm, chunk: Chunk, kind: Kind) -> "_Sliced":
        uses = term.sources[0].uses
        lefts = [left_of(use, chunk.operands[k][0]) for k, use in uses]
        rights = [
            rights_of(use, chunk.cotangents[use.node], chunk.n, chunk.outputs) for _, use in uses
        ]
        rule = uses[0][1].rule
        assert isinstance(rule, Product)
        outputs, one = chunk.outputs, rights[0]
        if (
            kind == "trace"
            and one.shared is not None
            and one.weights is not None
            and not rights[1:]
        ):
            # The sum over outputs of products is one product.
            size = one.weights.square().sum(0).sqrt()[None, :, None]
            rights, outputs = [Rights([one.shared * size])], 1
        return cls(lefts, rights, rule.rows, chunk.n, outputs)

    def spans(self, outputs: int = 1) -> list[slice]:
        """Slices of the cotangents' side whose gradients fit the cache, of several outputs not
        much more."""
        each = max(1, self.n * self.groups * self.a * self.dtype.itemsize)
        step = max(1, min(self.width, SLICE // each, SLICES // (outputs * each)))
        step = -(-self.width // -(-self.width // step))
        return [slice(i, min(i + step, self.width)) for i in range(0, self.width, step)]

    def form(self, c: int, span: slice, buffer: int) -> Float[Tensor, "n w"]:
        """Gradients of output c, or with c = -1 the part all outputs share."""
        width = span.stop - span.start
        into = self._space(buffer, self.n * self.groups * width * self.a)
        self._form_into(into, c, span)
        return into.view(self.n, -1)

    def form_all(self, span: slice, buffer: int) -> Float[Tensor, "C n w"]:
        """Gradients of every output."""
        each = self.n * self.groups * (span.stop - span.start) * self.a
        into = self._space(buffer, self.outputs * each).view(self.outputs, each)
        for c in range(self.outputs):
            self._form_into(into[c], c, span)
        return into.view(self.outputs, self.n, -1)

    def _form_into(self, into: Tensor, c: int, span: slice) -> None:
        width = span.stop - span.start
        # What outputs share is read row by row of the weight, and keeps its order.
        swapped = c >= 0 and not self.rows and self.a < NARROW <= width
        sides = (self.a, width) if swapped else (width, self.a)
        into = into.view(self.n * self.groups, *sides)
        for k, (left, rights) in enumerate(zip(self.lefts, self.rights, strict=True)):
            right = self._right(rights, c)[..., span]
            right = right.expand(self.n, *right.shape[1:])
            if self.rows:
                _scatter(into, left, right[:, 0], self.rows, first=k == 0)
                continue
            turned = right.reshape(-1, *right.shape[2:]).transpose(1, 2)
            flat = left.reshape(-1, *left.shape[2:])
            if swapped:
                # The longer side along the memory: half as fast again.
                turned, flat = flat.transpose(1, 2), turned.transpose(1, 2)
            if k == 0:
                torch.bmm(turned, flat, out=into)
            else:
                torch.baddbmm(into, turned, flat, out=into)

    def _right(self, rights: Rights, c: int) -> Tensor:
        if rights.weights is None:
            return rights.dense[c]
        if c < 0:
            assert rights.shared is not None
            return rights.shared
        weights = rights.weights[c][None, :, None]
        return weights if rights.shared is None else rights.shared * weights

    def _space(self, buffer: int, size: int) -> Tensor:
        known = self._buffers.get(buffer)
        if known is None or known.numel() < size:
            known = _room(size, self.dtype, self.lefts[0].device)
            self._buffers[buffer] = known
        return known[:size]


def _room(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for gradients; on a processor in huge pages, which numpy asks for."""
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(size, np.float64 if dtype == torch.float64 else np.float32))


def _scatter(into: Tensor, index: Tensor, right: Tensor, rows: int, *, first: bool) -> None:
    """Add cotangents (n, P, w) to the rows (n, w, rows) their positions looked up."""
    n, positions, width = right.shape
    sums = torch.zeros(n, rows + 1, width, dtype=into.dtype, device=into.device)
    sums.scatter_add_(1, index[..., None].expand(n, positions, width), right.contiguous())
    gradients = sums[:, :rows].transpose(1, 2)
    if first:
        into.copy_(gradients)
    else:
        into += gradients


def _add_shared(left: _Sliced, right: _Sliced, kind: Kind, target: Tensor) -> None:
    """Outputs that differ by a factor for each row of the weight: one gradient serves them all.

    With T_o the kernel of row o alone, output pair (c, d) has sum_o W_co W_do T_o.
    """
    assert left.weights is not None
    w = left.weights
    pairs = (w[:, None] * w[None]).flatten(0, 1) if kind == "full" else w.square()
    for span in left.spans():
        one = left.form(-1, span, 0)
        two = one if left is right else right.form(-1, span, 1)
        rows = [g.view(g.shape[0], span.stop - span.start, -1).transpose(0, 1) for g in (one, two)]
        apart = torch.bmm(rows[0], rows[1].transpose(1, 2))
        target += (pairs[:, span] @ apart.flatten(1)).view(target.shape)


def _add_full(
    spans: Sequence[slice],
    form: Callable[[slice], Float[Tensor, "C n1 w"]],
    form_other: Callable[[slice], Float[Tensor, "C n2 w"]] | None,
    sizes: tuple[int, int, int],
    target: Tensor,
    dtype: torch.dtype,
) -> None:
    """All pairs of outputs: stacked into one product, or one by one where that is large."""
    count, n1, n2 = sizes
    symmetric = form_other is None
    if count * max(n1, n2) <= STACKED:
        total = _Sum(count * n1, count * n2, dtype, target.device, symmetric=symmetric)
        for span in spans:
            one = form(span).flatten(0, 1)
            total.add(one, one if form_other is None else form_other(span).flatten(0, 1))
        k = total.result()
        for c in range(count):
            # Of a symmetric sum there is what lies below the diagonal.
            for d in range(c + 1 if symmetric else count):
                pair = k[c * n1 : (c + 1) * n1, d * n2 : (d + 1) * n2]
                target[c * count + d].add_(pair)
                if symmetric and d < c:
                    target[d * count + c].add_(pair.T)
        return
    for span in spans:
        ones = form(span)
        twos = ones if form_other is None else form_other(span)
        for c in range(count):
            for d in range(c if symmetric else 0, count):
                long = ones.shape[2] if sums_in_blocks(ones[c], twos[d]) else LONG
                for start in range(0, ones.shape[2], long):
                    w = slice(start, start + long)
                    product = row_products(ones[c][:, w], twos[d][:, w])
                    target[c * count + d].add_(product)
                    if symmetric and c < d:
                        target[d * count + c].add_(product.T)


def _add_whole(
    term: GradientTerm, a: Chunk, b: Chunk, kind: Kind, into: Mapping[str, Tensor]
) -> None:
    """Gradients of the whole parameter, pulled back to it where need be."""
    target = into[term.name]
    dtype = torch.promote_types(torch.float32, target.dtype)

    def form(chunk: Chunk, c: int) -> Float[Tensor, "n size"]:
        parts = [_one_source(s, chunk, c, term.name, term.size) for s in term.sources]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    if kind == "full":
        _add_full(
            [slice(0, term.size)],
            lambda _: torch.stack([form(a, c) for c in range(a.outputs)]),
            None if a is b else lambda _: torch.stack([form(b, c) for c in range(b.outputs)]),
            (a.outputs, a.n, b.n),
            target,
            dtype,
        )
        return
    total = None
    for c in range(a.outputs):
        if total is None:
            total = _Sum(a.n, b.n, dtype, target.device, symmetric=a is b)
        one = form(a, c)
        total.add(one, one if a is b else form(b, c))
        if kind == "diagonal" or c + 1 == a.outputs:
            target[c if kind == "diagonal" else 0].add_(total.result())
            total = None


def _one_source(source: Source, chunk: Chunk, c: int, name: str, size: int) -> Tensor:
    """Gradients (n, size) of a parameter through one source."""
    total: Tensor | None = None
    for k, use in source.uses:
        b = chunk.cotangents[use.node]
        g = _gradient(use, chunk.operands[k], b.of(c), chunk.n)
        total = g if total is None else total + g
    assert total is not None
    if source.pull_back is not None:
        return source.pull_back(total)[name].reshape(chunk.n, -1)
    flat = total.reshape(chunk.n, -1)
    if source.into is None:
        return flat
    rows = flat.new_zeros(chunk.n, size)
    rows[:, source.into] = flat
    return rows


def _gradient(use: Use, operands: tuple[Tensor, ...], b: Tensor, n: int) -> Tensor:
    """Gradients (n, *shape) of what a use receives."""
    rule = use.rule
    b = b.expand(n, *b.shape[1:])
    if not isinstance(rule, Product):
        return rule.gradient(b, *operands)
    left, right = rule.left(operands[0]), rule.right(b)
    if rule.rows:
        into = right.new_empty(n, right.shape[-1], rule.rows)
        _scatter(into, left, right[:, 0], rule.rows, first=True)
        return into.transpose(1, 2)
    pattern = "ngpa,ngpb->ngab" if rule.left_first else "ngpa,ngpb->ngba"
    return torch.einsum(pattern, left, right).reshape(n, *use.shape)
