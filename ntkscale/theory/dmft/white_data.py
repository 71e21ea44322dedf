"""One hidden linear layer on white data, K^x = I, in closed form.

Only the direction of the targets moves, and in it three numbers by one angle. With a = gamma0 |y|
and time per sample tau = t / P the output along y is f = sinh(theta) / gamma0,

    d theta / d tau = 2 (a - sinh theta),
    e^theta = (u R - 1 / u) / (1 + R),  u = a + sqrt(1 + a^2),
    R = exp(2 sqrt(1 + a^2) tau) (1 + 1 / u) / (u - 1),

and H(t, s) = G(t, s) = cosh((theta(t) + theta(s)) / 2) in that direction. The paper prints the loss
(arXiv 2205.09653, section on white data) without the 2; with the tangent kernel 2 I at the start
it has to be there, and wide networks have it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import Array, array, number
from ntkscale.theory.dmft.solution import Solution


def white_data(y: Array, *, gamma0: float, times: Array) -> Solution:
    """Gradient flow of a two-layer linear network on P orthonormal inputs (K^x = I).

    Args:
        y: (P,) targets.
        gamma0: feature learning; 0 is lazy.
        times: T flow times.

    Raises:
        ValueError: y is not (P,), times are not (T,) or not all at least 0, values are not finite,
            or gamma0 is negative.
    """
    targets = array(y, "y").detach()
    times = array(times, "times", targets.device).detach()
    if targets.ndim != 1 or not len(targets):
        raise ValueError(f"y must be (P,), got shape {tuple(targets.shape)}.")
    if times.ndim != 1 or not len(times) or bool((times < 0).any()):
        raise ValueError(
            f"times must be a list (T,) of flow times, none below 0, got shape "
            f"{tuple(times.shape)}{f' from {float(times.min()):g}' if times.numel() else ''}."
        )
    if not 0 <= number(gamma0) < math.inf:
        raise ValueError(f"gamma0 must be zero (lazy) or positive and finite, got {gamma0!r}.")
    gamma0 = float(gamma0)
    count, norm = len(targets), float(targets.norm())
    unit = targets / norm if norm else targets
    theta, along = _learn(norm, gamma0, times / count)
    outputs = along[:, None] * unit
    grown = torch.cosh((theta[:, None] + theta) / 2)
    eye = torch.eye(count, dtype=torch.float64, device=targets.device)
    direction = torch.outer(unit, unit)
    phi = eye[None, :, None] + (grown - 1)[:, None, :, None] * direction[:, None]
    now = grown.diagonal()[:, None, None]
    mse = (targets - outputs).square().mean(1)
    shape = (len(times), count, len(times), count)
    return Solution(
        times=times,
        loss=mse / 2,
        mse=mse,
        test_mse=None,
        outputs=outputs,
        num_train=count,
        phi=(phi,),
        g=(grown[:, None, :, None].expand(shape),),
        ntk=eye * (1 + now) + (now - 1) * direction,
        forward_responses=(),
        backward_responses=(),
        gamma0=gamma0,
        standard_error={
            "mse": torch.zeros_like(times),
            "phi": times.new_zeros(1),
            "g": times.new_zeros(1),
            "phi_at": times.new_zeros(1, len(times)),
            "g_at": times.new_zeros(1, len(times)),
        },
        linear=True,
    )


def _learn(
    norm: float, gamma0: float, tau: Float[Tensor, "T"]
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """theta and the output along y."""
    a = gamma0 * norm
    if a < 1e-7:  # the next order is a^2
        along = -norm * torch.expm1(-2 * tau)
        return gamma0 * along, along
    root = math.sqrt(1 + a**2)
    u = a + root
    # In x = 1 / (1 + R), which is bounded: e^theta - 1 = (u - 1) - (u + 1 / u) x, from x(0) =
    # (u - 1) / (u + 1 / u), both without cancellation as u - 1 = a + a^2 / (1 + root).
    less = a + a**2 / (1 + root)
    start = less / (u + 1 / u)
    decay = torch.exp(-2 * root * tau)
    x = start * decay / (1 - start + start * decay)
    theta = torch.log1p(less * (1 - x / start))
    return theta, torch.sinh(theta) / gamma0
