"""The autograd graph of one forward pass, as a list one can compare, label and ask.

Only what autograd itself records is read: which operation consumed which. So it makes no difference
whether a weight sits in a module, is passed to a function, is tied, sliced or used many times.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge

LEAF = "torch::autograd::AccumulateGrad"

SHAPING = frozenset(
    f"{name}Backward{i}"
    for name in (
        *(
            "T",
            "Transpose",
            "Permute",
            "View",
            "UnsafeView",
            "ReshapeAlias",
            "Squeeze",
            "Unsqueeze",
        ),
        *("Slice", "Select", "Split", "SplitWithSizes", "Unbind", "Clone", "Alias", "ToCopy"),
        *("Narrow", "Unflatten", "Flatten", "Contiguous", "Detach", "AsStrided"),
    )
    for i in range(3)
) | {LEAF}
"""Operations on parameters that cannot give them a sample axis."""

Edge = tuple[int, int]
"""Output `nr` of the operation at position `i` of the graph."""


@dataclass(frozen=True)
class Graph:
    """Operations from the output back to the leaves, in an order that equal graphs share.

    Attributes:
        nodes: autograd's nodes; position 0 is the output's.
        inputs: for each node, the edge that feeds each slot; None where nothing is differentiated.
        leaves: position of the leaf of each chosen parameter the output depends on, by name.
    """

    nodes: list[Any]
    inputs: list[tuple[Edge | None, ...]]
    leaves: dict[str, int]

    @classmethod
    def of(cls, y: Tensor, chosen: Mapping[str, Tensor]) -> "Graph":
        """Read the graph behind `y`, which must depend on something differentiable."""
        names = {id(p): name for name, p in chosen.items()}
        position: dict[Any, int] = {}
        nodes: list[Any] = []
        stack: list[Any] = [y.grad_fn]
        leaves: dict[str, int] = {}
        while stack:
            node = stack.pop()
            if node in position:
                continue
            position[node] = len(nodes)
            nodes.append(node)
            if node.name() == LEAF and id(node.variable) in names:
                leaves[names[id(node.variable)]] = position[node]
            stack.extend(child for child, _ in reversed(node.next_functions) if child is not None)
        inputs = [
            tuple(
                None if child is None else (position[child], nr)
                for child, nr in node.next_functions
            )
            for node in nodes
        ]
        return cls(nodes, inputs, leaves)

    @cached_property
    def names(self) -> list[str]:
        """What each node does, such as AddmmBackward0."""
        return [node.name() for node in self.nodes]

    @cached_property
    def signature(self) -> tuple[object, ...]:
        """Equal for graphs of equal operations in equal order, whatever the number of samples."""
        return tuple(zip(self.names, self.inputs, strict=True)), tuple(self.leaves.items())

    @cached_property
    def consumers(self) -> list[list[tuple[int, int]]]:
        """Who uses each node: positions and slots."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        for i, edges in enumerate(self.inputs):
            for slot, edge in enumerate(edges):
                if edge is not None:
                    found[edge[0]].append((i, slot))
        return found

    @cached_property
    def upwards(self) -> list[int]:
        """Positions with every node behind those that feed it."""
        waiting = [len({e[0] for e in edges if e is not None}) for edges in self.inputs]
        ready = [i for i, count in enumerate(waiting) if count == 0]
        order = []
        while ready:
            i = ready.pop()
            order.append(i)
            for j in {j for j, _ in self.consumers[i]}:
                waiting[j] -= 1
                if waiting[j] == 0:
                    ready.append(j)
        return order

    @cached_property
    def parameters(self) -> list[frozenset[str]]:
        """Names of the chosen parameters each node depends on."""
        leaf = {i: name for name, i in self.leaves.items()}
        found: list[frozenset[str]] = [frozenset()] * len(self.nodes)
        for i in self.upwards:
            own = frozenset((leaf[i],)) if i in leaf else frozenset()
            found[i] = own.union(*(found[e[0]] for e in self.inputs[i] if e is not None))
        return found

    @cached_property
    def from_parameters(self) -> list[bool]:
        """Whether all that autograd sees of a node's inputs are chosen parameters."""
        leaves = set(self.leaves.values())
        found = [False] * len(self.nodes)
        for i in self.upwards:
            edges = [e[0] for e in self.inputs[i] if e is not None]
            found[i] = i in leaves or (bool(edges) and all(found[j] for j in edges))
        return found

    @cached_property
    def only_shaping(self) -> list[bool]:
        """Whether a node and all behind it merely rearrange parameters."""
        found = [False] * len(self.nodes)
        for i in self.upwards:
            below = all(found[e[0]] for e in self.inputs[i] if e is not None)
            found[i] = self.from_parameters[i] and below and self.names[i] in SHAPING
        return found

    def shape(self, edge: Edge) -> tuple[int, ...]:
        """Shape of the tensor on an edge."""
        return tuple(int(s) for s in self.nodes[edge[0]]._input_metadata[edge[1]].shape)

    def is_complex(self, edge: Edge) -> bool:
        """Whether the tensor on an edge is."""
        return self.nodes[edge[0]]._input_metadata[edge[1]].dtype.is_complex

    def gradient_edge(self, edge: Edge) -> GradientEdge:
        """The edge as `torch.autograd.grad` takes it."""
        return GradientEdge(self.nodes[edge[0]], edge[1])
