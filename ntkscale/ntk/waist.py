"""One backward pass that serves every output: the part of a network next to its linear head.

Let the outputs be a linear map W of features h, up to constants. Where every entry e of an inner
tensor z reaches the outputs through one feature f(e) alone, as it does through activation
functions, global pooling and batch norm at rest, the cotangent of output c is
W[c, f(e)] dh_f(e)/dz_e. The second factor does not know c.

That a path has this form is read off the graph, operation by operation; a network without such a
path is none the worse for it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ntkscale.ntk.graph import Edge, Graph
from ntkscale.ntk.uses import Uses

_ELEMENTWISE = frozenset(
    f"{name}Backward{i}"
    for name in (
        *("Relu", "Threshold", "Hardtanh", "LeakyRelu", "Elu", "Celu", "Gelu", "Silu", "Mish"),
        *("Softplus", "Hardswish", "Hardsigmoid", "LogSigmoid", "Sigmoid", "Tanh", "Erf", "Pow"),
        *("Exp", "Log", "Sqrt", "Rsqrt", "Sin", "Cos", "Abs", "Neg", "Clamp", "ClampMin"),
        *("ClampMax", "Clone", "Alias", "Square", "Atan", "Softshrink", "Hardshrink"),
    )
    for i in range(3)
)
_BINARY = frozenset(f"{name}Backward{i}" for name in ("Mul", "Div", "Add", "Sub") for i in range(2))
_RESHAPING = frozenset(
    f"{name}Backward{i}"
    for name in ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze")
    for i in range(3)
)
_POOLING = frozenset(
    f"{name}Backward{i}"
    for name in (
        *("AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "MkldnnAdaptiveAvgPool2D"),
        *("AvgPool2D", "AvgPool3D", "MaxPool2DWithIndices", "MaxPool3DWithIndices"),
    )
    for i in range(3)
)
_PRODUCTS = {"AddmmBackward0": 1, "MmBackward0": 0}


@dataclass(frozen=True)
class Waist:
    """A linear head and what hangs on it entry by entry.

    Attributes:
        head: edge of the features h (n, F); None where the head takes something else.
        weight: (C, F), cotangent of every output at every feature, the same for all samples.
        features: for nodes with one feature an entry, the feature of every entry of its output:
            whole numbers (k, ...) for an output (n k, ...), whose samples come first.
        logits: node of the head itself, whose cotangents are the same numbers for all samples.
        at_logits: (C, O), those numbers.
    """

    head: Edge | None
    weight: Tensor
    features: dict[int, Tensor]
    logits: int
    at_logits: Tensor


def find_waist(uses: Uses) -> Waist | None:
    """Look for a linear head; None where the outputs are no linear map of anything."""
    graph, y = uses.graph, uses.outputs
    i = 0
    while graph.names[i] not in _PRODUCTS:
        step = _linear_step(graph, i, y.shape[0])
        if step is None:
            return None
        i = step
    shape = graph.shape((i, 0))
    if len(shape) != 2 or shape[0] != y.shape[0]:
        return None
    head = graph.inputs[i][_PRODUCTS[graph.names[i]]]
    if head is not None and (graph.from_parameters[head[0]] or _weight_is_data(graph, i)):
        return None
    at_logits = _constant_cotangents(graph, y, (i, 0))
    if at_logits is None:
        return None
    none = Waist(None, at_logits, {}, i, at_logits)
    if head is None or y.shape[1] == 1:
        return none
    weight = _constant_cotangents(graph, y, head)
    if weight is None:
        return none
    return Waist(head, weight, _one_feature_an_entry(graph, head, i), i, at_logits)


def _linear_step(graph: Graph, i: int, n: int) -> int | None:
    """The one node behind an operation that multiplies by, adds or reshapes constants."""
    name, edges = graph.names[i], graph.inputs[i]
    # What no chosen parameter reaches, such as the same network at initialisation, is a constant.
    seen = [(slot, e) for slot, e in enumerate(edges) if e is not None and graph.parameters[e[0]]]
    if len(seen) != 1 or graph.from_parameters[seen[0][1][0]]:
        return None
    slot, (child, nr) = seen[0]
    if nr or len(graph.consumers[child]) != 1:
        return None
    if name in _RESHAPING | {"CloneBackward0", "AliasBackward0", "NegBackward0"}:
        return child
    if name.startswith(("Add", "Sub")) and name in _BINARY:
        return child if graph.shape((child, 0)) == graph.shape((i, 0)) else None
    if name.startswith(("Mul", "Div")) and name in _BINARY and slot == 0:
        other = getattr(graph.nodes[i], "_saved_other", None)
        return child if not isinstance(other, Tensor) or other.numel() == 1 else None
    return None


def _weight_is_data(graph: Graph, i: int) -> bool:
    edge = graph.inputs[i][_PRODUCTS[graph.names[i]] + 1]
    return edge is not None and not graph.from_parameters[edge[0]]


def _constant_cotangents(graph: Graph, y: Tensor, edge: Edge) -> Tensor | None:
    """Cotangents (C, F) at an edge (n, F); None unless every sample has the same."""
    found = []
    rounding = 1e-12 if y.dtype == torch.float64 else 1e-5
    for c in range(y.shape[1]):
        one = torch.zeros_like(y)
        one[:, c] = 1
        (b,) = torch.autograd.grad(
            y, [graph.gradient_edge(edge)], one, retain_graph=True, allow_unused=True
        )
        # Read off the graph already; rows of a product may differ in rounding.
        if b is None or not bool((b - b[:1]).abs().le(rounding * b.abs()).all()):
            return None
        found.append(b[0].detach())
    return torch.stack(found)


def _one_feature_an_entry(graph: Graph, head: Edge, logits: int) -> dict[int, Tensor]:
    """Follow the features back while every entry reaches one of them alone."""
    count = graph.shape(head)[1]
    features: dict[int, Tensor | None] = {}
    n = graph.shape(head)[0]
    known = torch.arange(count)[None]
    # From the head downwards: a node is settled once all that use it are.
    for i in reversed(graph.upwards):
        own: list[Tensor | None] = []
        for j, slot in graph.consumers[i]:
            if j == logits and graph.inputs[j][slot] == head:
                own.append(known if head == (i, 0) else None)
            elif j in features and graph.inputs[j][slot] == (i, 0):
                own.append(_through(graph, j, slot, features[j], n))
            else:
                own.append(None)
        if own and all(f is not None and torch.equal(f, own[0]) for f in own):  # type: ignore[arg-type]
            features[i] = own[0]
    return {i: f for i, f in features.items() if f is not None}


def _through(graph: Graph, j: int, slot: int, feature: Tensor | None, n: int) -> Tensor | None:
    """Feature of every entry of one input of a node, from those of its output."""
    edge = graph.inputs[j][slot]
    if feature is None or edge is None:
        return None
    name, shape = graph.names[j], graph.shape(edge)
    if len(shape) < 1 or shape[0] % n:
        return None
    inner = (shape[0] // n, *shape[1:])
    if name in _ELEMENTWISE or name in _BINARY:
        return feature if tuple(feature.shape) == inner else None
    if name in _RESHAPING:
        # Samples come first on both sides, so each one's entries stay together and in order.
        return feature.reshape(inner) if feature.numel() == math.prod(inner) else None
    if inner[0] != 1 or feature.shape[0] != 1:
        return None
    if name in ("MeanBackward1", "SumBackward1"):
        return _reduced(graph.nodes[j], feature, inner)
    if name in ("NativeBatchNormBackward0", "CudnnBatchNormBackward0") and slot == 0:
        return None if graph.nodes[j]._saved_training else feature
    return _channelwise(feature, inner) if name in _POOLING else None


def _reduced(node: Any, feature: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Features spread over the axes that were summed."""
    # Autograd keeps negative axes as unsigned numbers.
    axes = sorted((d - (1 << 64) if d >> 63 else d) % len(shape) for d in node._saved_dim)
    if not axes or axes[0] == 0:
        return None
    if not node._saved_keepdim:
        for axis in axes:
            feature = feature.unsqueeze(axis)
    return feature.expand(shape).contiguous()


def _channelwise(feature: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Features that depend on the channel alone, spread over the space that was pooled."""
    if len(shape) < 3 or feature.shape[1] != shape[1]:
        return None
    channel = feature.reshape(shape[1], -1)
    if not bool((channel == channel[:, :1]).all()):
        return None
    return channel[:, :1].reshape(1, -1, *(1,) * (len(shape) - 2)).expand(shape).contiguous()
