"""Kernel predictors and their attacks, slow and obvious: float64, one sample or entry at a time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def ntk_fc(
    x: Tensor, y: Tensor, depth: int, w2: float = 2.0, b2: float = 0.01, readout: float = 0.01
) -> Tensor:
    """Tangent kernel of `depth` hidden ReLU layers; `readout`: variance of its bias."""
    d = x.shape[1]
    k = w2 * x @ y.T / d + b2
    kx, ky = w2 * (x * x).sum(1) / d + b2, w2 * (y * y).sum(1) / d + b2
    theta = k
    for layer in range(depth):
        bias = b2 if layer + 1 < depth else readout
        n = torch.sqrt(kx[:, None] * ky[None])
        c = (k / n).clamp(-1 + 1e-15, 1 - 1e-15)
        angle = torch.acos(c)
        if x is y:  # equal inputs, no angle
            angle = angle - torch.diag(angle.diagonal())
        theta = w2 * theta * (math.pi - angle) / (2 * math.pi)
        k = w2 * n * (torch.sin(angle) + (math.pi - angle) * c) / (2 * math.pi) + bias
        theta = theta + k
        kx, ky = w2 * kx / 2 + b2, w2 * ky / 2 + b2
    return theta


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(n C, parameters), sample-major, one output of one sample at a time; with its graph."""
    rows = []
    for sample in x:
        for output in model(sample[None]).reshape(-1):
            grads = torch.autograd.grad(output, list(model.parameters()), create_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def coefficients(gram: Tensor, y: Tensor, time: float, samples: int) -> Tensor:
    """alpha of df/dt = K (y - f) / P from zero, by the matrix exponential."""
    if math.isinf(time):
        return torch.linalg.solve(gram, y)
    left = torch.linalg.matrix_exp(-gram * (time / samples))
    return torch.linalg.solve(gram, y - left @ y)


def feature_coefficients(gram: Tensor, y: Tensor, index: int) -> Tensor:
    """alpha of f_i: v_i (v_i . y) / lambda_i, eigenvalues of K from the largest."""
    values, vectors = torch.linalg.eigh(gram)
    v, value = vectors[:, -1 - index], values[-1 - index]
    return v[:, None] * (v @ y)[None] / value if y.ndim == 2 else v * (v @ y) / value


def attacked(f: Callable[[Tensor], Tensor], x: Tensor, y: float, eps: float, norm: str) -> Tensor:
    """One FGSM step of one sample against -y f, clipped to [0, 1]."""
    moved = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(-y * f(moved[None]).sum(), moved)
    step = g.sign() if norm == "linf" else g / g.norm()
    return (x + eps * step).clamp(0, 1)
