"""A teacher and a student of two layers, the slow way: sums over pairs, quadrature, loops."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Pointwise = Callable[[Float[ndarray, "..."]], Float[ndarray, "..."]]


def kappa(phi: Pointwise, rho: float, order: int = 400) -> float:
    """E phi(u) phi(v) - h_0^2 - h_1^2 rho by two-dimensional quadrature in polar coordinates.

    With (u, v) = r (cos t, cos(t - arccos rho)) a kink of phi at zero is one of t alone: panels end
    there, and both integrals are of smooth functions.
    """
    nodes, weights = np.polynomial.legendre.leggauss(order // 10)
    r = np.concatenate([(nodes + 1) / 2 + k for k in range(12)])
    radial = np.tile(weights / 2, 12) * r * np.exp(-(r**2) / 2)
    turn = math.acos(rho)
    edges = sorted({(a + k * math.pi) % (2 * math.pi) for a in (math.pi / 2, turn + math.pi / 2)
                    for k in (0, 1)} | {0.0, 2 * math.pi})  # fmt: skip
    total, constant, line = 0.0, 0.0, 0.0
    for low, high in pairwise(edges):
        if high - low < 1e-14:
            continue
        t = (high - low) / 2 * (nodes + 1) + low
        w = (high - low) / 2 * weights / (2 * math.pi)
        u, v = np.outer(r, np.cos(t)), np.outer(r, np.cos(t - turn))
        total += radial @ (phi(u) * phi(v)) @ w
        constant += radial @ phi(u) @ w
        line += radial @ (phi(u) * u) @ w
    return float(total - constant**2 - line**2 * rho)


def loss(
    a: Float[ndarray, "m"],
    W: Float[ndarray, "m d"],
    directions: Float[ndarray, "k d"],
    weights: Float[ndarray, "k"],
    of: Callable[[float], float],
) -> float:
    """The population loss, pair by pair; `of` is kappa."""
    neurons = [(a[j] * np.linalg.norm(w), w / np.linalg.norm(w)) for j, w in enumerate(W)]
    neurons += [(-c, v) for c, v in zip(weights, directions, strict=True)]
    return sum(c * e * of(float(np.clip(u @ v, -1, 1))) for c, u in neurons for e, v in neurons)


def relu_kappa(rho: float) -> float:
    """For ReLU as the specification prints it."""
    return (math.sqrt(1 - rho**2) + rho * math.asin(rho) - 1) / (2 * math.pi)


def numerical_gradient(
    function: Callable[[Float[ndarray, "n"]], float], at: Float[ndarray, "n"], step: float = 1e-6
) -> Float[ndarray, "n"]:
    """Central differences, one coordinate after the other."""
    found = np.zeros_like(at)
    for index in range(len(at)):
        e = np.zeros_like(at)
        e[index] = step
        found[index] = (function(at + e) - function(at - e)) / (2 * step)
    return found


def sampled_loss(
    a: Float[ndarray, "m"],
    W: Float[ndarray, "m d"],
    x: Float[ndarray, "n d"],
    y: Float[ndarray, "n"],
    phi: Pointwise,
) -> float:
    """Mean squared error with alpha and beta fitted by least squares."""
    norms = np.linalg.norm(W, axis=1)
    f = phi(x @ (W / norms[:, None]).T) @ (a * norms)
    design = np.column_stack([np.ones(len(x)), x])
    left = (y - f) - design @ np.linalg.lstsq(design, y - f, rcond=None)[0]
    return float(np.mean(left**2))
