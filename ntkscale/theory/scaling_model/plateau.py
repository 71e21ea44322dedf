"""Where the loss stops at finite width or on finite data: deterministic equivalents, t -> infinity.

Random features with a vanishing ridge end at the same point however they get there, so that gamma
does not enter. With z = sum lambda / (lambda + kappa) and q = sum (lambda / (lambda + kappa))^2 the
ridge kappa that limits stand for solves z = min(N, P).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar

from ntkscale.theory.scaling_model.features import check_sizes
from ntkscale.theory.scaling_model.spectrum import Spectrum


@dataclass(frozen=True)
class Plateau:
    """Limits of the loss as t -> infinity.

    Attributes:
        mse: expected over A_0 and data, in target^2, excess over the label noise; with the tail.
        bias: mse of the mean predictor, an ensemble of infinitely many draws; at most mse.
        ridge: kappa, the eigenvalue below which modes are not learned; 0 without limits.
    """

    mse: float
    bias: float
    ridge: float


def plateau(
    spectrum: Spectrum,
    *,
    width: int | None = None,
    num_data: int | None = None,
    noise: float = 0.0,
) -> Plateau:
    """Deterministic equivalent of the mse at t -> infinity, valid as N, P -> infinity.

        N finite:  L = sum lambda w*^2 kappa / (lambda + kappa)
        P finite:  L = (bias + sigma^2) / (1 - q / P) - sigma^2
        bias:      sum lambda w*^2 kappa^2 / (lambda + kappa)^2

    On a power law the total scales as N^(-alpha min(1, beta)) and P^(-alpha min(2, beta)); only the
    bias at finite width has the exponent alpha min(2, beta) that is printed for it. Both limits
    together: the random-feature eigenframework of Simon et al., arXiv 2311.14646. The equations at
    one limit follow from arXiv 2402.01092 (omega -> 0).

    Args:
        spectrum: rows may stand for many modes; those beyond the rows act through tail_trace.
        width: N; None: infinite.
        num_data: P; None: unlimited.
        noise: standard deviation of the labels' noise, per output; no effect on unlimited data.

    Raises:
        ValueError: width or num_data is not a positive whole number, or both are equal (the mse
            diverges there), or noise is negative.

    Cost: O(M), some fifty evaluations.
    """
    check_sizes(width=width, num_data=num_data, noise=noise)
    lam, count, tail = spectrum.eigenvalues, spectrum.count, spectrum.tail_trace
    if width is not None and width == num_data:
        raise ValueError(
            f"width and num_data are both {width}: the mse diverges at this threshold; choose "
            "them apart."
        )
    rank = min(width or math.inf, num_data or math.inf)
    if rank == math.inf or (tail == 0 and rank >= spectrum.num_modes):
        # The modes are all resolved; what noise is left in them is that of least squares.
        excess = 0.0
        if num_data is not None and width is None:
            label = noise**2 * spectrum.target.shape[1] + spectrum.tail_power
            excess = label * spectrum.num_modes / max(num_data - spectrum.num_modes, 1e-300)
        if num_data is not None and width is not None:
            seen = min(spectrum.num_modes, width)
            label = noise**2 * spectrum.target.shape[1] + spectrum.tail_power
            excess = label * seen / max(num_data - seen, 1e-300)
        return Plateau(spectrum.tail_power + excess, spectrum.tail_power, 0.0)

    def too_many(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return float((count * lam / (lam + kappa)).sum()) + tail / kappa - rank

    high = math.log((float((count * lam).sum()) + tail) / rank) + 1e-9
    low = math.log(float(lam.min()) * 1e-12)
    while too_many(low) < 0:
        low -= 20
    kappa = math.exp(root_scalar(too_many, bracket=(low, high), xtol=1e-13).root)
    learned = lam / (lam + kappa)
    q = float((count * np.square(learned)).sum())
    power = spectrum.power
    bias = float((power * np.square(1 - learned)).sum()) + spectrum.tail_power
    half = float((power * (1 - learned)).sum()) + spectrum.tail_power
    if num_data is None:
        return Plateau(half, bias, kappa)
    label = noise**2 * spectrum.target.shape[1]
    if width is None:
        return Plateau((bias + label) / (1 - q / num_data) - label, bias, kappa)
    # eq. of arXiv 2311.14646 at zero ridge; n samples, k features, gamma is our kappa.
    z = float(rank)
    inner = kappa * (1 - num_data / width) if num_data < width else 0.0
    cross = float((power * learned * (1 - learned)).sum())  # gamma lambda / (lambda + gamma)^2
    clean = half - inner / kappa * width / (width - q) * cross
    loss = (clean + label) / (1 - (q * (width - 2 * z) + z * z) / (num_data * (width - q)))
    return Plateau(loss - label, bias, kappa)
