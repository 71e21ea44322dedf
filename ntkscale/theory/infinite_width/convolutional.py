"""Kernels of infinitely wide convolutional networks.

A pair of images has covariances S(p, p') between pixels p of one and p' of the other. A 3 x 3
convolution with padding 1 averages them over common shifts,

    (A S)(p, p') = 1/9 sum_d S(p + d, p' + d),   zero outside the image,

pooling over windows of both pixels (Arora et al. 2019, Novak et al. 2019). With
S_0 = x(p) . x'(p') / C,

    S_1 = w A S_0 + b,           T_1 = S_1
    S_(l+1) = w A Phi(S_l) + b,  T_(l+1) = S_(l+1) + w A [Phi'(S_l) T_l]
    nngp = w R Phi(S_L),         ntk = nngp + w R [Phi'(S_L) T_L]

where R averages over all p, p' (global pooling) or over p = p' (flattened read-out).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.arguments import Array, array
from ntkscale.theory.infinite_width.fully_connected import Kernels, Progress
from ntkscale.theory.infinite_width.recursion import Rule, rule

Pixels = Float[Tensor, "n H W H W"]

# Pixel pairs computed at once, of 8 bytes in some ten buffers.
_PIXEL_PAIRS = 2**20
_PIXEL_PAIRS_ELSEWHERE = 2**26


def cnn_kernels(
    x1: Array,
    x2: Array | None = None,
    *,
    depth: int,
    activation: str | Activation | Pointwise = "relu",
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    normalised: bool | None = False,
    halve: bool = False,
    readout: Literal["global", "flatten"] = "global",
    progress: Progress | None = None,
) -> Kernels:
    """NNGP and tangent kernel of an infinitely wide CNN: 3 x 3 convolutions, stride 1, padding 1.

    ``depth=2, halve=True, readout="flatten"`` is the limit of `networks.CNN` (which normalises phi
    by default where ``normalised=None`` says). Convolutions are divided by sqrt(9 C_in).

    Args:
        x1: (n1, C, H, W) images, of torch or numpy.
        x2: (n2, C, H, W) other images; None: `x1`, at half the work.
        depth: number of convolutions L, each followed by phi.
        activation, weight_variance, bias_variance, normalised: as in `kernels`; biases are one a
            channel.
        halve: 2 x 2 average pooling after each phi; an odd row or column at the end is dropped.
        readout: ``"global"`` averages over pixels before the linear read-out, ``"flatten"`` has
            weights for every pixel.
        progress: called with what is done and the total, in pairs of images.

    Returns:
        Kernels in float64 on the images' device, differentiable in the images.

    Raises:
        ValueError: images that are not (n, C, H, W), of different shape, not finite or too small
            to be halved; as `kernels`; an unknown read-out.

    Cost: (H W)^2 numbers a pair in some ten buffers, O((H W)^2 (C + 30 depth)) operations a pair.
    Blocks hold 2^20 pixel pairs, but at least one pair of images.
    """
    checked = rule(depth, activation, weight_variance, bias_variance, normalised)
    if readout not in ("global", "flatten"):
        raise ValueError(f"unknown readout {readout!r}: choose global or flatten.")
    first = _images(x1, "x1")
    alone = x2 is None or x2 is x1
    second = first if x2 is None or x2 is x1 else _images(x2, "x2", first.device)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"x1 holds images {tuple(first.shape[1:])} and x2 {tuple(second.shape[1:])}: give "
            "images of one network."
        )
    if halve and min(first.shape[2:]) < 2**checked.depth:
        raise ValueError(
            f"{checked.depth} halvings need images of at least {2**checked.depth} x "
            f"{2**checked.depth}, got {first.shape[2]} x {first.shape[3]}."
        )
    run = partial(_recursion, rule=checked, halve=halve, readout=readout)

    n1, n2 = len(first), len(second)
    images = first if alone else torch.cat((first, second))
    cross = torch.triu_indices(n1, n1, 1) if alone else _all_pairs(n1, n2)
    total, done = len(images) + cross.shape[1], 0
    pixels = first.shape[2] * first.shape[3]
    most = _PIXEL_PAIRS if first.device.type == "cpu" else _PIXEL_PAIRS_ELSEWHERE
    at_once = max(1, most // pixels**2)

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    # Each image with itself first: a pair needs the variances of both, layer by layer.
    own: list[tuple[Tensor, Tensor]] = []
    variances: list[list[Tensor]] = []
    for some in images.split(at_once):
        layers: list[Tensor] = []
        own.append(run(_products(some, some), expected=_itself(checked, layers)))
        variances.append(layers)
        tell(len(some))
    tables, errors = zip(
        *(checked.expectations.table(torch.cat(layer)) for layer in zip(*variances, strict=True)),
        strict=True,
    )

    values: list[tuple[Tensor, Tensor]] = []
    for pairs in cross.to(first.device).split(at_once, dim=1):
        i, j = pairs
        expected = [
            partial(
                checked.expectations.pair,
                first=table[:, i][..., None, None],
                second=table[:, j if alone else n1 + j][:, :, None, None],
            )
            for table in tables
        ]
        values.append(run(_products(first[i], second[j]), expected=expected))
        tell(len(i))

    matrices = []
    for kind in range(2):
        matrix = first.new_zeros(n1, n2)
        if values:
            entries = torch.cat([value[kind] for value in values])
            matrix = matrix.index_put(tuple(cross.to(first.device)), entries)
        if alone:
            matrix = matrix + matrix.mT + torch.diag(torch.cat([value[kind] for value in own]))
        matrices.append(matrix)
    return Kernels(matrices[0], matrices[1], max(errors))


def _images(x: Array, name: str, device: torch.device | None = None) -> Float[Tensor, "n C H W"]:
    x = array(x, name, device)
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"{name} has shape {tuple(x.shape)}: give images (n, C, H, W).")
    return x


def _all_pairs(n1: int, n2: int) -> Int[Tensor, "2 pairs"]:
    return torch.cartesian_prod(torch.arange(n1), torch.arange(n2)).T.reshape(2, -1)


def _products(first: Tensor, second: Tensor) -> Pixels:
    """S_0 of image i of the one with image i of the other."""
    return torch.einsum("ncab,ncde->nabde", first, second) / first.shape[1]


Layer = Callable[[Pixels], tuple[Pixels, Pixels]]


def _itself(rule: Rule, layers: list[Tensor]) -> list[Layer]:
    """The expectations of an image with itself, which also note each layer's variances."""

    def expected(covariance: Pixels) -> tuple[Pixels, Pixels]:
        n, height, width = covariance.shape[:3]
        pixels = height * width
        square = covariance.reshape(n, pixels, pixels)
        variance = square.diagonal(dim1=1, dim2=2).reshape(n, height, width)
        layers.append(variance)
        table, _ = rule.expectations.table(variance)
        pair = rule.expectations.pair(covariance, table[..., None, None], table[:, :, None, None])
        # A pixel with itself is an exact cosine of one, and no derivative of a kink.
        same = torch.eye(pixels, dtype=torch.bool, device=covariance.device)
        same = same.reshape(height, width, height, width)
        single = (value[..., None, None] for value in rule.expectations.single(variance))
        value, slope = (torch.where(same, s, p) for s, p in zip(single, pair, strict=True))
        return value, slope

    return [expected] * rule.depth


def _recursion(
    products: Pixels, *, expected: list[Layer], rule: Rule, halve: bool, readout: str
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """NNGP and NTK of pairs of images from S_0."""
    value, tangent = products, torch.zeros_like(products)
    for layer in expected:
        covariance = rule.weight * _convolved(value) + rule.bias
        tangent = covariance + rule.weight * _convolved(tangent)
        value, slope = (rule.scale * moment for moment in layer(covariance))
        tangent = slope * tangent
        if halve:
            value, tangent = _halved(value), _halved(tangent)
    nngp, later = (rule.weight * _read(part, readout) for part in (value, tangent))
    return nngp, nngp + later


def _convolved(values: Pixels) -> Pixels:
    """Mean over the nine common shifts, one direction after the other."""
    for one, other in ((1, 3), (2, 4)):
        size = values.shape[one]
        inner = values.narrow(one, 1, size - 1).narrow(other, 1, size - 1)
        outer = values.narrow(one, 0, size - 1).narrow(other, 0, size - 1)
        total = values.clone()
        total.narrow(one, 0, size - 1).narrow(other, 0, size - 1).add_(inner)
        total.narrow(one, 1, size - 1).narrow(other, 1, size - 1).add_(outer)
        values = total
    return values / 9


def _halved(values: Pixels) -> Pixels:
    n, height, width = values.shape[:3]
    h, w = height // 2, width // 2
    even = values[:, : 2 * h, : 2 * w, : 2 * h, : 2 * w]
    return even.reshape(n, h, 2, w, 2, h, 2, w, 2).mean((2, 4, 6, 8))


def _read(values: Pixels, readout: str) -> Float[Tensor, "n"]:
    if readout == "global":
        return values.mean((1, 2, 3, 4))
    n, height, width = values.shape[:3]
    square = values.reshape(n, height * width, height * width)
    return square.diagonal(dim1=1, dim2=2).mean(1)
