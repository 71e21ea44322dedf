"""Partially trained networks, slow and obvious: weights, autograd and loops."""

import math

import torch
from torch import Tensor


def outputs(
    weights: Tensor, features: Tensor, readout: Tensor, phi, power: float, fan_in_power: float
) -> Tensor:
    """f(x) = m2^-a sum_i c_i phi(h_i), h_i = m1^-b sum_j W_ij u_j, sample by sample."""
    rows = []
    for u in features:
        h = torch.stack([(w * u).sum() for w in weights]) / len(u) ** fan_in_power
        rows.append((readout * phi(h)).sum() / len(readout) ** power)
    return torch.stack(rows)


def descend(
    weights: Tensor,
    features: Tensor,
    readout: Tensor,
    targets: Tensor,
    phi,
    power: float,
    fan_in_power: float,
    rate: float,
    steps: int,
) -> Tensor:
    """W after gradient descent on 1/(2n) sum (f - y)^2, `rate` times the table's multiplier."""
    weights = weights.clone().requires_grad_()
    for _ in range(steps):
        f = outputs(weights, features, readout, phi, power, fan_in_power)
        loss = (f - targets).square().sum() / (2 * len(targets))
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - rate * gradient).detach().requires_grad_()
    return weights.detach()


def function_space_step(
    hidden: Tensor, gram: Tensor, targets: Tensor, c: Tensor, phi, dphi, dt: float, twin: bool
) -> Tensor:
    """R8 of the reference recursions: one Euler step of H, (n, m)."""
    n, m = hidden.shape
    f = (phi(hidden) * c).sum(1) * (m**-0.5 if twin else 1 / m)
    e = f - targets
    multiplier = m**-0.5 if twin else 1.0
    return hidden - dt / n * multiplier * gram @ (e[:, None] * dphi(hidden)) * c


def tangent_kernel(hidden: Tensor, gram: Tensor, c: Tensor, dphi) -> Tensor:
    """(A o G)_ab entry by entry."""
    n, m = hidden.shape
    kernel = torch.zeros(n, n, dtype=hidden.dtype)
    for a in range(n):
        for b in range(n):
            total = sum(c[i] ** 2 * dphi(hidden[a, i]) * dphi(hidden[b, i]) for i in range(m))
            kernel[a, b] = total / m * gram[a, b]
    return kernel


def least_slope_by_search(dphi, centre: float, radius: float, points: int = 4001) -> float:
    """Least |phi'| on a grid over the interval."""
    grid = torch.linspace(centre - radius, centre + radius, points, dtype=torch.float64)
    return float(dphi(grid).abs().min())


def mean_slope_product(dphi, variance: Tensor, points: int = 801) -> float:
    """E phi'(u) phi'(v) for (u, v) ~ N(0, variance), by a midpoint rule on independent normals."""
    root = torch.linalg.cholesky(variance)
    grid = torch.linspace(-8, 8, points, dtype=torch.float64)
    weight = torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    u = root[0, 0] * grid[:, None]
    v = root[1, 0] * grid[:, None] + root[1, 1] * grid[None]
    return float((weight[:, None] * weight[None] * dphi(u) * dphi(v)).sum())
