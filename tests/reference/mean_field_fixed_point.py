"""The mean-field equations of the solvable model, iterated to their fixed point, mode by mode."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray


@dataclass(frozen=True)
class FixedPoint:
    mse: ndarray
    bias: ndarray
    train_mse: ndarray
    weight_covariance: ndarray


def mean_field_fixed_point(
    eigenvalues: ndarray,
    target: ndarray,
    gamma: float,
    steps: int,
    *,
    learning_rate: float,
    width: float | None = None,
    num_data: float | None = None,
    batch_size: float | None = None,
    noise: float = 0.0,
    projected: bool = True,
) -> FixedPoint:
    """Grow the horizon five steps at a time and iterate until the loss stands still."""
    eta = learning_rate
    per_n = 0.0 if width is None else 1 / width
    n = 0
    c1 = c2 = c3 = np.zeros((0, 0))
    r1 = r3 = np.zeros((0, 0))
    mse = bias = cw = np.zeros(0)
    while n < steps:
        new = min(steps, n + 5)
        c1, c2, c3 = (np.pad(c, (0, new - n)) for c in (c1, c2, c3))
        r1, r3 = (_pad_identity(r, new) for r in (r1, r3))
        n = new
        one, eye, theta = np.ones((n, n)), np.eye(n), np.tril(np.ones((n, n)), -1)
        for _ in range(40):
            moving = c3 if projected else c2
            w = np.linalg.solve(eye - eta**2 * gamma * theta @ (moving * theta), eta * theta)
            cw = w @ c3 @ w.T
            k = w + eta * gamma * theta * cw if projected else w
            y = k @ r3 if projected else w @ r3 + eta * gamma * theta * cw
            s = np.zeros((n, n))
            if num_data is not None:
                s = c1 / num_data
            elif batch_size is not None:
                s = np.diag(np.diag(c1)) / batch_size
            c0, c2, r2, r02 = (np.zeros((n, n)) for _ in range(4))
            bias = np.zeros(n)
            for value, coefficient in zip(eigenvalues, target, strict=True):
                h = np.linalg.inv(eye + value * y @ r1)
                m = coefficient * h.sum(axis=1)
                hk, hy = h @ k, h @ y
                c0 += value * (np.outer(m, m) + hk @ c3 @ hk.T * per_n + value * hy @ s @ hy.T)
                f = eye - value * r1 @ hy
                rm, rh = r1 @ m, r1 @ hk
                c2 += value**2 * (np.outer(rm, rm) + rh @ c3 @ rh.T * per_n) + value * f @ s @ f.T
                r2 -= value * rh
                r02 -= value * hy
                bias += value * m**2
            r3 = np.linalg.inv(eye - r2 * per_n)
            c3 = r3 @ c2 @ r3.T
            if num_data is not None:
                r1 = np.linalg.inv(eye - r02 / num_data)
                c1 = r1 @ (c0 + noise**2 * one) @ r1.T
            else:
                c1 = c0 + noise**2 * eye
            old, mse = mse, np.diag(c0)
            if len(old) == n and np.abs(mse / old - 1).max() < 1e-12:
                break
        else:
            raise AssertionError("the fixed point was not reached")
    return FixedPoint(mse, bias, np.diag(c1), cw)


def _pad_identity(matrix: ndarray, n: int) -> ndarray:
    padded = np.eye(n)
    padded[: len(matrix), : len(matrix)] = matrix
    return padded
