"""The spectrum of a matrix from its products with random vectors: stochastic Lanczos quadrature.

A random vector sees every eigenvalue with equal weight on average, and `quadrature` gives what it
sees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.spectrum.interval import Estimate, mean_interval
from ntkscale.ntk.spectrum.krylov import Matmat
from ntkscale.ntk.spectrum.lanczos import EigenPairs
from ntkscale.ntk.spectrum.quadrature import quadrature


@dataclass(frozen=True)
class SpectralDensity:
    """The spectrum of a positive semi-definite matrix of size n, largest eigenvalues known or not.

    Attributes:
        grid: eigenvalues, increasing and evenly spaced in the logarithm.
        count: estimated number of eigenvalues at and above each grid point.
        low: lower end of the interval of that number, at `level` for each point by itself. It
            allows for both the few random vectors and the few nodes.
        high: its upper end.
        density: eigenvalues per unit of ln(lambda): minus the slope of `count`, smoothed. Its
            integral over ln(lambda) is the number of eigenvalues within the grid. No interval.
        nodes: quadrature nodes of each random vector, decreasing.
        weights: number of eigenvalues each node stands for.
        known: eigenvalues that were given and taken out before sampling.
        n: size of the matrix.
        level: of all intervals.
        products: products with single vectors.
        passes: VJPs over all samples that these took, and as many JVPs; 0 for a plain matrix.
    """

    grid: Float[Tensor, "g"]
    count: Float[Tensor, "g"]
    low: Float[Tensor, "g"]
    high: Float[Tensor, "g"]
    density: Float[Tensor, "g"]
    nodes: Float[Tensor, "p m"]
    weights: Float[Tensor, "p m"]
    known: Float[Tensor, "k"]
    n: int
    level: float
    products: int
    passes: int = 0

    def sum_of(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """The sum of a function over all eigenvalues: moments, effective dimension, log det.

        The interval is `mean_interval`'s over the random vectors, without bias for polynomials of
        degree up to 2 m - 1; another function's quadrature error comes on top.
        """
        sampled = (function(self.nodes) * self.weights).sum(1)
        exact = float(function(self.known).sum())
        mean, low, high = (exact + float(end) for end in mean_interval(sampled, self.level))
        return Estimate(mean, (low, high), self.level, self.products, self.passes)

    def moment(self, power: int) -> Estimate:
        """The sum of the eigenvalues' powers, tr K^power."""
        return self.sum_of(lambda values: values**power)


def spectral_density(
    matmat: Matmat,
    n: int,
    *,
    probes: int = 8,
    steps: int = 64,
    known: EigenPairs | None = None,
    points: int = 128,
    width: float = 0.3,
    level: float = 0.95,
    precision: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> SpectralDensity:
    """How many eigenvalues lie above every level, and how densely, with intervals.

    Args:
        matmat: the product with a block of columns.
        n: size of the matrix.
        probes: random vectors, at least 2. The spread between them is the statistical error.
        steps: Lanczos steps m, and so nodes, of each. Nodes thin out below lambda_1 / m^2; the
            interval tells.
        known: largest eigenpairs, from `largest_eigenvalues`: they are counted exactly and taken
            out of what is sampled. A power-law spectrum is resolved much further down with them.
        points: grid points.
        width: standard deviation of the smoothing of the density, in ln(lambda).
        level: of the intervals.
        precision: what products are accurate to; the grid ends above their rounding.
        device: where the matrix lives.
        dtype: what the iteration runs in.
        seed: of the random vectors; the global random state is not used.
        progress: called with the products done and their total.

    Returns:
        See :class:`SpectralDensity`. Equal calls give equal bits.

    Cost: probes x steps products, n x probes x steps numbers of memory, and 4 n probes steps^2
    multiply-adds.

    Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos
    quadrature". The bounds on counts between nodes are the Chebyshev-Markov-Stieltjes inequalities;
    they hold for each random vector whatever the spectrum.

    Raises:
        ValueError: fewer than 2 probes or 1 step, a level outside (0, 1), `known` of another size
            or complete, a product that is not finite, or a matrix without positive eigenvalue.
    """
    if probes < 2 or steps < 1:
        raise ValueError(
            f"{probes} probes of {steps} steps give no interval; take at least 2 of at least 1."
        )
    taken = torch.empty(n, 0, dtype=dtype, device=device)
    values = taken.new_empty(0)
    if known is not None:
        if known.vectors.shape[0] != n:
            raise ValueError(
                f"known eigenvectors have {known.vectors.shape[0]} entries for a matrix of size "
                f"{n}; take them of the same matrix."
            )
        if known.vectors.shape[1] >= n:
            raise ValueError("all eigenpairs are known; nothing is left to sample.")
        # Vectors of float32 are orthogonal to float32 alone.
        taken = torch.linalg.qr(known.vectors.to(taken))[0]
        values = known.values.to(taken)
    rest = n - taken.shape[1]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n, probes, generator=generator, dtype=torch.float64).to(taken)
    steps = min(steps, rest)
    nodes, weights = quadrature(matmat, start, taken, steps, progress)
    weights = rest * weights
    bottom = 10 * torch.finfo(precision).eps
    grid = _grid(torch.cat([nodes.reshape(-1), values]), points, bottom)
    count, low, high = _counts(nodes, weights, grid, level)
    exact = (values[None] >= grid[:, None]).sum(1)
    # Where the known eigenvalues reach, nothing else is counted.
    reach = exact < values.shape[0]
    count = torch.where(reach, 0, count) + exact
    low = torch.where(reach, 0, low.clamp(0, rest)) + exact
    high = torch.where(reach, 0, high.clamp(0, rest)) + exact
    density = _smoothed(grid, count, width)
    return SpectralDensity(
        grid, count, low, high, density, nodes, weights, values, n, level, probes * steps
    )


def _grid(values: Tensor, points: int, bottom: float) -> Float[Tensor, "g"]:
    top = float(values.max())
    if top <= 0:
        raise ValueError("the matrix has no positive eigenvalue, so its spectrum has no scale.")
    least = min(float(values[values > bottom * top].min()), top / 10)
    steps = torch.linspace(0, 1, points, dtype=values.dtype, device=values.device)
    return top * (least / top) ** (1 - steps)


def _counts(
    nodes: Float[Tensor, "p m"], weights: Float[Tensor, "p m"], grid: Tensor, level: float
) -> tuple[Float[Tensor, "g"], Float[Tensor, "g"], Float[Tensor, "g"]]:
    """Eigenvalues at and above the grid points: estimate, and the ends of its interval.

    What a vector sees above lambda lies between the weights of all nodes above it but the last, and
    those of one node more. Within that, half of a node's weight is put on either side of it.
    """
    probes, m = nodes.shape
    zero = weights.new_zeros(probes, 1)
    above = torch.searchsorted(
        -nodes.contiguous(), -grid.expand(probes, -1).contiguous(), right=True
    )
    total = torch.cat([zero, weights.cumsum(1)], 1)
    lower = total.gather(1, (above - 1).clamp(min=0))
    upper = total.gather(1, (above + 1).clamp(max=m))
    # Zero eigenvalues lie at no finite logarithm.
    logs = nodes.clamp(min=1e-300).log()
    middle = total[:, 1:] - weights / 2
    left, right = (above - 1).clamp(min=0), above.clamp(max=m - 1)
    span = logs.gather(1, left) - logs.gather(1, right)
    part = (logs.gather(1, left) - grid.log()) / span.clamp(min=1e-30)
    between = torch.lerp(middle.gather(1, left), middle.gather(1, right), part.clamp(0, 1))
    estimate = torch.where(above == 0, torch.zeros_like(between), between)
    _, low, _ = mean_interval(lower, level)
    _, _, high = mean_interval(upper, level)
    return estimate.mean(0), low, high


def _smoothed(grid: Tensor, count: Tensor, width: float) -> Float[Tensor, "g"]:
    """Eigenvalues per unit of ln(lambda); each is spread over the grid, none beyond it."""
    logs = grid.log()
    at = torch.cat([(logs[1:] + logs[:-1]) / 2, logs[-1:]])
    mass = torch.cat([count[:-1] - count[1:], count[-1:]])
    spread = torch.exp(-((logs[:, None] - at) / width).square() / 2)
    return spread @ (mass / spread.sum(0)) / (logs[1] - logs[0])
