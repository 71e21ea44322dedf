"""Infinite-width kernels pair by pair: two-dimensional quadrature layer after layer, in float64."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def expectation(function: Function, covariance: Tensor, *, nodes: int = 400) -> float:
    """E f(u) f(v) for (u, v) with that 2 x 2 covariance.

    In polar coordinates, by Gauss-Legendre on the sectors between the lines u = 0 and v = 0, so
    that kinks at zero lie on their edges.
    """
    a, b = covariance.diagonal().sqrt().tolist()
    rho = float(covariance[0, 1]) / (a * b)
    angle = math.acos(max(-1.0, min(1.0, rho)))
    # u = a r cos(t), v = b r cos(t - angle)
    edges = sorted({(k * math.pi / 2 + s) % (2 * math.pi) for k in (1, 3) for s in (0.0, angle)})
    edges = [edges[-1] - 2 * math.pi, *edges]
    unit, weight = (torch.from_numpy(part) for part in legendre(nodes))
    radius = 6.5 * (unit + 1)  # 0 to 13
    radial = 6.5 * weight * radius * torch.exp(-radius.square() / 2) / (2 * math.pi)
    total = 0.0
    for low, high in pairwise(edges):
        t = low + (high - low) * (unit + 1) / 2
        u = a * torch.outer(t.cos(), radius)
        v = b * torch.outer((t - angle).cos(), radius)
        values = function(u) * function(v)
        total += float((high - low) / 2 * weight @ values @ radial)
    return total


def legendre(nodes: int):
    """Gauss-Legendre nodes and weights on [-1, 1]."""
    import numpy as np

    return np.polynomial.legendre.leggauss(nodes)


def kernel(
    x: Tensor,
    y: Tensor,
    phi: Function,
    slope: Function,
    *,
    depth: int,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> tuple[float, float]:
    """NNGP and NTK of one pair of inputs."""
    pair = torch.stack((x, y)).double()
    covariance = weight_variance * pair @ pair.T / len(x) + bias_variance
    tangent = float(covariance[0, 1])
    for layer in range(1, depth + 1):
        values = torch.zeros(2, 2, dtype=torch.float64)
        for i in range(2):
            for j in range(2):
                block = covariance[[i, j]][:, [i, j]]
                values[i, j] = expectation(phi, block)
        derivative = weight_variance * expectation(slope, covariance)
        covariance = weight_variance * values + (bias_variance if layer < depth else 0.0)
        tangent = float(covariance[0, 1]) + derivative * tangent
    return float(covariance[0, 1]), tangent
