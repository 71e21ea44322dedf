"""Kernels of infinitely wide fully connected networks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.arguments import Array, array
from ntkscale.theory.infinite_width.recursion import Block, Rule, block, rule, samples, symmetric

Progress = Callable[[int, int], None]

# Pairs computed at once: a few buffers of that size stay in a processor's cache; a GPU wants more.
_PAIRS = 2**17
_PAIRS_ELSEWHERE = 2**24


@dataclass(frozen=True)
class Kernels:
    """Kernels of an infinitely wide network at initialisation, float64.

    Attributes:
        nngp: (n1, n2), covariance of the output w . phi / sqrt(N) over initialisations.
        ntk: (n1, n2), K = gamma^2 df/dtheta . df'/dtheta of one output, the same at every gamma0.
        error: largest relative error of a Gaussian expectation in a layer; 0 in closed form.
        phi: with ``per_layer=True``, L tensors (n1, n2): <phi(h^l) phi(h'^l)>.
        g: with ``per_layer=True``, L tensors (n1, n2): <g^l g'^l>, g^l the backward field. With
            Phi^0 = x.x' / D and G^(L+1) = 1, ntk = sum_(l=0)^L (w Phi^l + b [l < L]) G^(l+1).
    """

    nngp: Float[Tensor, "n1 n2"]
    ntk: Float[Tensor, "n1 n2"]
    error: float
    phi: tuple[Float[Tensor, "n1 n2"], ...] | None = None
    g: tuple[Float[Tensor, "n1 n2"], ...] | None = None


def kernels(
    x1: Array,
    x2: Array | None = None,
    *,
    depth: int,
    activation: str | Activation | Pointwise = "relu",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    normalised: bool | None = False,
    scale_input: bool = True,
    per_layer: bool = False,
    progress: Progress | None = None,
) -> Kernels:
    """NNGP and tangent kernel of an infinitely wide fully connected network.

    With the defaults and ``bias_variance=1`` for biases, the limit of `networks.MLP` in the
    mean-field or NTK parameterization (which normalises phi by default where ``normalised=None``
    says).

    Args:
        x1: (n1, ...) inputs, of torch or numpy; more than one axis a sample is flattened.
        x2: (n2, ...) other inputs; None: `x1`, at half the work.
        depth: number of hidden layers L.
        activation: a name, an `Activation` or an elementwise torch function. Linear, ReLU^q, erf
            and GELU are closed forms, the rest is a Hermite series whose `error` is returned.
        weight_variance: w, of every weight, the read-out's too.
        bias_variance: b, of the hidden layers' biases, which are trained. The read-out has none:
            one would add its variance to both kernels.
        normalised: c phi with c^2 E phi(g)^2 = 1; None: for ReLU^q with q > 1 and for depth >= 3.
        scale_input: the first layer is divided by sqrt(D).
        per_layer: return the kernels of each layer as well.
        progress: called with what is done and the total, in pairs of samples.

    Returns:
        Kernels in float64 on the inputs' device, differentiable in the inputs any number of times.
        ReLU's tangent kernel has a kink where two inputs are parallel: its derivative there is the
        mean over directions, and pairs of equal rows are exact in value only within `x1` alone
        (elsewhere to 1e-8, the root of rounding).

    Raises:
        ValueError: inputs without a feature axis or of different length or that are not finite, a
            depth below one, variances out of range, an unknown activation.

    Cost: O(n1 n2 (D + 20 depth)) in closed form, O(n1 n2 (D + k depth)) with k terms of a series:
    81 for tanh on inputs of unit variance. Memory: the results and blocks of 2^17 pairs; with
    gradients, all that autograd keeps, n1 n2 numbers for each operation.
    """
    checked = rule(depth, activation, weight_variance, bias_variance, normalised)
    first = _flat(x1, "x1")
    second = first if x2 is None or x2 is x1 else _flat(x2, "x2", first.device)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"x1 has {first.shape[1]} features a sample and x2 has {second.shape[1]}: give inputs "
            "of one network."
        )
    factor = weight_variance / (first.shape[1] if scale_input else 1)

    def covariance(rows: slice, columns: slice) -> Tensor:
        return factor * (first[rows] @ second[columns].mT) + bias_variance

    variances = [
        factor * inputs.square().sum(1) + bias_variance
        for inputs in ((first,) if second is first else (first, second))
    ]
    return _assembled(covariance, variances, checked, per_layer, progress)


def propagate(
    kernel: Array,
    first: Array | None = None,
    second: Array | None = None,
    *,
    depth: int,
    activation: str | Activation | Pointwise = "relu",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    normalised: bool | None = False,
    per_layer: bool = False,
    progress: Progress | None = None,
) -> Kernels:
    """The same from a given K^x = x.x' / D instead of inputs.

    Args:
        kernel: (n1, n2), K^x between two sets of inputs, or of one with itself.
        first, second: (n1,) and (n2,), its diagonal for each set, |x|^2 / D; None for both:
            `kernel` is symmetric and has them on its diagonal.
        depth, activation, weight_variance, bias_variance, normalised, per_layer, progress: see
            `kernels`.

    Raises:
        ValueError: as `kernels`; shapes that do not fit; a kernel that is of no inputs: not finite,
            not symmetric, or larger than its diagonals allow.
    """
    checked = rule(depth, activation, weight_variance, bias_variance, normalised)
    kernel = array(kernel, "kernel")
    if (first is None) != (second is None):
        raise ValueError("give the diagonals of both sets of inputs, or of none.")
    if first is None or second is None:
        if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
            raise ValueError(
                f"a kernel of shape {tuple(kernel.shape)} is not one of a set with itself: give "
                "the diagonals |x|^2 / D of both sets."
            )
        diagonals = [kernel.diagonal()]
        scale = float(kernel.detach().abs().max()) if len(kernel) else 0.0
        if not torch.allclose(kernel, kernel.mT, rtol=1e-6, atol=1e-6 * scale):
            raise ValueError("the kernel is not symmetric; give K^x = x.x' / D.")
    else:
        diagonals = [array(first, "first", kernel.device), array(second, "second", kernel.device)]
        if kernel.shape != (len(diagonals[0]), len(diagonals[1])):
            raise ValueError(
                f"the kernel is {tuple(kernel.shape)}, its diagonals have "
                f"{len(diagonals[0])} and {len(diagonals[1])} samples."
            )
    if any(bool((d < 0).any()) for d in diagonals):
        raise ValueError("a diagonal of the kernel is negative, |x|^2 / D never is: check it.")
    # By Cauchy and Schwarz; single precision may be off by its rounding.
    roots = [diagonal.detach().sqrt() for diagonal in diagonals]
    most = (1 + 1e-6) * roots[0][:, None] * roots[-1]
    if bool((kernel.detach().abs() > most + 1e-12 * most.max()).any()):
        raise ValueError(
            "the kernel has entries above the root of the product of its diagonals, which no "
            "inputs have: check them."
        )

    def covariance(rows: slice, columns: slice) -> Tensor:
        return weight_variance * kernel[rows, columns] + bias_variance

    variances = [weight_variance * diagonal + bias_variance for diagonal in diagonals]
    return _assembled(covariance, variances, checked, per_layer, progress)


def _flat(x: Array, name: str, device: torch.device | None = None) -> Float[Tensor, "n D"]:
    x = array(x, name, device)
    if x.ndim < 2 or not x.shape[0]:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}: give at least one sample along the first axis, "
            "and its features along the others."
        )
    return x.flatten(1)


def _assembled(
    covariance: Callable[[slice, slice], Tensor],
    variances: list[Tensor],
    rule: Rule,
    per_layer: bool,
    progress: Progress | None,
) -> Kernels:
    """All pairs, strip by strip; one set of variances: the upper triangle of strips, mirrored."""
    own = samples(torch.cat(variances), rule)
    n1, n2 = len(variances[0]), len(variances[-1])
    alone = len(variances) == 1
    first = [table[:, :n1] for table in own.tables]
    second = [table[:, -n2:] for table in own.tables]
    pairs = _PAIRS if variances[0].device.type == "cpu" else _PAIRS_ELSEWHERE
    rows_at_once = max(1, min(n1, pairs // n2))
    diagonal = _kept(own.own, rule, per_layer)

    strips: list[list[Tensor]] = []
    total = n1 * (n1 + 1) // 2 if alone else n1 * n2
    for start in range(0, n1, rows_at_once):
        stop = min(start + rows_at_once, n1)
        rows, columns = slice(start, stop), slice(start if alone else 0, n2)
        values = block(
            covariance(rows, columns),
            [table[:, rows] for table in first],
            [table[:, columns] for table in second],
            rule,
        )
        strip = _kept(values, rule, per_layer)
        if alone:
            # Equal inputs are an exact cosine of one, and no derivative of a kink.
            width = stop - start
            strip = [
                torch.cat((symmetric(v[:, :width], d[rows]), v[:, width:]), dim=1)
                for v, d in zip(strip, diagonal, strict=True)
            ]
        strips.append(strip)
        if progress is not None:
            left = n1 - stop
            progress(total - left * (left + 1) // 2 if alone else stop * n2, total)

    matrices = [
        _mirrored(list(matrix), rows_at_once) if alone else torch.cat(matrix)
        for matrix in zip(*strips, strict=True)
    ]
    layers = (tuple(matrices[2 : 2 + rule.depth]), tuple(matrices[2 + rule.depth :]))
    phi, g = layers if per_layer else (None, None)
    return Kernels(matrices[0], matrices[1], own.error, phi, g)


def _kept(values: Block, rule: Rule, per_layer: bool) -> list[Tensor]:
    """What is returned of a block: NNGP, NTK, and if asked for Phi^l and then G^l of each layer."""
    kept = [values.nngp, values.ntk]
    if per_layer:
        kept += [*values.phi, *values.backward_kernels(rule.weight)]
    return [tensor.expand_as(values.ntk) for tensor in kept]


def _mirrored(strips: list[Tensor], rows: int) -> Tensor:
    """The whole symmetric matrix from strips that begin at their diagonal block."""
    whole = []
    for number, strip in enumerate(strips):
        height = len(strip)
        left = [
            above[:, (number - k) * rows : (number - k) * rows + height].mT
            for k, above in enumerate(strips[:number])
        ]
        whole.append(torch.cat((*left, strip), dim=1))
    return torch.cat(whole)
