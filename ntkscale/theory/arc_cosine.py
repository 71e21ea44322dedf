"""Infinite-width tangent kernels of fully connected ReLU^q networks, in closed form.

For (u, v) Gaussian with variances s_u, s_v at an angle a, cos a = E uv / sqrt(s_u s_v),
E u_+^q v_+^q = (s_u s_v)^(q/2) J_q(a) / (2 pi) (Cho & Saul 2009, order-q arc-cosine kernels). With
Phi and Phi' the expectations of phi phi and phi' phi', and B = 1 with biases, 0 without,

    S_1 = x.x' / D + B,  T_1 = S_1;   S_(l+1) = Phi(S_l) + B,  T_(l+1) = S_(l+1) + Phi'(S_l) T_l;
    K = Phi(S_L) + Phi'(S_L) T_L:

the limit of gamma^2 df/dtheta . df'/dtheta for N(0, 1) weights and biases in the mean-field or NTK
parameterization, the same at every gamma0.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def arc_cosine(angle: Float[Tensor, "..."], power: int) -> Float[Tensor, "..."]:
    """J_q(a) for q = `power` in 0 to 3 and a in [0, pi].

    Raises:
        ValueError: for another power.
    """
    sin, cos, rest = angle.sin(), angle.cos(), math.pi - angle
    if power == 0:
        return rest
    if power == 1:
        return sin + rest * cos
    if power == 2:
        return 3 * sin * cos + rest * (1 + 2 * cos**2)
    if power == 3:
        return 15 * sin - 11 * sin**3 + rest * (9 * cos + 6 * cos**3)
    raise ValueError(f"closed forms are known here for ReLU^q with q = 1, 2 or 3, got q = {power}.")


def relu_ntk(
    x1: Float[Tensor, "n1 D"],
    x2: Float[Tensor, "n2 D"] | None = None,
    *,
    depth: int = 1,
    power: int = 1,
    bias: bool = False,
    scale_input: bool = True,
    normalised: bool | None = None,
) -> Float[Tensor, "n1 n2"]:
    """Infinite-width tangent kernel of a ReLU^q network with `depth` hidden layers.

    Args:
        x1: inputs, not zero unless there are biases.
        x2: other inputs; None: `x1`.
        depth: number of hidden layers.
        power: q, 1 to 3.
        bias: hidden layers have N(0, 1) biases, which are trained.
        scale_input: the first layer is divided by sqrt(D).
        normalised: c phi with c^2 E phi(g)^2 = 1; None: for q > 1 and for depth >= 3.

    Returns:
        The kernel of one output, in the inputs' dtype; cost O(n1 n2 (D + depth)).

    Raises:
        ValueError: for a power without closed form, a depth below one, or an input that is zero
            where there are no biases.
    """
    divisor = x1.shape[1] if scale_input else 1
    shift = 1.0 if bias else 0.0
    other = x1 if x2 is None else x2
    covariance = x1 @ other.mT / divisor + shift
    first = x1.square().sum(dim=1) / divisor + shift
    second = other.square().sum(dim=1) / divisor + shift
    if min(first.min(), second.min()) <= 0:
        raise ValueError("an input is zero and the network has no biases: drop it, or add biases.")
    if x2 is None:
        # Exactly one cosine on the diagonal, where the kernel has its kink.
        covariance = covariance.diagonal_scatter(first)
    return _recursion(
        covariance,
        first[:, None],
        second[None, :],
        depth=depth,
        power=power,
        shift=shift,
        normalised=normalised,
    )


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
        depth, power, bias, scale_input, normalised: as in `relu_ntk`.

    Returns:
        K(0, theta_j), float64.

    Raises:
        ValueError: as `relu_ntk`, and for fewer than one point.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}.")
    divisor = 2 if scale_input else 1
    shift = 1.0 if bias else 0.0
    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    variance = torch.tensor(1 / divisor + shift, dtype=torch.float64)
    return _recursion(
        theta.cos() / divisor + shift,
        variance,
        variance,
        depth=depth,
        power=power,
        shift=shift,
        normalised=normalised,
    )


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
    return torch.fft.rfft(row).real / points


def _recursion(
    covariance: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    depth: int,
    power: int,
    shift: float,
    normalised: bool | None,
) -> Tensor:
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}.")
    if power not in (1, 2, 3):
        raise ValueError(
            f"closed forms are known here for ReLU^q with q = 1, 2 or 3, got q = {power}."
        )
    if normalised is None:
        normalised = power > 1 or depth >= 3
    at_zero = math.prod(range(1, 2 * power, 2)) / 2  # E relu(g)^(2q) = J_q(0) / (2 pi)
    constant = (1 / at_zero if normalised else 1.0) / (2 * math.pi)

    tangent = covariance
    for layer in range(1, depth + 1):
        product = first * second
        angle = (covariance / product.sqrt()).clamp(-1, 1).acos()
        slope = constant * power**2 * product ** ((power - 1) / 2) * arc_cosine(angle, power - 1)
        covariance = constant * product ** (power / 2) * arc_cosine(angle, power)
        top = layer == depth  # the read-out has no bias
        covariance = covariance if top else covariance + shift
        tangent = covariance + slope * tangent
        first, second = (
            2 * math.pi * constant * at_zero * variance**power + (0.0 if top else shift)
            for variance in (first, second)
        )
    return tangent
