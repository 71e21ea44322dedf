"""Every place where a parameter enters the computation of one sample's outputs.

A *use* is an operation on data that takes something made of parameters alone: the weight itself, a
slice or transpose of it, or any function of it, such as a weight normalised or merged with an
adapter. What lies between the parameter and its use does not depend on the samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.graph import LEAF, Edge, Graph
from ntkscale.ntk.inputs import Batch, count, each, rows
from ntkscale.ntk.ownership import PROBE, SCALES, Layout, find_layout, is_dead, probe_tolerance
from ntkscale.ntk.rules import Rule, rule_for
from ntkscale.ntk.suitability import counting_kept

_MOVING = ("Index", "Gather", "Scatter", "Sort", "Topk", "MaskedS", "Take", "Put", "Roll")
"""Operations that may send samples elsewhere in a way that depends on the data."""


@dataclass(frozen=True)
class Use:
    """A parameter entering an operation.

    Attributes:
        node: position of the operation in the graph.
        layout: sample axis of its output.
        source: edge that brings what is made of parameters.
        shape: of what it brings.
        rule: what the operation does to it.
        role: "bias" where the operation adds it to a product, "biased" where it is the weight of
            an operation that can add one, otherwise empty.
    """

    node: int
    layout: Layout
    source: Edge
    shape: tuple[int, ...]
    rule: Rule
    role: str = ""


@dataclass(frozen=True)
class Uses:
    """What a probe found.

    Attributes:
        graph: of the probe's forward pass.
        outputs: (n, C), the probe's outputs.
        uses: those with a known sample axis and a rule.
        unresolved: parameters with another use; no rule may be applied to any part of them.
        moving: samples may be moved about by their data: the axes are asked for in every batch.
        kept: bytes autograd keeps for one sample.
    """

    graph: Graph
    outputs: Tensor
    uses: list[Use]
    unresolved: frozenset[str]
    moving: bool
    kept: int


def leaves_of(chosen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters as leaves of a graph of their own."""
    return {name: p.detach().requires_grad_() for name, p in chosen.items()}


def visible(x: Batch) -> Batch:
    """Inputs that autograd sees, copied, so that a model may write into them."""

    def one(t: Tensor) -> Tensor:
        floating = t.is_floating_point() or t.is_complex()
        return t.detach().requires_grad_().clone() if floating else t.detach()

    return each(one, x)


def find_uses(forward: Forward, x: Batch) -> Uses | None:
    """Find every use from a forward pass of a few samples and two backward passes.

    Where nothing flows (a head of zeros), the probe is repeated with parameters moved at random: an
    axis is a matter of structure, not of values.

    Returns:
        None where the outputs depend on no chosen parameter.
    """
    leaves = leaves_of(forward.chosen)
    with forward.holding(leaves):
        with counting_kept(forward) as kept:
            y = forward.run(visible(x))
        if not y.requires_grad:
            return None
        graph = Graph.of(y, leaves)
        if y.is_meta:
            return _resolve(graph, y, _layouts_by_size(forward, x, graph), kept[0])
        layouts, dead = probe_layouts(graph, y)
    if dead:
        layouts = _layouts_elsewhere(forward, x, graph) | layouts
    return _resolve(graph, y, layouts, kept[0])


def _layouts_by_size(forward: Forward, x: Batch, graph: Graph) -> dict[int, Layout]:
    """Sample axes told by which sizes grow with the batch: all there is without numbers.

    Good for counting; where samples and positions share an axis their order stays unknown.
    """
    n = count(x)
    more = each(lambda t: t.new_empty((2 * n, *t.shape[1:])), x)
    leaves = leaves_of(forward.chosen)
    with forward.holding(leaves):
        larger = Graph.of(forward.run(visible(more)), leaves)
    if larger.signature != graph.signature:
        return {}
    layouts = {}
    for i in range(len(graph.nodes)):
        if _asked(graph, i):
            pairs = zip(graph.shape((i, 0)), larger.shape((i, 0)), strict=True)
            grown = [axis for axis, (small, large) in enumerate(pairs) if large == 2 * small]
            if len(grown) == 1:
                layouts[i] = Layout(grown[0], 1, graph.shape((i, 0))[grown[0]] // n)
    return layouts


def _layouts_elsewhere(forward: Forward, x: Batch, graph: Graph) -> dict[int, Layout]:
    """Sample axes found with parameters moved at random, if the graph is the same there."""
    generator = torch.Generator().manual_seed(0)
    leaves = leaves_of(
        {
            name: p + _noise(p, generator).to(p) * (p.detach().abs().mean() + 0.1) / 2
            for name, p in forward.chosen.items()
        }
    )
    with forward.holding(leaves):
        y = forward.run(visible(x))
        if not y.requires_grad:
            return {}
        other = Graph.of(y, leaves)
        if other.signature != graph.signature:
            return {}
        # Where parameters decide what goes where, sizes may differ.
        found, _ = probe_layouts(other, y)
        return {i: a for i, a in found.items() if other.shape((i, 0)) == graph.shape((i, 0))}


def probe_batch(x: Batch) -> Batch:
    """The first samples, repeated where there are too few to tell them from other axes."""
    n = count(x)
    return rows(x, slice(PROBE)) if n >= PROBE else rows(x, torch.arange(PROBE) % n)


def probe_layouts(graph: Graph, y: Tensor) -> tuple[dict[int, Layout], bool]:
    """Sample axis of the first output of every node that may be, or be taken for, a use.

    Works on any number of samples of at least two. The second value tells whether some node
    carried nothing.
    """
    asked = [i for i in range(len(graph.nodes)) if _asked(graph, i)]
    if not asked:
        return {}, False
    n = y.shape[0]
    scales = SCALES if n == PROBE else torch.linspace(0.5, 1.5, n, dtype=torch.float64).tolist()
    generator = torch.Generator().manual_seed(1)
    v = _noise(y, generator).to(y)
    factors = torch.tensor(scales, dtype=y.dtype, device=y.device)
    edges = [graph.gradient_edge((i, 0)) for i in asked]
    plain, scaled = (
        torch.autograd.grad(y, edges, cotangent, retain_graph=True, allow_unused=True)
        for cotangent in (v, factors[:, None] * v)
    )
    layouts, dead = {}, False
    for i, one, other in zip(asked, plain, scaled, strict=True):
        if one is None or other is None or is_dead(one):
            dead = True
            continue
        layout = find_layout(one, other, scales, probe_tolerance(one.dtype.to_real()))
        if layout is not None:
            layouts[i] = layout
    return layouts, dead


def _asked(graph: Graph, i: int) -> bool:
    if graph.names[i] == LEAF:
        return False
    if graph.from_parameters[i]:
        return not graph.only_shaping[i]
    return any(e is not None and graph.from_parameters[e[0]] for e in graph.inputs[i])


def _resolve(graph: Graph, y: Tensor, layouts: dict[int, Layout], kept: int) -> Uses:
    """Tell data from parameters, and give each use its rule."""
    # What is made of parameters but has a sample axis, such as a token repeated for every sample or
    # a row looked up by the input, is data: its own inputs are uses.
    data = [not made for made in graph.from_parameters]
    if layouts.get(0) is not None:
        data[0] = True
    for i in reversed(graph.upwards):
        if not data[i] and i in layouts:
            used_by_data = all(data[j] for j, _ in graph.consumers[i])
            data[i] = used_by_data and bool(graph.consumers[i])
    uses, unresolved = [], set()
    if not data[0]:
        unresolved |= graph.parameters[0]
    for i, is_data in enumerate(data):
        if not is_data:
            continue
        for slot, edge in enumerate(graph.inputs[i]):
            if edge is None or data[edge[0]] or not graph.parameters[edge[0]]:
                continue
            use = _use(graph, i, slot, edge, layouts.get(i))
            if use is None:
                unresolved |= graph.parameters[edge[0]]
            else:
                uses.append(use)
    moving = any(
        is_data and graph.names[i] != LEAF and _moves(graph.names[i])
        for i, is_data in enumerate(data)
    )
    return Uses(graph, y, uses, frozenset(unresolved), moving, kept // y.shape[0])


def _use(graph: Graph, i: int, slot: int, source: Edge, layout: Layout | None) -> Use | None:
    used = {e[1] for edges in graph.inputs for e in edges if e is not None and e[0] == i}
    if layout is None or used - {0} or graph.is_complex((i, 0)) or graph.is_complex(source):
        return None
    shape = graph.shape(source)
    node, out = graph.nodes[i], graph.shape((i, 0))
    rule = rule_for(node, slot, layout, out, shape)
    if rule is None:
        return None
    role = ""
    if graph.names[i] == "AddmmBackward0" and node._saved_alpha == node._saved_beta == 1:
        role = {0: "bias" if shape == out[1:] else "", 2: "biased"}.get(slot, "")
    return Use(i, layout, source, shape, rule, role)


def _moves(name: str) -> bool:
    known = name.startswith("torch::autograd::") or "Backward" in name
    return not known or not name[-1].isdigit() or name.startswith(_MOVING)


def _noise(t: Tensor, generator: torch.Generator) -> Tensor:
    dtype = torch.complex128 if t.is_complex() else torch.float64
    return torch.randn(t.shape, generator=generator, dtype=dtype)
