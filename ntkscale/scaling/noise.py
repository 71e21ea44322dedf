"""What is left of a curve once its law is taken out: noise that is correlated from point to point.

Losses are running averages and kernels drift slowly, so neighbouring residuals are alike. Treating
them as independent makes every interval too narrow. Here they are a stationary autoregression,
either rough (first order) or smooth (second order with a double root, what a running average
looks like), whose correlation length is not known but weighed by its restricted likelihood, the
law's own parameters integrated out. Drawing from the weighted candidates carries the ignorance
about the noise into whatever is computed from the draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LENGTHS = 24  # correlation lengths that are weighed against each other, for each kind of noise
_LONGEST = 0.25  # of the number of points; noise longer than this cannot be told from the law


@dataclass(frozen=True)
class Noise:
    """Weighted autoregressions that could have left the residuals of one fit.

    Attributes:
        first, second: (M,) coefficients of each candidate e_i = first e_{i-1} + second e_{i-2} + z.
        weight: (M,) restricted likelihood times prior (both kinds alike, uniform in the logarithm
            of the correlation length), summing to 1.
        squares: (M,) whitened sum of squares; variance of e = squares / chi-squared(freedom).
        freedom: number of points minus number of fitted parameters.
    """

    first: Array
    second: Array
    weight: Array
    squares: Array
    freedom: int

    @property
    def mean_correlation(self) -> float:
        """Weighted correlation of neighbouring points."""
        return float(self.weight @ (self.first / (1.0 - self.second)))

    def draw(self, count: int, points: int, generator: np.random.Generator) -> Array:
        """Draw ``count`` noise curves of ``points`` points, shape (count, points)."""
        which = generator.choice(len(self.weight), size=count, p=self.weight)
        scale = np.sqrt(self.squares[which] / generator.chisquare(self.freedom, size=count))
        first, second = self.first[which], self.second[which]
        neighbour, start, fresh = _stationary(first, second)
        noise = generator.standard_normal((points, count))
        noise[1] = neighbour * noise[0] + start * noise[1]
        for i in range(2, points):
            noise[i] = first * noise[i - 1] + second * noise[i - 2] + fresh * noise[i]
        return (noise * scale).T


def _stationary(first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Lag-one correlation and the spread of the second and of later points, at unit variance."""
    neighbour = first / (1.0 - second)
    start = np.sqrt(1.0 - neighbour**2)
    return neighbour, start, start * np.sqrt(1.0 - second**2)


def weigh_noise(residual: Array, design: Array) -> Noise:
    """Weigh the autoregressions that could have left ``residual`` after a fit with ``design``.

    Args:
        residual: (n,) residuals of a least-squares fit, or the data themselves: what lies in the
            span of ``design`` does not matter.
        design: (n, k) derivative of the fitted curve by its k parameters, n > k.

    Cost: 48 QR decompositions of an n x k matrix.
    """
    n, k = design.shape
    # Lengths that give both kinds the same integrated correlation, about twice the length.
    lengths = np.geomspace(0.25, max(1.0, _LONGEST * n), _LENGTHS)
    rough, smooth = np.exp(-1.0 / lengths), np.exp(-2.0 / lengths)
    first = np.concatenate([rough, 2.0 * smooth])
    second = np.concatenate([np.zeros_like(rough), -(smooth**2)])
    neighbour, start, fresh = _stationary(first, second)
    evidence = np.empty_like(first)
    squares = np.empty_like(first)
    stacked = np.column_stack([design, residual])
    for i in range(len(first)):
        white = stacked.copy()
        white[1] = (stacked[1] - neighbour[i] * stacked[0]) / start[i]
        white[2:] = stacked[2:] - first[i] * stacked[1:-1] - second[i] * stacked[:-2]
        white[2:] /= fresh[i]
        triangle = np.abs(np.diag(np.linalg.qr(white, mode="r")))
        # The last diagonal entry is the norm of the whitened residual outside the design.
        squares[i] = triangle[k] ** 2
        evidence[i] = (
            -np.log(start[i])
            - (n - 2) * np.log(fresh[i])
            - np.log(np.maximum(triangle[:k], 1e-300)).sum()
            - 0.5 * (n - k) * np.log(max(squares[i], 1e-300))
        )
    weight = np.exp(evidence - evidence.max())
    return Noise(first, second, weight / weight.sum(), squares, n - k)
