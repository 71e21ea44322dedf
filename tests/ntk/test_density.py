"""`spectral_density` against exact eigenvalues: counts, moments and density within intervals."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale.ntk.spectrum.density import spectral_density
from ntkscale.ntk.spectrum.lanczos import largest_eigenvalues
from ntkscale.ntk.spectrum.quadrature import quadrature

SEED = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
N = 70
SPECTRA = {
    "power law": torch.arange(1, N + 1.0) ** -1.5,
    "slow": torch.arange(1, N + 1.0) ** -0.5,
    "exponential": 0.8 ** torch.arange(N),
    "rank 20": torch.cat([torch.arange(1, 21.0) ** -1, torch.zeros(N - 20)]),
    "copies": torch.cat([torch.ones(10), torch.full((60,), 0.01)]),
}


def matrices(values: Tensor, count: int) -> Tensor:
    """Matrices with these eigenvalues and random eigenvectors, one after the other."""
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    n = len(values)
    q = torch.linalg.qr(torch.randn(count, n, n, generator=generator, dtype=torch.float64))[0]
    return (q * values.double()) @ q.mT


def inside(low: Tensor, high: Tensor, values: Tensor, grid: Tensor) -> Tensor:
    """Where the exact count lies within; a grid point may sit on an eigenvalue up to rounding."""
    up, down = ((values >= grid[:, None] * (1 + shift)).sum(1) for shift in (-1e-9, 1e-9))
    return (low <= up + 1e-6) & (down - 1e-6 <= high)


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_cover_counts_and_moments(name):
    values = SPECTRA[name].double()
    counts: list[float] = []
    hit = {1: 0, 2: 0, 3: 0}
    for i, k in enumerate(matrices(values, 200)):
        found = spectral_density(lambda v, k=k: k @ v, N, probes=8, steps=12, seed=SEED + i)
        counts.append(float(inside(found.low, found.high, values, found.grid).double().mean()))
        for power in hit:
            low, high = found.moment(power).interval
            hit[power] += low <= float((values**power).sum()) <= high
        assert (found.low <= found.count + 1e-9).all()
        assert (found.count <= found.high + 1e-9).all()
    # Pointwise intervals that also bound the quadrature's error: they cover more than they say.
    assert np.mean(counts) >= 0.95, f"counts {np.mean(counts):.3f}"
    # Over 200 problems, the spread of a share of 0.9 is 0.02.
    assert min(hit.values()) >= 0.84 * 200, hit


def test_many_steps_find_every_eigenvalue():
    """As many steps as dimensions: the quadrature is exact but for weights of the few probes."""
    values = SPECTRA["slow"].double()
    (k,) = matrices(values, 1)
    nodes, weights = quadrature(
        lambda v: k @ v, torch.randn(N, 2, dtype=torch.float64), torch.zeros(N, 0).double(), N
    )
    torch.testing.assert_close(nodes, values.expand(2, -1), rtol=1e-8, atol=0)
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())


def test_quadrature_integrates_polynomials_exactly():
    (k,) = matrices(SPECTRA["slow"], 1)
    start = torch.randn(N, 3, dtype=torch.float64)
    nodes, weights = quadrature(lambda v: k @ v, start, torch.zeros(N, 0).double(), 4)
    unit, power = start / torch.linalg.vector_norm(start, dim=0), torch.eye(N).double()
    for degree in range(8):
        want = (unit * (power @ unit)).sum(0)
        torch.testing.assert_close((weights * nodes**degree).sum(1), want, rtol=1e-10, atol=0)
        power = power @ k
    assert not torch.allclose((weights * nodes**8).sum(1), (unit * (power @ unit)).sum(0), 1e-9)


def test_a_start_vector_that_sees_little():
    """An eigenvector beside a random vector: its one node has all the weight."""
    values = SPECTRA["copies"].double()
    (k,) = matrices(values, 1)
    top = torch.linalg.eigh(k)[1][:, -1:]
    start = torch.cat([top, torch.randn(N, 1, dtype=torch.float64)], 1)
    nodes, weights = quadrature(lambda v: k @ v, start, torch.zeros(N, 0).double(), 10)
    assert float((weights * (nodes - 1).abs())[0].sum()) < 1e-12
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())


def test_known_eigenpairs_are_exact_and_sharpen_the_rest():
    n = 600
    values = torch.arange(1, n + 1, dtype=torch.float64) ** -1.5
    (k,) = matrices(values, 1)
    known = largest_eigenvalues(lambda v: k @ v, n, 30, tolerance=1e-6)
    options: Any = {"probes": 6, "steps": 40, "seed": SEED}
    plain, sharp = (
        spectral_density(lambda v: k @ v, n, known=pairs, **options) for pairs in (None, known)
    )
    top = sharp.grid > float(values[29]) * (1 + 1e-6)
    assert inside(sharp.low, sharp.high, values, sharp.grid)[top].all()
    assert (sharp.low[top] == sharp.high[top]).all()
    again = [
        spectral_density(lambda v: k @ v, n, known=pairs, **options | {"seed": SEED + 1 + i})
        for i in range(2)
        for pairs in (None, known)
    ]
    # Neighbouring points of one grid miss together: one draw in hundreds leaves a tenth outside.
    held = [inside(found.low, found.high, values, found.grid) for found in (plain, sharp, *again)]
    assert torch.cat(held).double().mean() > 0.95
    widths = []
    for found in (plain, sharp):
        tail = (found.grid > 1e-4) & (found.grid < float(values[30]))
        widths.append(float(((found.high - found.low) / found.count)[tail].mean()))
    assert widths[1] < 0.7 * widths[0]
    assert abs(float(sharp.moment(1)) - float(values.sum())) < 0.02 * float(values.sum())
    assert sharp.products == plain.products == 240


def test_density_follows_a_power_law_and_sums_to_the_count():
    n, exponent = 1_000, 1.25
    values = torch.arange(1, n + 1, dtype=torch.float64) ** -exponent
    found = spectral_density(lambda v: values[:, None] * v, n, probes=16, steps=50, seed=SEED)
    spacing = float(found.grid[1].log() - found.grid[0].log())
    assert float(found.density.sum()) * spacing == pytest.approx(float(found.count[0]), rel=1e-6)
    middle = (found.grid > 1e-3) & (found.grid < 3e-2)
    slope = np.polyfit(found.grid[middle].log(), found.density[middle].log(), 1)[0]
    assert slope == pytest.approx(-1 / exponent, abs=0.1)
    dimension = found.sum_of(lambda v: v / (v + 1e-3))
    exact = float((values / (values + 1e-3)).sum())
    assert abs(dimension.value - exact) < 4 * (dimension.interval[1] - dimension.interval[0])
    assert math.isclose(dimension.value, exact, rel_tol=0.15)


def test_repeats_itself_reports_and_leaves_the_random_state():
    (k,), state = matrices(SPECTRA["slow"], 1), torch.get_rng_state()
    seen: list[tuple[int, int]] = []
    options: Any = {"probes": 3, "steps": 5}
    one = spectral_density(
        lambda v: k @ v, N, seed=2, progress=lambda *at: seen.append(at), **options
    )
    two, other = (spectral_density(lambda v: k @ v, N, seed=s, **options) for s in (2, 9))
    assert torch.equal(one.nodes, two.nodes)
    assert not torch.equal(one.nodes, other.nodes)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == [(3 * i, 15) for i in range(1, 6)]
    assert one.products == 15


def test_small_and_flat_matrices():
    for n in (2, 3, 10):
        found = spectral_density(lambda v: 2 * v, n, probes=3, steps=64)
        assert (found.low <= n).all()
        assert float(found.moment(1)) == pytest.approx(2 * n)
        assert torch.isfinite(found.density).all()


def test_refuses():
    known = largest_eigenvalues(lambda v: v, 6, 6)
    refusals: dict[str, Any] = {
        "at least 2": {"probes": 1},
        "interval": {"steps": 0},
        "same matrix": {"known": largest_eigenvalues(lambda v: v, 5, 2)},
        "nothing is left": {"known": known},
        "between 0 and 1": {"level": 0.0},
    }
    for says, options in refusals.items():
        with pytest.raises(ValueError, match=says) as refused:
            spectral_density(lambda v: v, 6, **options)
        assert ". " not in str(refused.value)
    with pytest.raises(ValueError, match="no positive eigenvalue"):
        spectral_density(torch.zeros_like, 6)
    with pytest.raises(ValueError, match="nan or infinity"):
        spectral_density(lambda v: v * torch.nan, 6)
