"""Lazy one-pass SGD at infinite width: the expected loss after any number of steps, exactly.

With Gaussian features of covariance Lambda and B fresh samples a step, the gradient g has the mean
Lambda v and the covariance (Lambda (L + sigma^2) + Lambda v v^T Lambda) / B (Isserlis). Second
moments m_k = E v_k^2 then close, whatever is off the diagonal:

    m_k(t + 1) = (1 - 2 eta lambda_k + eta^2 lambda_k^2 (1 + 1/B)) m_k
                 + eta^2 / B lambda_k (L + sigma^2)
    L = sum_k lambda_k m_k

This is the Volterra equation L(t) = bias(t) + eta / B sum_s G(t - s) (L(s) + sigma^2) of arXiv
2409.17858 and 2402.01092 without its approximations. The step is a diagonal matrix and one of rank
one, made symmetric by sqrt(count): its eigenvectors, found once, give the loss at every step, also
the 10^9th. Tasks with beta > 2 - 1/alpha (super-easy) end in the noise of the batches, as
t^-(2 - 1/alpha).

Rich SGD has no such closed form: the noise moves the kernel as well. See `mean_field`, simulations.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import ArrayLike

from ntkscale.theory.scaling_model.spectrum import Spectrum


def lazy_sgd(
    spectrum: Spectrum,
    steps: ArrayLike,
    *,
    learning_rate: float,
    batch_size: float | None,
    noise: float = 0.0,
) -> Float[ndarray, "T"]:
    """Expected excess mse after each of `steps`, at gamma = 0 and infinite width.

    Args:
        spectrum: rows standing for alike modes are exact; several outputs see the same samples.
            The tail is never learned and acts on the batches as label noise does.
        steps: (T,) whole numbers, zero or positive, in any order; time is learning_rate times step.
        learning_rate: eta.
        batch_size: B; None for the population's gradient.
        noise: sigma, standard deviation of each output's label noise.

    Cost: O(rows^3) once and O(rows) a step asked for; a tenth of a second for 300 rows. Rounding
    limits the mse to some 1e-15 of sum sqrt(count) |w*|^2 lambda_1.

    Raises:
        ValueError: steps that are not whole or negative, a number that is not positive, or a
            learning rate at which the moments grow without bound, with the bound it broke.
    """
    asked = _whole(steps)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}.")
    if batch_size is not None and not batch_size > 0:
        raise ValueError(f"batch_size must be positive, got {batch_size}; None is infinite.")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise is a standard deviation, zero or positive, got {noise}.")
    per_b = 0.0 if batch_size is None else 1 / batch_size
    rate = learning_rate * spectrum.eigenvalues
    # 1 - the diagonal of the step, and its part of rank one, in the variables sqrt(count) m.
    decay = 2 * rate - rate**2 * (1 + per_b)
    root = np.sqrt(spectrum.count)
    along = root * spectrum.eigenvalues
    _refuse_unstable(spectrum, learning_rate, per_b)
    start = root * np.square(spectrum.target).sum(axis=1)
    strength = learning_rate**2 * per_b
    outputs = spectrum.target.shape[1]
    source = strength * (outputs * noise**2 + spectrum.tail_power) * along
    values, vectors = np.linalg.eigh(np.diag(decay) - strength * np.outer(along, along))
    values = np.clip(values, 1e-300, 1 - 1e-16)  # they are inside, but for rounding
    # Where the mode ends, source / value, is approached as 1 - (1 - value)^t: both parts are summed
    # without a difference of near numbers.
    logs = asked[:, None] * np.log1p(-values)
    project = vectors.T @ along
    left = np.exp(logs) @ (project * (vectors.T @ start))
    made = -np.expm1(logs) @ (project * (vectors.T @ source) / values)
    return left + made + spectrum.tail_power


def _whole(steps: ArrayLike) -> Int[ndarray, "T"]:
    asked = np.atleast_1d(np.asarray(steps))
    if asked.ndim != 1 or not np.isfinite(asked).all() or (asked != np.floor(asked)).any():
        raise ValueError("steps must be a list of whole numbers.")
    if (asked < 0).any():
        raise ValueError(f"steps must be zero or positive, got {asked.min()}.")
    return asked.astype(np.int64)


def _refuse_unstable(spectrum: Spectrum, learning_rate: float, per_b: float) -> None:
    sharpness = learning_rate * (1 + per_b) * float(spectrum.eigenvalues[0])
    if sharpness >= 2:
        raise ValueError(
            f"learning_rate {learning_rate} is unstable: eta (1 + 1/B) lambda_1 is "
            f"{sharpness:.3g} and must stay below 2; take a smaller one."
        )
    rate = learning_rate * spectrum.eigenvalues
    gain = per_b * float(spectrum.count @ (rate / (2 - rate * (1 + per_b))))
    gain += per_b * learning_rate * spectrum.tail_trace / 2
    if gain >= 1:
        raise ValueError(
            f"learning_rate {learning_rate} is unstable: the noise of the batches feeds itself, "
            f"1/B sum eta lambda / (2 - eta lambda (1 + 1/B)) is {gain:.3g} and must stay below 1; "
            "take a smaller one or larger batches."
        )
