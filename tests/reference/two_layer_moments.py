"""The two-layer linear network at infinite width: the moments of its neurons, exactly, in steps."""

import numpy as np
from numpy import ndarray


def two_layer_moments(
    eigenvalues: ndarray, target: ndarray, gamma: float, steps: int, *, learning_rate: float
) -> tuple[ndarray, ndarray]:
    """Excess mse before every step, and |w|^2 / N, from the (M + 1) x (M + 1) moments of (A, w)."""
    m = len(eigenvalues)
    sigma = np.diag(np.r_[np.ones(m), 0.0])
    mse, size = np.zeros(steps), np.zeros(steps)
    for t in range(steps):
        v = target - sigma[:m, m]
        mse[t], size[t] = (eigenvalues * v**2).sum(), sigma[m, m]
        step = np.eye(m + 1)
        step[:m, m] = learning_rate * gamma * eigenvalues * v  # A += eta gamma w g
        step[m, :m] = learning_rate * eigenvalues * v  # w += eta A g
        sigma = step @ sigma @ step.T
    return mse, size
