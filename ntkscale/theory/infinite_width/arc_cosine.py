"""Order-q arc-cosine kernels (Cho & Saul 2009) as functions of the cosine, with their derivatives.

For (u, v) Gaussian with variances a, b and E uv = rho sqrt(a b), E u_+^q v_+^q =
(a b)^(q/2) J_q(rho) / (2 pi). With t = arccos rho,

    J_0 = pi - t,   J_1 = sin t + (pi - t) cos t,
    J_q = (2q - 1) rho J_(q-1) + (q - 1)^2 (1 - rho^2) J_(q-2),   dJ_q/drho = q^2 J_(q-1).

The last is Price's theorem. Autograd uses it instead of the chain rule through arccos, whose
derivative is infinite at rho = 1: only dJ_0/drho really is, and counts as zero there, the mean over
directions of a kink.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def arc_cosine(
    cosine: Float[Tensor, "..."], power: int
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """J_q and dJ_q/drho at rho = `cosine`; values outside [-1, 1] by rounding count as the end.

    Differentiable any number of times, by autograd and by torch.func.

    Raises:
        ValueError: for a power below zero.
    """
    if power < 0:
        raise ValueError(f"the power of an arc-cosine kernel is at least 0, got {power}.")
    return _ArcCosine.apply(cosine, power)  # pyright: ignore[reportReturnType]


class _ArcCosine(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(cosine: Tensor, power: int) -> tuple[Tensor, Tensor]:
        rho = cosine.clamp(-1, 1)
        rest = math.pi - rho.acos()
        if power == 0:
            return rest, _inverse_sine(cosine)
        square = (1 - rho) * (1 + rho)
        lower, value = rest, square.sqrt() + rest * rho
        for q in range(2, power + 1):
            lower, value = value, (2 * q - 1) * rho * value + (q - 1) ** 2 * square * lower
        return value, power**2 * lower

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        cosine, ctx.power = inputs
        ctx.save_for_backward(cosine)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (cosine,) = ctx.saved_tensors
        by_value, by_slope = gradients
        if ctx.power == 0:
            slope = _inverse_sine(cosine)
            curvature = cosine * slope**3
        else:
            lower, lower_slope = arc_cosine(cosine, ctx.power - 1)
            slope, curvature = ctx.power**2 * lower, ctx.power**2 * lower_slope
        return by_value * slope + by_slope * curvature, None


def _inverse_sine(cosine: Tensor) -> Tensor:
    """1 / sqrt(1 - rho^2), zero at and beyond the ends; plain operations, so differentiable."""
    inside = cosine.abs() < 1
    square = torch.where(inside, (1 - cosine) * (1 + cosine), 1.0)
    return square.rsqrt() * inside
