"""Infinite-width tangent kernels of ReLU^q networks on the circle, where they are circulant."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import whole
from ntkscale.theory.infinite_width.recursion import block, rule, samples


def circle_ntk(
    points: int,
    *,
    depth: int = 1,
    power: int = 1,
    bias: bool = False,
    scale_input: bool = True,
    normalised: bool | None = None,
) -> Float[Tensor, " points"]:
    """First row of the circulant kernel on `points` equispaced points of the unit circle.

    Args:
        points: P; the inputs are (cos theta, sin theta) at theta = 2 pi j / P.
        depth: number of hidden layers.
        power: q, 1 to 9.
        bias: hidden layers have N(0, 1) biases, which are trained.
        scale_input: the first layer is divided by sqrt(D).
        normalised: c phi with c^2 E phi(g)^2 = 1; None: for q > 1 and for depth >= 3.

    Returns:
        K(0, theta_j), float64.

    Raises:
        ValueError: fewer than one point, a depth below one, or a power outside 1 to 9.
    """
    points, power = whole(points, "points"), whole(power, "power")
    if power not in range(1, 10):
        raise ValueError(f"ReLU^q takes q from 1 to 9, got q = {power}.")
    shift = 1.0 if bias else 0.0
    scale = 1 / 2 if scale_input else 1.0
    checked = rule(depth, f"relu{power}", 1.0, shift, normalised)
    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    own = samples(torch.tensor([scale + shift], dtype=torch.float64), checked)
    row = block(scale * theta.cos()[None] + shift, own.tables, own.tables, checked).ntk[0]
    return torch.cat((own.own.ntk, row[1:]))


def circle_eigenvalues(
    points: int,
    *,
    depth: int = 1,
    power: int = 1,
    bias: bool = False,
    scale_input: bool = True,
    normalised: bool | None = None,
) -> Float[Tensor, " modes"]:
    """Eigenvalues of K / P on the circle by Fourier mode k = 0 ... P // 2, float64.

    Mode k of the residual decays as exp(-lambda_k t) in lazy flow; every k but 0 and P / 2 is a
    pair (cos, sin). Arguments and errors: `circle_ntk`.
    """
    row = circle_ntk(
        points,
        depth=depth,
        power=power,
        bias=bias,
        scale_input=scale_input,
        normalised=normalised,
    )
    return torch.fft.rfft(row).real / len(row)
