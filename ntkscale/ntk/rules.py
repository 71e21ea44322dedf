"""What an operation does to a parameter: its gradient for one sample, in closed form.

A *product* is a linear map: the gradient is a sum over positions p of left_p (x) right_p, `left`
from the activations and `right` from the cotangent of the output. Kernels of products need no
gradients. A *direct* rule gives the gradient itself. An operation without a rule is no obstacle:
its parameters take the generic route.

All tensors here have samples first (`ownership.by_sample`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ntkscale.ntk.ownership import Layout, broadcast_by_sample, by_sample, summed_to
from ntkscale.ntk.patches import patches

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """Gradient sum_p left_p (x) right_p, for each of g groups.

    Attributes:
        operand: from a node to its activations (n, ...).
        left: from activations to (n, g, P, a); for an indexed product to whole numbers (n, P).
        right: from a cotangent (n, ...) to (n, g, P, b).
        left_first: the parameter is laid out (g, a, b), not (g, b, a).
        rows: for an indexed product, the number of rows a; otherwise 0.
    """

    operand: Callable[[Any], Tensor]
    left: Callable[[Tensor], Tensor]
    right: Callable[[Tensor], Tensor]
    left_first: bool
    rows: int = 0


@dataclass(frozen=True)
class Direct:
    """The gradient itself.

    Attributes:
        operands: from a node to what the gradient needs, each (n, ...).
        gradient: from a cotangent (n, ...) and those to (n, *shape of the parameter's side).
    """

    operands: Callable[[Any], tuple[Tensor, ...]]
    gradient: Callable[..., Tensor]


Rule = Product | Direct


def rule_for(node: Any, slot: int, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """The rule of one use of a parameter, or None.

    Args:
        node: autograd's node.
        slot: which of its inputs comes from parameters.
        layout: the sample axis of its output.
        out: shape of its output.
        source: shape of what comes from parameters.
    """
    make = _RULES.get((node.name(), slot))
    return None if make is None else make(node, layout, out, source)


def _rows(t: Tensor) -> Tensor:
    """(n, P, a) -> (n, 1, P, a)."""
    return t[:, None]


def _columns(t: Tensor) -> Tensor:
    """(n, a, P) -> (n, 1, P, a)."""
    return t.transpose(1, 2)[:, None]


def _scaled(rule: Rule, factor: complex) -> Rule | None:
    """The rule with its gradient multiplied by a number."""
    if factor == 1:
        return rule
    if isinstance(rule, Product):
        left = rule.left
        return Product(
            rule.operand, lambda t: left(t) * factor, rule.right, rule.left_first, rule.rows
        )
    gradient = rule.gradient
    return Direct(rule.operands, lambda b, *t: gradient(b, *t) * factor)


def _right_factor(saved: str) -> Callable[..., Rule | None]:
    """x @ w, samples in the rows of x."""

    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if layout.axis != 0 or len(out) != 2:
            return None
        return Product(lambda node: by_sample(getattr(node, saved), layout), _rows, _rows, True)

    return make


def _left_factor(saved: str) -> Callable[..., Rule | None]:
    """w @ x, samples in the columns of x."""

    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if layout.axis != 1 or len(out) != 2:
            return None
        return Product(
            lambda node: by_sample(getattr(node, saved), layout), _columns, _columns, False
        )

    return make


def _times(factor: str, make: Callable[..., Rule | None]) -> Callable[..., Rule | None]:
    def scaled(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        rule = make(node, layout, out, source)
        return None if rule is None else _scaled(rule, getattr(node, factor))

    return scaled


def _vector(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """x @ v for a vector v."""
    return Product(
        lambda node: by_sample(node._saved_self, layout),
        _rows,
        lambda b: b[:, None, :, None],
        True,
    )


def _batched_right(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """x @ w for each of g groups, samples in the rows."""
    if layout.axis != 1:
        return None
    return Product(lambda node: by_sample(node._saved_self, layout), lambda t: t, lambda b: b, True)


def _batched_left(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """w @ x for each of g groups, samples in the columns."""
    if layout.axis != 2:
        return None

    def turned(t: Tensor) -> Tensor:
        return t.transpose(2, 3)

    return Product(lambda node: by_sample(node._saved_mat2, layout), turned, turned, False)


def _convolution(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    if layout.axis != 0:
        return None
    groups, kernel = int(node._saved_groups), source[2:]
    stride, padding, dilation = (
        tuple(int(i) for i in getattr(node, f"_saved_{name}"))
        for name in ("stride", "padding", "dilation")
    )

    def unfolded(t: Tensor, space: tuple[int, ...]) -> Tensor:
        """(n, pp, C, *space) -> (n, g, P, C / g * k)."""
        taken = patches(
            t.flatten(0, 1), kernel, stride=stride, padding=padding, dilation=dilation, out=space
        )
        taken = taken.unflatten(0, t.shape[:2]).unflatten(2, (groups, -1)).flatten(3, 4)
        return _positions(taken)

    def flat(t: Tensor) -> Tensor:
        """(n, pp, C, *space) -> (n, g, P, C / g)."""
        return _positions(t.flatten(3).unflatten(2, (groups, -1)))

    if not node._saved_transposed:
        return Product(
            lambda node: by_sample(node._saved_input, layout),
            lambda t: unfolded(t, out[2:]),
            flat,
            False,
        )
    inner = tuple(node._saved_input.shape[2:])
    # The weight meets x at a position with the patch of the output that it is spread over.
    return Product(
        lambda node: by_sample(node._saved_input, layout),
        flat,
        lambda b: unfolded(b, inner),
        True,
    )


def _positions(t: Tensor) -> Tensor:
    """(n, pp, g, a, P) -> (n, g, pp * P, a)."""
    t = t.permute(0, 2, 1, 4, 3)
    return t.squeeze(2) if t.shape[2] == 1 else t.flatten(2, 3)


def _convolution_bias(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    if layout.axis != 0:
        return None
    others = (1, *range(3, len(out) + 1))
    return Direct(lambda node: (), lambda b: b.sum(others))


def _embedding(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    if node._saved_scale_grad_by_freq or layout.axis >= len(out) - 1:
        return None
    padding = int(node._saved_padding_idx)
    padding = padding + source[0] if padding < -1 else padding

    def index(node: Any) -> Tensor:
        return by_sample(node._saved_indices, layout).flatten(1)

    def left(t: Tensor) -> Tensor:
        # Row a, one beyond the last, stands for the padding entry, which is not trained.
        return torch.where(t == padding, source[0], t) if padding >= 0 else t

    return Product(index, left, lambda b: b.flatten(1, -2)[:, None], True, rows=source[0])


def _spread(scale: Callable[[Any], float] | None = None) -> Callable[..., Rule | None]:
    """Added, or broadcast: the gradient is the cotangent, summed over what was broadcast."""

    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if not _sums_to(layout, out, source):
            return None
        rule = Direct(lambda node: (), lambda b: _summed(b, source))
        return rule if scale is None else _scaled(rule, scale(node))

    return make


def _repeated(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    per_sample = tuple(
        layout.pre * layout.post if i == layout.axis else s for i, s in enumerate(out)
    )
    wide = (1,) * (len(per_sample) - len(source)) + source
    if per_sample != wide:
        return None
    return Direct(lambda node: (), lambda b: b.reshape(b.shape[0], *source))


def _scaled_by(saved: str) -> Callable[..., Rule | None]:
    """Multiplied: the gradient is the cotangent times the other operand."""

    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if not _sums_to(layout, out, source) or getattr(node, saved).is_complex():
            return None
        return Direct(
            lambda node: (broadcast_by_sample(getattr(node, saved), layout, _shape(node)),),
            lambda b, other: _summed(b * other, source),
        )

    return make


def _divided(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """w / x."""
    if not _sums_to(layout, out, source) or node._saved_other.is_complex():
        return None
    return Direct(
        lambda node: (broadcast_by_sample(node._saved_other, layout, _shape(node)),),
        lambda b, other: _summed(b / other, source),
    )


def _divisor(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    """x / w."""
    if not _sums_to(layout, out, source) or node._saved_other.is_complex():
        return None
    return Direct(
        lambda node: (
            broadcast_by_sample(node._saved_self, layout, _shape(node)),
            broadcast_by_sample(node._saved_other, layout, _shape(node)),
        ),
        lambda b, x, w: _summed(-b * x / (w * w), source),
    )


def _layer_norm(weight: bool) -> Callable[..., Rule | None]:
    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if layout.axis >= len(out) - len(source):
            return None

        def standardised(node: Any) -> tuple[Tensor, ...]:
            x = (node._saved_input - node._saved_result1) * node._saved_result2
            return (by_sample(x, layout),)

        return _normalisation(weight, standardised, lambda t: _summed(t, source))

    return make


def _group_norm(weight: bool) -> Callable[..., Rule | None]:
    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if layout.axis != 0:
            return None

        def standardised(node: Any) -> tuple[Tensor, ...]:
            x = node._saved_input
            grouped = x.reshape(int(node._saved_N), int(node._saved_group), -1)
            mean, scale = node._saved_result1[..., None], node._saved_result2[..., None]
            return (by_sample(((grouped - mean) * scale).reshape(x.shape), layout),)

        return _normalisation(weight, standardised, _by_channel)

    return make


def _batch_norm(weight: bool) -> Callable[..., Rule | None]:
    def make(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
        if layout.axis != 0 or node._saved_training:
            return None

        def standardised(node: Any) -> tuple[Tensor, ...]:
            x = node._saved_input
            wide = (1, -1) + (1,) * (x.ndim - 2)
            mean, variance = node._saved_running_mean, node._saved_running_var
            # cuDNN's node has another name for it.
            eps = getattr(node, "_saved_eps", None)
            scale = torch.rsqrt(variance + (node._saved_epsilon if eps is None else eps))
            return (by_sample((x - mean.view(wide)) * scale.view(wide), layout),)

        return _normalisation(weight, standardised, _by_channel)

    return make


def _normalisation(
    weight: bool,
    standardised: Callable[[Any], tuple[Tensor, ...]],
    reduce: Callable[[Tensor], Tensor],
) -> Rule:
    if weight:
        return Direct(standardised, lambda b, x: reduce(b * x))
    return Direct(lambda node: (), reduce)


def _by_channel(t: Tensor) -> Tensor:
    """(n, pp, C, ...) -> (n, C)."""
    return t.sum((1, *range(3, t.ndim)))


def _prelu(node: Any, layout: Layout, out: Shape, source: Shape) -> Rule | None:
    if not _sums_to(layout, out, source):
        return None
    return Direct(
        lambda node: (by_sample(node._saved_self, layout),),
        lambda b, x: _summed(b * x.clamp(max=0), source),
    )


def _shape(node: Any) -> Shape:
    return tuple(int(s) for s in node._input_metadata[0].shape)


def _sums_to(layout: Layout, out: Shape, source: Shape) -> bool:
    """Whether the parameter is broadcast along the sample axis."""
    at = layout.axis - (len(out) - len(source))
    return at < 0 or (source[at] == 1 and out[layout.axis] != 1)


def _summed(t: Tensor, shape: Shape) -> Tensor:
    total = summed_to(t, shape)
    assert total is not None, "a rule was made for shapes that do not broadcast"
    return total


def _alpha(node: Any) -> float:
    return node._saved_alpha


_RULES: dict[tuple[str, int], Callable[..., Rule | None]] = {
    ("MmBackward0", 0): _left_factor("_saved_mat2"),
    ("MmBackward0", 1): _right_factor("_saved_self"),
    ("AddmmBackward0", 0): _spread(lambda node: node._saved_beta),
    ("AddmmBackward0", 1): _times("_saved_alpha", _left_factor("_saved_mat2")),
    ("AddmmBackward0", 2): _times("_saved_alpha", _right_factor("_saved_mat1")),
    ("MvBackward0", 1): _vector,
    ("BmmBackward0", 0): _batched_left,
    ("BmmBackward0", 1): _batched_right,
    ("ConvolutionBackward0", 1): _convolution,
    ("ConvolutionBackward0", 2): _convolution_bias,
    ("EmbeddingBackward0", 0): _embedding,
    ("AddBackward0", 0): _spread(),
    ("AddBackward0", 1): _spread(_alpha),
    ("SubBackward0", 0): _spread(),
    ("SubBackward0", 1): _spread(lambda node: -_alpha(node)),
    ("ExpandBackward0", 0): _spread(),
    ("RepeatBackward0", 0): _repeated,
    ("MulBackward0", 0): _scaled_by("_saved_other"),
    ("MulBackward0", 1): _scaled_by("_saved_self"),
    ("DivBackward0", 0): _divided,
    ("DivBackward0", 1): _divisor,
    ("NativeLayerNormBackward0", 1): _layer_norm(True),
    ("NativeLayerNormBackward0", 2): _layer_norm(False),
    ("NativeGroupNormBackward0", 1): _group_norm(True),
    ("NativeGroupNormBackward0", 2): _group_norm(False),
    ("NativeBatchNormBackward0", 1): _batch_norm(True),
    ("NativeBatchNormBackward0", 2): _batch_norm(False),
    ("CudnnBatchNormBackward0", 1): _batch_norm(True),
    ("CudnnBatchNormBackward0", 2): _batch_norm(False),
    ("PreluKernelBackward0", 1): _prelu,
}
