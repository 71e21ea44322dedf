"""The kernel from uses of parameters: probe once, capture batches, contract pairs of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.capture import Chunk, Running, operands_of, running
from ntkscale.ntk.forward import Forward
from ntkscale.ntk.gradients import GradientTerm, add_gradients
from ntkscale.ntk.grams import GramTerm, add_gram, add_grams
from ntkscale.ntk.inputs import Batch, rows
from ntkscale.ntk.rules import Product
from ntkscale.ntk.suitability import gradient_of, tolerance
from ntkscale.ntk.terms import Term, choose_terms, sizes_of
from ntkscale.ntk.uses import Use, Uses, find_uses, probe_batch
from ntkscale.ntk.waist import Waist, find_waist

_FUSED = "MkldnnRnn"
"""Whole recurrent layers in one operation, which has no rule: their parts do."""


@dataclass(frozen=True)
class Structured:
    """How the kernel of some parameters is computed from their uses.

    Attributes:
        forward: the model.
        uses: what the probe found.
        waist: the linear head, if there is one.
        needed: uses the terms draw on.
        terms: what is computed.
        outputs: which outputs, in order.
        kind: what is summed over.
    """

    forward: Forward
    uses: Uses
    waist: Waist | None
    needed: tuple[Use, ...]
    terms: tuple[Term, ...]
    outputs: tuple[int, ...]
    kind: Kind

    @property
    def names(self) -> frozenset[str]:
        """Parameters whose kernels come from here."""
        return frozenset(name for term in self.terms for name in term.names)

    @classmethod
    def of(
        cls,
        forward: Forward,
        x: Batch,
        n: int,
        outputs: Sequence[int],
        kind: Kind,
        *,
        whole: bool = False,
    ) -> "Structured | None":
        """Probe the model on a few samples, or on the `whole` batch, for a kernel on n samples.

        None where nothing can be had this way.
        """
        sample = x if whole else probe_batch(x)
        uses = find_uses(forward, sample)
        if uses is not None and any(name.startswith(_FUSED) for name in uses.graph.names):
            forward = replace(forward, unfused=True)
            uses = find_uses(forward, sample)
        if uses is None:
            return None
        waist = None if uses.outputs.is_meta else find_waist(uses)
        structured = cls(forward, uses, waist, (), (), tuple(outputs), kind)
        return structured.without(frozenset(), n)

    @property
    def _leaves(self) -> dict[str, Tensor]:
        graph = self.uses.graph
        return {name: graph.nodes[i].variable for name, i in graph.leaves.items()}

    def sample_bytes(self, outputs: int) -> int:
        """What one sample of a chunk with so many outputs holds, and the widest term at work."""
        graph, n = self.uses.graph, self.uses.outputs.shape[0]
        size = torch.promote_types(self.uses.outputs.dtype, torch.float32).itemsize
        shared = set() if self.waist is None else {self.waist.logits, *self.waist.features}
        held = widest = 0
        for node in {use.node for use in self.needed}:
            copies = 1 if node in shared else outputs
            held += math.prod(graph.shape((node, 0))) * copies
        widest = 0
        with self.forward.holding(self._leaves):
            for use in self.needed:
                held += sum(t.numel() for t in operands_of(use, graph.nodes[use.node]))
            for term in self.terms:
                widest = max(widest, _work(term, self.uses, outputs, self.kind))
        return (held // n + widest) * size + self.uses.kept

    def without(self, banned: frozenset[str], n: int) -> "Structured | None":
        """The same with some parameters left to another route."""
        # Checkpointed activations are computed anew when they are asked for.
        with self.forward.holding(self._leaves):
            terms, needed = choose_terms(
                self.uses, self.waist, self._leaves, banned, n, len(self.outputs)
            )
        return replace(self, terms=tuple(terms), needed=tuple(needed)) if terms else None

    def capture(self, x: Batch) -> Chunk:
        """Run a batch, with all outputs.

        Raises:
            UnlikeProbe: it takes another path through the model than the probe did.
        """
        with self.running(x) as run:
            return run.chunk(self.outputs, last=True)

    def running(self, x: Batch) -> AbstractContextManager[Running]:
        """A batch run forwards, for one group of outputs after another; raises as `capture`."""
        return running(
            self.forward,
            x,
            self.needed,
            self.uses.graph.signature,
            self.waist,
            moving=self.uses.moving,
        )

    def contract(
        self, a: Chunk, b: Chunk, into: Mapping[str, Tensor], tick: Callable[[float], object]
    ) -> None:
        """Add the kernel of two batches to those `into`, each (G, n1, n2), by parameter.

        G is 1 for "trace", C for "diagonal", C^2 for "full". Where `a` is `b` the kernel is
        completed by symmetry, to the bit. `tick` is told what share was done since the last time.
        """
        contract(self.terms, a, b, self.kind, into, tick)

    def mistaken(self, x: Batch, chunk: Chunk) -> frozenset[str]:
        """Parameters whose kernel is not what plain autograd says, on two samples of this batch.

        The samples are drawn at random, their outputs summed with random coefficients, each run by
        itself.
        """
        generator = torch.Generator().manual_seed(chunk.n)
        index = torch.randperm(chunk.n, generator=generator)[:2]
        count_all = self.uses.outputs.shape[1]
        v = torch.randn(len(index), len(self.outputs), generator=generator, dtype=torch.float64)
        expected: list[dict[str, Tensor]] = []
        for row, i in enumerate(index.tolist()):
            all_outputs = torch.zeros(1, count_all, dtype=torch.float64)
            all_outputs[0, list(self.outputs)] = v[row]
            one, _ = gradient_of(
                self.forward, rows(x, slice(i, i + 1)), all_outputs.to(self.uses.outputs)
            )
            named = dict(zip(self.forward.chosen, one, strict=True))
            expected.append({name: _real(named[name]) for name in self.names})
        device = self.uses.outputs.device
        pair = chunk.pair(index.to(device), v.to(device))
        dtype = torch.promote_types(self.uses.outputs.dtype, torch.float32)
        m = len(index)
        found = {name: torch.zeros(1, m, m, dtype=dtype, device=device) for name in self.names}
        contract(self.terms, pair, pair, "trace", found)
        wrong = set()
        wanted = {}
        for name in found:
            g = [one[name] for one in expected]
            wanted[name] = torch.stack([torch.stack([torch.dot(u, w) for w in g]) for u in g])
        scales = {name: float(want.diagonal().max()) for name, want in wanted.items()}
        # Where the gradient is nothing but rounding, so is the kernel.
        rounding = (100 * torch.finfo(dtype).eps) ** 2 * sum(scales.values())
        for name, k in found.items():
            gap = float((k[0] - wanted[name]).abs().max())
            allowed = max(2 * tolerance(dtype, device) * scales[name], rounding)
            # Not a number on both sides is an answer too: the network has diverged.
            if math.isfinite(scales[name]) and not gap <= allowed:
                wrong.add(name)
        return frozenset(wrong)


def _work(term: Term, uses: Uses, outputs: int, kind: Kind) -> int:
    """Numbers that a term holds for one sample while at work, beside what was captured."""
    if isinstance(term, GradientTerm) and not term.sliced:
        return term.size * (outputs if kind == "full" else 2)
    own = term.uses if isinstance(term, GramTerm) else term.sources[0].uses
    sizes = sizes_of(own, uses)
    # Both sides laid out anew: activations as patches, cotangents of all outputs.
    return sizes.groups * sizes.positions * (sizes.a * (not sizes.indexed) + outputs * sizes.b)


def contract(
    terms: Sequence[Term],
    a: Chunk,
    b: Chunk,
    kind: Kind,
    into: Mapping[str, Tensor],
    tick: Callable[[float], object] = lambda share: None,
) -> None:
    """Add the kernels of all terms; complete them by symmetry where `a` is `b`."""
    squares = list({id(k): k for k in into.values()}.values())
    together: list[GramTerm] = []
    for term in terms:
        if isinstance(term, GradientTerm):
            add_gradients(term, a, b, kind, into)
        elif len(squares) == 1 and _one_position(term, a):
            together.append(term)
            continue
        else:
            add_gram(term, a, b, kind, into)
        tick(1 / len(terms))
    if together:
        add_grams(together, a, b, kind, squares[0])
        tick(len(together) / len(terms))
    elif a is b:
        for k in squares:
            mirror(k, kind)


def _one_position(term: GramTerm, chunk: Chunk) -> bool:
    if len(term.uses) > 1:
        return False
    k, use = next(iter(term.uses))
    operand = chunk.operands[k][0]
    if not isinstance(use.rule, Product) or use.rule.rows or operand.ndim != 3:
        return False
    return use.rule.left(operand).shape[2] == 1


def mirror(k: Tensor, kind: Kind) -> None:
    """Fill a square (G, n, n) above the diagonal: K_cd(x, x') = K_dc(x', x)."""
    squares, n = k.shape[:2]
    across = math.isqrt(squares) if kind == "full" else 1
    side = min(n, _STEP)
    lower = torch.ones(side, side, dtype=torch.bool, device=k.device).tril()
    for g in range(squares):
        c, d = divmod(g, across)
        other = k[d * across + c] if kind == "full" else k[g]
        for i in range(0, n, _STEP):
            below = slice(i, min(i + _STEP, n))
            for j in range(0, i, _STEP):
                beside = slice(j, j + _STEP)
                turn_into(k[g][beside, below], other[below, beside])
            block, turned = k[g][below, below], other[below, below].T.contiguous()
            block.copy_(torch.where(lower[: len(block), : len(block)], block, turned))


_STEP = 512
"""Side of the squares that are transposed at a time, in the cache."""


def turn_into(target: Tensor, source: Tensor) -> None:
    """Write the transpose of a square.

    Torch transposes whole blocks of memory well, and views of larger ones entry by entry.
    """
    target.copy_(source.contiguous().T.contiguous())


def _real(g: Tensor) -> Tensor:
    g = torch.view_as_real(g) if g.is_complex() else g
    return g.reshape(-1).to(torch.promote_types(g.dtype, torch.float32))
