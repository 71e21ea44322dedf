"""One kernel, block by block within a memory budget, each parameter by the route that suits it."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Cut, Kind, panels
from ntkscale.ntk.capture import Chunk, UnlikeProbe
from ntkscale.ntk.forward import Forward
from ntkscale.ntk.gradients import SLICES
from ntkscale.ntk.inputs import Batch, count, rows
from ntkscale.ntk.jacobian import Columns, choose_route
from ntkscale.ntk.memory import filled, out_of_memory
from ntkscale.ntk.structured import Structured, turn_into
from ntkscale.ntk.suitability import probe

Method = Literal["auto", "structured", "jacobian", "products"]
Progress = Callable[[int, int], object]


MIXED = 3
"""Least samples of a batch in which mixing them would show."""


@dataclass
class Engine:
    """The kernel of a model on one or two sets of inputs.

    Attributes:
        forward: the model.
        kind: what becomes of the outputs.
        outputs: which outputs.
        memory: bytes it may hold beside the kernel.
        method: which routes are allowed.
        x1: samples of the rows.
        x2: samples of the columns; None for the symmetric kernel.
    """

    forward: Forward
    kind: Kind
    outputs: tuple[int, ...]
    memory: int
    method: Method
    x1: Batch
    x2: Batch | None
    structured: Structured | None = None
    _sample_bytes: int = 0
    _chunk_rows: int = 0
    _group: int = 1
    _chunks: "OrderedDict[tuple[int, int, int, int], Chunk]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        n = max(count(self.x1), 0 if self.x2 is None else count(self.x2))
        if self.method != "jacobian":
            self.structured = Structured.of(self.forward, self.x1, n, self.outputs, self.kind)
            self._settle(n)
        # What the check on two samples of a batch against each by itself has not settled.
        if not self._sample_bytes and (self.remaining or self._chunk_rows < MIXED):
            self._probe()
        if self.method == "structured" and self.remaining:
            raise ValueError(
                f"the parameters {sorted(self.remaining)[:3]} are used in ways that no rule "
                "covers; pass method='auto', which takes the generic route for them alone."
            )

    @property
    def squares(self) -> int:
        """How many (n1, n2) squares the kernel has."""
        c = len(self.outputs)
        return {"trace": 1, "diagonal": c, "full": c * c}[self.kind]

    @property
    def dtype(self) -> torch.dtype:
        """Of the kernel."""
        return Columns.of(self.forward.chosen, apart=False).dtype

    @property
    def remaining(self) -> list[str]:
        """Parameters that take the generic route, in named order."""
        if self.structured is None:
            return list(self.forward.chosen)
        used, done = self.structured.uses.graph.leaves, self.structured.names
        return [name for name in self.forward.chosen if name in used and name not in done]

    @property
    def chunk_rows(self) -> int:
        """Samples run together: what is held of them and of as many others fits the budget."""
        return self._chunk_rows

    def align(self, block: int) -> None:
        """Run at most a block together, and a power of two: free memory then decides less."""
        self._chunk_rows = min(block, 1 << max(0, self._chunk_rows.bit_length() - 1))
        self._chunks.clear()

    def compute(self, *, apart: bool, progress: Progress | None) -> list[Float[Tensor, "G n1 n2"]]:
        """The kernel in memory: one, or `apart`, one for each parameter in named order."""
        n1 = count(self.x1)
        n2 = n1 if self.x2 is None else count(self.x2)
        names = list(self.forward.chosen)
        shape = (self.squares, n1, n2)
        kernels = [
            filled(shape, self.dtype, self.forward.device) for _ in (names if apart else [0])
        ]
        into = {name: kernels[k if apart else 0] for k, name in enumerate(names)}
        self.add_block(slice(0, n1), slice(0, n2), into, progress)
        return kernels

    def add_block(
        self,
        r: slice,
        s: slice,
        into: dict[str, Tensor],
        progress: Progress | None = None,
    ) -> None:
        """Add the block of rows r and columns s to those `into`, each (G, rows, columns)."""
        symmetric = self.x2 is None and r == s
        tell = _Progress(progress, (r.stop - r.start) * (s.stop - s.start))
        while self.structured is not None:
            try:
                self._add_structured(r, s, into, symmetric, tell)
                break
            except UnlikeProbe:
                # These samples take a path of their own: no rule is sure of them.
                self.structured = None
                self._probe()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self._chunk_rows <= 1:
                    raise
                # Smaller pieces may fit.
                self._chunk_rows = -(-self._chunk_rows // 2)
            self._chunks.clear()
            tell.restart()
            for k in {id(k): k for k in into.values()}.values():
                k.zero_()
        if self.remaining:
            self._add_generic(r, s, into, symmetric, tell)
        tell.finish()

    def _settle(self, n: int) -> None:
        """Find out on real samples which parameters the rules get right."""
        if self.structured is None:
            return
        self._chunk_rows, self._group = cut(self.structured, n, self.memory)
        first = slice(0, min(self._chunk_rows, count(self.x1)))
        sample = rows(self.x1, first)
        try:
            chunk = self._first_group().capture(sample)
        except UnlikeProbe:
            # Another path for another number of samples: probe with as many.
            self.structured = Structured.of(
                self.forward, sample, n, self.outputs, self.kind, whole=True
            )
            if self.structured is None:
                return
            try:
                chunk = self._first_group().capture(sample)
            except UnlikeProbe:
                self.structured = None
                return
        wrong = self._first_group().mistaken(sample, chunk)
        if wrong:
            # A forward for which no kernel is defined is wrong everywhere.
            self._probe()
            self.structured = self.structured.without(wrong, n)
            if self.structured is None or self._first_group().mistaken(
                sample, chunk := self._first_group().capture(sample)
            ):
                self.structured = None
                return
        self._chunks[(0, 1, first.start, first.stop)] = chunk

    def _first_group(self) -> Structured:
        """The outputs that are taken together first."""
        assert self.structured is not None
        return replace(self.structured, outputs=self.outputs[: self._group])

    def _probe(self) -> None:
        _, self._sample_bytes = probe(self.forward, self.x1)

    def _key(self, structured: Structured, side: int, span: slice) -> tuple[int, int, int, int]:
        return self.outputs.index(structured.outputs[0]), side, span.start, span.stop

    def _chunk(self, structured: Structured, side: int, span: slice, *, keep: int) -> Chunk:
        """A chunk, run now or before; the `keep` chunks used last are not let go for it."""
        key = self._key(structured, side, span)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        wanted = (span.stop - span.start) * structured.sample_bytes(len(structured.outputs))
        while len(self._chunks) > keep and (
            wanted + sum(c.bytes for c in self._chunks.values()) > self.memory
        ):
            self._chunks.popitem(last=False)
        x = self.x1 if side == 1 or self.x2 is None else self.x2
        self._chunks[key] = structured.capture(rows(x, span))
        return self._chunks[key]

    def _add_structured(
        self,
        r: slice,
        s: slice,
        into: dict[str, Tensor],
        symmetric: bool,
        tell: "_Progress",
    ) -> None:
        assert self.structured is not None
        groups = [
            replace(self.structured, outputs=self.outputs[g : g + self._group])
            for g in range(0, len(self.outputs), self._group)
        ]
        share = (0.5 if self.remaining else 1.0) / len(groups)
        pieces = list(self._pieces(r, s, symmetric))

        def add(structured: Structured, a: Chunk, b: Chunk, i: slice, j: slice) -> None:
            rows_ = slice(i.start - r.start, i.stop - r.start)
            columns = slice(j.start - s.start, j.stop - s.start)
            squares = slice(None)
            if self.kind == "diagonal":
                at = self.outputs.index(structured.outputs[0])
                squares = slice(at, at + len(structured.outputs))
            views = {id(k): k[squares, rows_, columns] for k in into.values()}
            part = {name: views[id(k)] for name, k in into.items()}
            mirrored = symmetric and i != j
            pairs = (1 + mirrored) * (i.stop - i.start) * (j.stop - j.start) * share
            structured.contract(a, b, part, lambda done: tell.add(done * pairs))
            if mirrored:
                for key, view in views.items():
                    whole = next(k for k in into.values() if id(k) == key)
                    _transpose_into(whole[squares, columns, rows_], view, self.kind)

        if symmetric and len(pieces) == 1 and len(groups) > 1:
            self._add_in_one_run(groups, pieces[0][0], add)
            return
        for structured in groups:
            for i, j in pieces:
                a = self._chunk(structured, 1, i, keep=0)
                b = self._chunk(structured, 1 if self.x2 is None else 2, j, keep=1)
                add(structured, a, b, i, j)

    def _add_in_one_run(
        self,
        groups: Sequence[Structured],
        span: slice,
        add: Callable[[Structured, Chunk, Chunk, slice, slice], None],
    ) -> None:
        """All groups of outputs from one forward pass; what it keeps is in the budget anyway."""
        waiting = list(groups)
        key = self._key(waiting[0], 1, span)
        if key in self._chunks:
            # The check on two samples ran these already.
            chunk = self._chunks.pop(key)
            add(waiting.pop(0), chunk, chunk, span, span)
            del chunk
        with waiting[0].running(rows(self.x1, span)) as run:
            for structured in waiting:
                chunk = run.chunk(structured.outputs, last=structured is waiting[-1])
                add(structured, chunk, chunk, span, span)
                del chunk

    def _pieces(self, r: slice, s: slice, symmetric: bool) -> Iterator[tuple[slice, slice]]:
        """Pairs of chunks, back and forth, so that the last column is the next row's first."""
        step = self._chunk_rows
        turned = False
        for i in _spans(r, step):
            others = [j for j in _spans(s, step) if not symmetric or j.start <= i.start]
            for j in reversed(others) if turned else others:
                yield i, j
            turned = not turned

    def _add_generic(
        self, r: slice, s: slice, into: dict[str, Tensor], symmetric: bool, tell: "_Progress"
    ) -> None:
        """The kernel of the remaining parameters, from their gradients sample by sample."""
        names = self.remaining
        chosen = {name: self.forward.chosen[name] for name in names}
        others = {n: p.detach() for n, p in self.forward.chosen.items() if n not in chosen}
        forward = replace(self.forward, chosen=chosen, rest=self.forward.rest | others)
        apart = len({id(into[name]) for name in names}) > 1
        columns = Columns.of(chosen, apart=apart)
        x1 = rows(self.x1, r)
        x2 = None if symmetric else rows(self.x1 if self.x2 is None else self.x2, s)
        jacobian = choose_route(forward, x1, columns, self._sample_bytes, self.memory)
        cut = Cut.fit(
            count(x1),
            None if x2 is None else count(x2),
            len(self.outputs),
            self.kind,
            columns.row_bytes,
            self.memory,
        )
        targets = [into[name] for name in names] if apart else [into[names[0]]]
        share = tell.total - tell.done
        told = 0.0

        def rows_done(done: int, total: int) -> None:
            nonlocal told
            tell.add(share * done / total - told)
            told = share * done / total

        for first, last, panel in panels(
            jacobian, x1, x2, outputs=self.outputs, kind=self.kind, cut=cut, progress=rows_done
        ):
            for k, part in zip(targets, panel, strict=True):
                squares = _squares(part, self.kind).to(k.dtype)
                width = squares.shape[2]
                k[:, first:last, :width] += squares
                if symmetric and first:
                    above = torch.zeros_like(k[:, :first, first:last])
                    _transpose_into(above, squares[:, :, :first], self.kind)
                    k[:, :first, first:last] += above


def cut(structured: Structured, n: int, memory: int) -> tuple[int, int]:
    """Samples run together, and outputs taken together, for n samples within a budget.

    Fewer outputs at a time repeat forward passes at most; fewer samples repeat everything for every
    pair of chunks. So outputs are cut first, unless the kernel pairs them.
    """
    outputs = len(structured.outputs)
    # What passes through on its way, and memory the allocator keeps, come to half as much again.
    memory = memory * 2 // 3
    if structured.kind == "full":
        # Slices of the gradients of all outputs.
        memory = max(memory // 2, memory - SLICES)
    if n * structured.sample_bytes(outputs) <= memory:
        return n, outputs
    if structured.kind == "full":
        return max(1, min(n, memory // (2 * structured.sample_bytes(outputs)))), outputs
    alone = structured.sample_bytes(1)
    if n * alone > memory:
        return max(1, min(n, memory // (2 * alone))), 1
    each = max(1, structured.sample_bytes(2) - alone)
    fitting = 1 + (memory // n - alone) // each
    return n, min(outputs, -(-outputs // -(-outputs // max(1, fitting))))


class _Progress:
    """Tells pairs of samples done, never less than before, and all of them once, at the end."""

    def __init__(self, tell: Progress | None, total: int) -> None:
        self.tell, self.total = tell, total
        self.done, self.told = 0.0, -1

    def add(self, pairs: float) -> None:
        """Some more are done."""
        self.done += pairs
        whole = min(int(self.done), self.total - 1)
        if self.tell is not None and whole > self.told:
            self.told = whole
            self.tell(whole, self.total)

    def restart(self) -> None:
        """What was done has to be done again."""
        self.done = 0.0

    def finish(self) -> None:
        """All are done."""
        if self.tell is not None:
            self.tell(self.total, self.total)


def _squares(panel: Tensor, kind: Kind) -> Float[Tensor, "G n m"]:
    if kind == "trace":
        return panel[None]
    if kind == "diagonal":
        return panel.permute(2, 0, 1)
    return panel.permute(2, 3, 0, 1).flatten(0, 1)


def _transpose_into(target: Tensor, view: Tensor, kind: Kind) -> None:
    """K_cd(x, x') = K_dc(x', x), for every square."""
    c = math.isqrt(view.shape[0]) if kind == "full" else 1
    for g in range(view.shape[0]):
        a, b = divmod(g, c)
        square = target[b * c + a if kind == "full" else g]
        for i in range(0, view.shape[1], 512):
            for j in range(0, view.shape[2], 512):
                turn_into(square[j : j + 512, i : i + 512], view[g][i : i + 512, j : j + 512])


def _spans(r: slice, step: int) -> Sequence[slice]:
    n = r.stop - r.start
    pieces = -(-n // step)
    even = -(-n // pieces)
    return [slice(i, min(i + even, r.stop)) for i in range(r.start, r.stop, even)]
