"""Full gradient descent on (w, A) of the solvable model, step by step: slow and obvious."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def descend(
    eigenvalues: Float[ndarray, "M"],
    target: Float[ndarray, "M C"],
    A_0: Float[ndarray, "N M"],
    *,
    gamma: float,
    learning_rate: float,
    steps: int,
    data: tuple[Float[ndarray, "P M"], Float[ndarray, "P C"]] | None = None,
    batch_size: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    projected: bool = True,
) -> Float[ndarray, "T"]:
    """Excess mse at steps 0 ... steps; fixed `data` (inputs, labels), fresh batches, or neither."""
    rng = np.random.default_rng(seed)
    w_star = target.T
    width = len(A_0)
    A = A_0.copy()
    w = np.zeros((len(w_star), width))
    mse = []
    for _ in range(steps + 1):
        v = w_star - w @ A / width
        mse.append((eigenvalues * v * v).sum())
        if data is not None:
            inputs, labels = data
            g = (labels - inputs @ (w @ A / width).T).T @ inputs / len(inputs)
        elif batch_size is not None:
            inputs = rng.standard_normal((batch_size, len(eigenvalues))) * np.sqrt(eigenvalues)
            errors = inputs @ v.T + noise * rng.standard_normal((batch_size, len(w)))
            g = errors.T @ inputs / batch_size
        else:
            g = eigenvalues * v
        moved = (g @ A_0.T) @ A_0 / width if projected else g
        w, A = w + learning_rate * g @ A.T, A + learning_rate * gamma * w.T @ moved
    return np.array(mse)
