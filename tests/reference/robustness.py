"""Attacks, slow and obvious: one sample at a time, float64, every formula as it is printed."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Ball = tuple[float, str, float, float]
"""eps, norm, low, high."""


def margin(row: list[Tensor], label: int) -> Tensor:
    if len(row) == 1:
        return -(2 * label - 1) * row[0]
    return max(row[j] for j in range(len(row)) if j != label) - row[label]


def cross_entropy(row: list[Tensor], label: int) -> Tensor:
    if len(row) == 1:
        return torch.log(1 + torch.exp(-(2 * label - 1) * row[0]))
    return torch.stack([z.exp() for z in row]).sum().log() - row[label]


def dlr(row: list[Tensor], label: int) -> Tensor:
    """Croce & Hein 2020, eq. 6, and the 1e-12 of their code."""
    pi = np.argsort([-z.item() for z in row])
    others = max(row[i] for i in range(len(row)) if i != label)
    return -(row[label] - others) / (row[pi[0]] - row[pi[2]] + 1e-12)


def squared_error(row: list[Tensor], label: int) -> Tensor:
    if len(row) == 1:
        return (row[0] - (2 * label - 1)) ** 2
    errors = [(z - ((j == label) - 1 / len(row))) ** 2 for j, z in enumerate(row)]
    return torch.stack(errors).sum()


LOSSES = {"margin": margin, "cross-entropy": cross_entropy, "dlr": dlr, "mse": squared_error}


def loss_at(
    model: Callable[[Tensor], Tensor], x: Tensor, label: int, loss: str
) -> tuple[float, Tensor]:
    """Loss of one sample, by the formulas above, and its gradient."""
    leaf = x.clone().requires_grad_()
    value = LOSSES[loss](list(model(leaf[None]).reshape(-1)), label)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.item(), gradient


def clip(moved: Tensor, start: Tensor, ball: Ball) -> Tensor:
    eps, norm, low, high = ball
    offset = moved - start
    if norm == "linf":
        near = [min(max(float(v), -eps), eps) for v in offset.flatten()]
        offset = torch.tensor(near, dtype=start.dtype)
    elif (length := math.sqrt(sum(float(v) ** 2 for v in offset.flatten()))) > eps:
        offset = offset * eps / length
    kept = [min(max(float(v), low), high) for v in (start + offset.reshape(start.shape)).flatten()]
    return torch.tensor(kept, dtype=start.dtype).reshape(start.shape)


def direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        signs = [float(np.sign(float(v))) for v in gradient.flatten()]
        return torch.tensor(signs, dtype=gradient.dtype).reshape(gradient.shape)
    length = math.sqrt(float((gradient**2).sum()))
    return gradient / length if length else gradient


def descend(
    model: Callable[[Tensor], Tensor],
    start: Tensor,
    label: int,
    ball: Ball,
    steps: int,
    size: float,
    loss: str,
) -> Tensor:
    """PGD from the sample itself; one step of eps is the fast gradient method."""
    x = start
    for _ in range(steps):
        _, gradient = loss_at(model, x, label, loss)
        x = clip(x + size * direction(gradient, ball[1]), start, ball)
    return x


def checkpoints(steps: int) -> list[int]:
    """w_j = ceil(p_j steps), Croce & Hein 2020, section 3; percents against rounding."""
    p = [0, 22]
    while p[-1] < 100:
        p.append(p[-1] + max(p[-1] - p[-2] - 3, 6))
    return [math.ceil(q * steps / 100) for q in p if q < 100]


def auto_pgd(
    model: Callable[[Tensor], Tensor],
    start: Tensor,
    first: Tensor,
    label: int,
    ball: Ball,
    steps: int,
    loss: str,
) -> tuple[Tensor, list[float], list[float]]:
    """Algorithm 1 as printed: x_max, f at x(0), x(1), ..., and the step size at every k."""
    w = checkpoints(steps)
    x, f, g = [first], [], []

    def look(point: Tensor) -> None:
        value, gradient = loss_at(model, point, label, loss)
        f.append(value)
        g.append(gradient)

    look(first)
    eta = [2 * ball[0]]
    x.append(clip(first + eta[0] * direction(g[0], ball[1]), start, ball))
    look(x[1])
    best = 0 if max(f) == f[0] else 1
    x_max, f_max, g_max = x[best], f[best], g[best]
    eta.append(eta[0])
    f_max_at = [f[0], f_max]  # over x(0) to x(k)
    for k in range(1, steps):
        z = clip(x[k] + eta[k] * direction(g[k], ball[1]), start, ball)
        moved = x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1])
        x.append(clip(moved, start, ball))
        look(x[k + 1])
        if f[k + 1] > f_max:
            x_max, f_max, g_max = x[k + 1], f[k + 1], g[k + 1]
        f_max_at.append(f_max)
        eta.append(eta[k])
        if k in w[1:]:
            j = w.index(k)
            rises = sum(f[i + 1] > f[i] for i in range(w[j - 1], w[j]))
            few = rises < 0.75 * (w[j] - w[j - 1])
            same = eta[w[j - 1]] == eta[w[j]] and f_max_at[w[j - 1]] == f_max_at[w[j]]
            if few or same:
                eta[k + 1] = eta[k] / 2
                x[k + 1], f[k + 1], g[k + 1] = x_max, f_max, g_max
    return x_max, f, eta
