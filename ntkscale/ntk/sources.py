"""What lies between a parameter and its uses: a matter of positions, or a map to pull back through.

A weight, its transpose, a slice of it: the use receives some of the parameter's entries in some
order, so inner products of gradients need no more than the use itself. Anything else, such as a
weight normalised, merged with an adapter, or made from a smaller one, is linear in the gradients
and is pulled back by autograd.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ntkscale.ntk.graph import Edge, Graph


@dataclass(frozen=True)
class Arrangement:
    """A source that brings entries of one parameter in some order.

    Attributes:
        name: of the parameter.
        order: "as it is" or "turned" for all of a matrix; otherwise "some".
        shape: of the parameter.
        found: flat position in the parameter of every entry brought, for the order "some".
    """

    name: str
    order: str
    shape: tuple[int, ...]
    found: Int[Tensor, " s"] | None = None

    @property
    def into(self) -> Int[Tensor, " s"]:
        """Flat position in the parameter of every entry brought."""
        if self.found is not None:
            return self.found
        whole = torch.arange(math.prod(self.shape)).view(self.shape)
        return (whole.T if self.order == "turned" else whole).flatten()

    def same_as(self, other: "Arrangement") -> bool:
        """Whether the same entries come in the same order."""
        if self.order == other.order != "some":
            return True
        return torch.equal(self.into, other.into)


def arrangement(graph: Graph, source: Edge, leaves: dict[str, Tensor]) -> Arrangement | None:
    """Which entries of which one parameter a source brings; None if it does something else.

    Found by pulling numbers back: an arrangement puts each of them, whole, in a place of its own.
    """
    names = graph.parameters[source[0]]
    if len(names) != 1:
        return None
    (name,) = names
    p = leaves[name]
    shape = graph.shape(source)
    size = math.prod(shape)
    if p.is_complex() or size > p.numel() or size == 0:
        return None
    own = tuple(p.shape)
    if graph.leaves[name] == source[0]:
        return Arrangement(name, "as it is", own)
    if graph.names[source[0]] == "TBackward0" and graph.inputs[source[0]][0] == (
        graph.leaves[name],
        0,
    ):
        return Arrangement(name, "turned", own)
    if p.is_meta:
        return Arrangement(name, "some", own) if graph.only_shaping[source[0]] else None
    # Digits in a base that the source's numbers hold exactly; the first run counts from one, so
    # that places which receive nothing show.
    base = 1 << (8 if p.dtype in (torch.bfloat16, torch.float16) else 20)
    labels = torch.arange(size, device=p.device)
    found = torch.zeros(p.numel(), dtype=torch.int64, device=p.device)
    filled: Tensor | None = None
    unit = 1
    while unit == 1 or unit <= size:
        digit = (labels // unit) % base
        got = _pulled(graph, source, p, (digit + 1).reshape(shape))
        if got is None:
            return None
        whole = got.round()
        if bool((whole != got).any()) or bool((whole < 0).any()) or bool((whole > base).any()):
            return None
        digits = whole.to(torch.int64).flatten()
        if filled is None:
            filled = digits > 0
        elif bool(((digits > 0) != filled).any()):
            return None
        found += torch.where(filled, digits - 1, 0) * unit
        unit *= base
    assert filled is not None
    places = filled.nonzero()[:, 0]
    which = found[places]
    if len(places) != size or not torch.equal(which.sort()[0], labels):
        return None
    into = torch.empty_like(labels)
    into[which] = places
    return Arrangement(name, "some", own, into.cpu())


def _pulled(graph: Graph, source: Edge, p: Tensor, numbers: Tensor) -> Tensor | None:
    metadata = graph.nodes[source[0]]._input_metadata[source[1]]
    (got,) = torch.autograd.grad(
        [graph.gradient_edge(source)],
        [p],
        [numbers.to(metadata.dtype)],
        retain_graph=True,
        allow_unused=True,
    )
    return None if got is None else got.to(torch.float64)


class PullBack:
    """Gradients of what a source brings, pulled back to the parameters it is made of.

    Linear, and the same for all samples; the graph of the probe serves all batches.
    """

    def __init__(self, graph: Graph, source: Edge, leaves: dict[str, Tensor]) -> None:
        self.edge = graph.gradient_edge(source)
        self.dtype = graph.nodes[source[0]]._input_metadata[source[1]].dtype
        self.names = sorted(graph.parameters[source[0]])
        self.leaves = [leaves[name] for name in self.names]

    def __call__(self, gradients: Tensor) -> dict[str, Tensor]:
        """From (k, *shape) to (k, size) for each parameter, complex entries as two real ones."""
        gradients = gradients.to(self.dtype)
        try:
            found = torch.autograd.grad(
                [self.edge],
                self.leaves,
                [gradients],
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
        except RuntimeError:
            # An operation without a batching rule: one gradient after the other.
            each = [
                torch.autograd.grad(
                    [self.edge], self.leaves, [g], retain_graph=True, allow_unused=True
                )
                for g in gradients
            ]
            found = [
                None if parts[0] is None else torch.stack(parts)
                for parts in zip(*each, strict=True)
            ]
        k = gradients.shape[0]
        return {
            name: _flat(torch.zeros_like(p).expand(k, *p.shape) if g is None else g)
            for name, p, g in zip(self.names, self.leaves, found, strict=True)
        }


def _flat(gradient: Tensor) -> Tensor:
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient)
    return gradient.reshape(gradient.shape[0], -1)
