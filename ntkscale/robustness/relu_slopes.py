"""ReLU's infinite-width tangent kernel with its derivatives, in closed form for any depth.

Theta(x, x') depends on s = x.x' / D, q = |x|^2 / D and r = |x'|^2 / D. With a and b the variances
of a layer's two preactivations, S their covariance, g = sqrt(a b), c = S / g, t = arccos c,

    Phi  = g (sin t + (pi - t) c) / (2 pi),   dPhi/dS  = Phi',
                                              dPhi/da  = g sin t / (4 pi a),
    Phi' = (pi - t) / (2 pi),                 dPhi'/dS = 1 / (2 pi g sin t),
                                              dPhi'/da = -S / (4 pi a g sin t),

and the recursion S <- w Phi + b, Theta <- S + w Phi' Theta carries d/ds and d/dq along.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Slopes:
    """A block of the kernel and its derivatives.

    Attributes:
        value: Theta, (n1, n2).
        by_product: dTheta / ds at fixed q and r.
        by_norm: dTheta / dq at fixed s and r.
    """

    value: Float[Tensor, "n1 n2"]
    by_product: Float[Tensor, "n1 n2"]
    by_norm: Float[Tensor, "n1 n2"]


def relu_slopes(
    product: Float[Tensor, "n1 n2"],
    first: Float[Tensor, "n1"],
    second: Float[Tensor, "n2"],
    *,
    depth: int,
    weight: float,
    bias: float,
    scale: float = 1.0,
    slopes: bool = True,
) -> Slopes:
    """Theta and its derivatives from s, q and r, in their dtype.

    Where two inputs are parallel to rounding, the kernel's kink has the mean derivative over
    directions, and its value is that of equal directions.

    Args:
        product: s.
        first, second: q and r.
        depth: number of hidden layers L.
        weight, bias: variances; the read-out has a bias as well.
        scale: c^2 if the nonlinearity is c ReLU.
        slopes: False leaves the derivatives undefined and saves their cost.

    Cost: some 12 elementwise operations a layer, 25 with derivatives.
    """
    parallel = 1 - 32 * torch.finfo(product.dtype).eps
    a, b = (weight * variance + bias for variance in (first[:, None], second[None]))
    da, later = weight, weight * scale  # da / dq; the weights behind a nonlinearity
    covariance = (weight * product).add_(bias)
    by_s, by_q = torch.full_like(a, weight), torch.zeros_like(a)
    theta, theta_s, theta_q = covariance, by_s, by_q
    for _ in range(depth):
        # An input of no variance has no angle: both expectations are zero there, as phi'(0) is.
        root_a, root_b = a.sqrt(), b.sqrt()
        cosine = covariance * _inverse(root_a)
        cosine.mul_(_inverse(root_b)).clamp_(-1, 1)
        cosine.masked_fill_(cosine > parallel, 1)
        sine = torch.addcmul(torch.ones_like(cosine), cosine, cosine, value=-1)
        sine.clamp_min_(0).sqrt_()
        dphi = cosine.acos().neg_().add_(math.pi).mul_(1 / (2 * math.pi))
        if not bool((a > 0).all()) or not bool((b > 0).all()):
            dphi.mul_(a > 0).mul_(b > 0)
            sine.mul_(a > 0).mul_(b > 0)
        phi = torch.addcmul(dphi * cosine, sine, sine.new_tensor(1 / (2 * math.pi)))
        phi.mul_(root_a).mul_(root_b)
        if slopes:
            ratio = da * _inverse(a)
            kappa = _inverse(sine).mul_(_inverse(root_a) / (2 * math.pi)).mul_(_inverse(root_b))
            phi_s = dphi * by_s
            phi_q = torch.addcmul(dphi * by_q, sine * (root_a * ratio / (4 * math.pi)), root_b)
            dphi_s = kappa * by_s
            dphi_q = torch.addcmul(by_q, covariance, ratio, value=-0.5).mul(kappa)
            theta_s = phi_s.addcmul(dphi_s, theta).addcmul_(dphi, theta_s).mul_(later)
            theta_q = phi_q.addcmul(dphi_q, theta).addcmul_(dphi, theta_q).mul_(later)
            by_s, by_q = phi_s.mul_(later), phi_q.mul_(later)
            da = later * da / 2
        covariance = phi.mul_(later).add_(bias)
        theta = torch.addcmul(covariance, dphi, theta, value=later)
        a, b = (later * variance / 2 + bias for variance in (a, b))
    return Slopes(theta, theta_s, theta_q)


def _inverse(values: Tensor) -> Tensor:
    """1 / values, 0 where they are 0."""
    return values.reciprocal().masked_fill_(values == 0, 0)
