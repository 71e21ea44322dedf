"""What a model of finite width sees of fresh data: a spectrum of its own, once diagonalised.

With c = W B / sqrt(N) the flow at width N is that at infinite width for other eigenvalues and
another target, S = A_0 Lambda A_0^T / N and theta = S^-1 b (see the room's README), above a floor
that no c gets under. Gaussian features make the same true of one-pass batches: what c cannot fit
is independent of the features and acts as label noise. So `flow` and `lazy_sgd` take the spectrum
returned here as any other, for as many gamma, learning rates and batch sizes as one likes.
"""

import numpy as np

from ntkscale.theory.scaling_model.features import LARGEST, check_limits
from ntkscale.theory.scaling_model.spectrum import Spectrum


def at_width(spectrum: Spectrum, width: int, *, seed: int = 0) -> Spectrum:
    """The spectrum seen through one draw of A_0, the one that `finite_flow` takes for the seed.

    Args:
        spectrum: rows of single modes; modes beyond them are white, tail_trace / N a feature.
        width: N.
        seed: of A_0.

    Returns:
        min(N, M) rows at most (N if there are modes beyond the rows); `tail_power` is the mse at
        which a flow ends.

    Source: arXiv 2409.17858, section 2 (the model); the reading as a spectrum is derived.
    Cost: O(N^2 (M + N)) once, memory O(N M); width 1,024 with 3,072 modes takes about a second.

    Raises:
        ValueError: rows stand for several modes, width is not a positive whole number, or A_0
            would exceed 2 GiB.
    """
    check_limits(spectrum, width=width, num_data=None, noise=0.0)
    lam, modes = spectrum.eigenvalues, len(spectrum.eigenvalues)
    if width * modes * 8 > LARGEST:
        raise ValueError(
            f"width = {width:,} times {modes:,} modes exceeds 2 GiB; take fewer modes: those "
            "beyond the rows act as a ridge anyway."
        )
    of_width = np.random.SeedSequence(seed).spawn(3)[0]
    mixing = np.random.default_rng(of_width).standard_normal((width, modes)) / np.sqrt(width)
    mixing *= np.sqrt(lam)
    along = mixing @ (np.sqrt(lam)[:, None] * spectrum.target)
    values, vectors = np.linalg.eigh(mixing @ mixing.T)
    values = np.maximum(values, 0.0) + spectrum.tail_trace / width
    kept = np.flatnonzero(values > np.finfo(np.float64).eps * width * values[-1])[::-1]
    values, target = values[kept], (vectors[:, kept].T @ along) / values[kept, None]
    learned = float(values @ np.square(target).sum(axis=1))
    # A difference, but of numbers that are exact: the floor comes out to 1e-15 of the power.
    floor = max(spectrum.total_power - learned, 0.0)
    return Spectrum(values, target, np.ones(len(values)), tail_power=floor)
