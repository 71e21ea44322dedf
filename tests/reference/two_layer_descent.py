"""The solvable model trained as it is written down: weights w and A, step by step, seed by seed."""

import numpy as np
from numpy import ndarray


def two_layer_descent(
    eigenvalues: ndarray,
    target: ndarray,
    gamma: float,
    steps: int,
    *,
    learning_rate: float,
    width: int,
    num_data: int | None = None,
    batch_size: int | None = None,
    noise: float = 0.0,
    projected: bool = True,
    seed: int = 0,
) -> tuple[ndarray, ndarray]:
    """Excess mse before every step, and |w|^2 / N, for one draw of A(0) and of the samples."""
    rng = np.random.default_rng(seed)
    initial = rng.standard_normal((width, len(eigenvalues)))
    a, w = initial.copy(), np.zeros(width)
    psi = errors = np.zeros(0)
    if num_data is not None:
        psi = rng.standard_normal((num_data, len(eigenvalues))) * np.sqrt(eigenvalues)
        errors = noise * rng.standard_normal(num_data)
    mse, size = np.zeros(steps), np.zeros(steps)
    for t in range(steps):
        v = target - a.T @ w / width
        mse[t], size[t] = (eigenvalues * v**2).sum(), w @ w / width
        if batch_size is not None:
            psi = rng.standard_normal((batch_size, len(eigenvalues))) * np.sqrt(eigenvalues)
            errors = noise * rng.standard_normal(batch_size)
        g = eigenvalues * v if not len(psi) else psi.T @ (psi @ v + errors) / len(psi)
        moved = initial.T @ (initial @ g) / width if projected else g
        w_next = w + learning_rate * (a @ g)
        a += learning_rate * gamma * np.outer(w, moved)
        w = w_next
    return mse, size
