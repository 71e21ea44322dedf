"""What the kernel of a batch is made of: activations, and cotangents of every output.

One forward pass and one backward pass an output over the whole batch; where memory takes outputs a
few at a time, still one forward pass. Weights get no gradients: autograd is asked for what arrives
at the operations that use them and runs nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.graph import Graph
from ntkscale.ntk.inputs import Batch, count
from ntkscale.ntk.ownership import Layout, by_sample
from ntkscale.ntk.rules import Product
from ntkscale.ntk.uses import Use, leaves_of, probe_layouts, visible
from ntkscale.ntk.waist import Waist


class UnlikeProbe(Exception):
    """This batch takes another path through the model than the probe did."""


@dataclass(frozen=True)
class Cotangents:
    """Cotangents at one operation, samples first: a tensor an output, or a shared one.

    Attributes:
        dense: one (n, ...) an output; empty where they are shared.
        shared: (n, ...), the part that no output knows of; None where it is 1.
        weights: (C, ...), what output c multiplies it with.
    """

    dense: tuple[Tensor, ...] = ()
    shared: Tensor | None = None
    weights: Tensor | None = None

    def of(self, c: int) -> Tensor:
        """Cotangent of output c; of all samples alike, (1, ...), where it is a constant."""
        if self.weights is None:
            return self.dense[c]
        one = self.weights[c : c + 1]
        return one if self.shared is None else self.shared * one

    def taken(self, index: Tensor) -> "Cotangents":
        """Those of some samples."""
        shared = None if self.shared is None else self.shared[index]
        return Cotangents(tuple(b[index] for b in self.dense), shared, self.weights)

    def contracted(self, v: Float[Tensor, "n C"]) -> "Cotangents":
        """The one cotangent sum_c v_ic b_c of every sample i."""
        total = None
        for c in range(v.shape[1]):
            b = self.of(c)
            part = b * v[:, c].to(b).reshape(-1, *(1,) * (b.ndim - 1))
            total = part if total is None else total + part
        assert total is not None
        return Cotangents((total,))


@dataclass(frozen=True)
class Chunk:
    """A batch of samples, ready to be contracted with another.

    Attributes:
        n: samples.
        outputs: how many outputs.
        operands: for each use, what its rule needs, each with samples first.
        cotangents: by position of the operation.
    """

    n: int
    outputs: int
    operands: tuple[tuple[Tensor, ...], ...]
    cotangents: dict[int, Cotangents]

    def pair(self, index: Tensor, v: Float[Tensor, "m C"]) -> "Chunk":
        """A few samples with the one output sum_c v_ic f_c."""
        return Chunk(
            len(index),
            1,
            tuple(tuple(t[index] for t in parts) for parts in self.operands),
            {i: b.taken(index).contracted(v) for i, b in self.cotangents.items()},
        )

    @property
    def bytes(self) -> int:
        """Memory held, storage that several tensors share counted once."""
        held = [t for parts in self.operands for t in parts]
        for b in self.cotangents.values():
            held += [*b.dense, *([] if b.shared is None else [b.shared])]
        stores = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
        return sum(stores.values())


@dataclass(frozen=True)
class Running:
    """A batch that has been run forwards, of which the cotangents of any outputs may be asked.

    Attributes:
        graph: of the pass.
        y: (n, C), its outputs.
        uses: what the cotangents are wanted at.
        waist: the linear head, if there is one.
        operands: for each use, what its rule needs.
    """

    graph: Graph
    y: Tensor
    uses: Sequence[Use]
    waist: Waist | None
    operands: tuple[tuple[Tensor, ...], ...]

    def chunk(self, outputs: Sequence[int], *, last: bool) -> Chunk:
        """The batch with these outputs; the `last` ones let go of what autograd keeps."""
        found = _cotangents(self.graph, self.y, self.uses, self.waist, outputs, last=last)
        return Chunk(self.y.shape[0], len(outputs), self.operands, found)


@contextmanager
def running(
    forward: Forward,
    x: Batch,
    uses: Sequence[Use],
    signature: tuple[object, ...],
    waist: Waist | None,
    *,
    moving: bool,
) -> Iterator[Running]:
    """Run the batch once, for one group of outputs after another.

    Args:
        forward: the model.
        x: the batch.
        uses: from a probe, with positions in a graph of this signature.
        signature: of the probe's graph.
        waist: the linear head, if there is one.
        moving: ask for every sample axis anew.

    Raises:
        UnlikeProbe: the graph differs from the probe's, or a sample axis does.
    """
    leaves = leaves_of(forward.chosen)
    with forward.holding(leaves):
        y = forward.run(visible(x))
        graph = Graph.of(y, leaves) if y.requires_grad else None
        if graph is None or graph.signature != signature:
            raise UnlikeProbe
        n = count(x)
        for use in uses:
            size, layout = graph.shape((use.node, 0)), use.layout
            if size[layout.axis] != layout.pre * n * layout.post:
                raise UnlikeProbe
        if moving:
            _same_layouts(graph, y, uses)
        dtype = _dtype(y)
        operands = tuple(
            tuple(_ready(t, dtype) for t in operands_of(use, graph.nodes[use.node])) for use in uses
        )
        yield Running(graph, y, uses, waist, operands)


def _dtype(y: Tensor) -> torch.dtype:
    """In which operands and cotangents are kept: at least float32."""
    return torch.promote_types(y.dtype, torch.float32)


def operands_of(use: Use, node: Any) -> tuple[Tensor, ...]:
    """What a use's rule needs of its operation, samples first."""
    rule = use.rule
    return (rule.operand(node),) if isinstance(rule, Product) else rule.operands(node)


def _ready(t: Tensor, dtype: torch.dtype) -> Tensor:
    t = t.detach()
    return t.to(dtype) if t.is_floating_point() else t


def _same_layouts(graph: Graph, y: Tensor, uses: Sequence[Use]) -> None:
    if y.shape[0] < 2:
        raise UnlikeProbe
    layouts, _ = probe_layouts(graph, y)
    for use in uses:
        # Nothing flowing here in this batch contributes nothing.
        if layouts.get(use.node, use.layout) != use.layout or use.node not in layouts:
            raise UnlikeProbe


def _cotangents(
    graph: Graph,
    y: Tensor,
    uses: Sequence[Use],
    waist: Waist | None,
    outputs: Sequence[int],
    *,
    last: bool,
) -> dict[int, Cotangents]:
    dtype = _dtype(y)
    layouts: dict[int, Layout] = {use.node: use.layout for use in uses}
    found: dict[int, Cotangents] = {}
    picked = list(outputs)
    at_head: dict[int, Tensor] = {}
    if waist is not None:
        if waist.logits in layouts:
            weights = waist.at_logits[picked][:, None].to(dtype)
            found[waist.logits] = Cotangents(weights=weights)
        at_head = {
            i: f for i, f in waist.features.items() if layouts.get(i) == Layout(0, 1, f.shape[0])
        }
    if at_head and waist is not None and waist.head is not None:
        h = graph.gradient_edge(waist.head)
        ones = torch.ones(graph.shape(waist.head), dtype=y.dtype, device=y.device)
        edges = [graph.gradient_edge((i, 0)) for i in at_head]
        shared = torch.autograd.grad([h], edges, [ones], retain_graph=True)
        for (i, feature), b in zip(at_head.items(), shared, strict=True):
            weights = waist.weight[picked][:, feature.to(y.device)].to(dtype)
            found[i] = Cotangents(shared=by_sample(b, layouts[i]).to(dtype), weights=weights)
    rest = [i for i in layouts if i not in found]
    dense: list[list[Tensor]] = [[] for _ in rest]
    if rest:
        edges = [graph.gradient_edge((i, 0)) for i in rest]
        for k, c in enumerate(picked):
            one = torch.zeros_like(y)
            one[:, c] = 1
            arrived = torch.autograd.grad(
                y, edges, one, retain_graph=not last or k + 1 < len(picked), allow_unused=True
            )
            for into, i, b in zip(dense, rest, arrived, strict=True):
                if b is None:
                    b = torch.zeros(graph.shape((i, 0)), dtype=y.dtype, device=y.device)
                into.append(by_sample(b, layouts[i]).to(dtype))
    found |= {i: Cotangents(tuple(b)) for i, b in zip(rest, dense, strict=True)}
    return found
