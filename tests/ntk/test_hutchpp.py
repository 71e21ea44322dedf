"""`estimate_trace`: unbiased, and its intervals cover what they say."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ntkscale.ntk.spectrum.hutchpp import estimate_trace
from ntkscale.ntk.spectrum.interval import mean_interval, student_t

SEED = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
N = 80
SPECTRA = {
    "power law": torch.arange(1, N + 1.0) ** -1.5,
    "slow": torch.arange(1, N + 1.0) ** -0.5,
    "exponential": 0.8 ** torch.arange(N),
    "rank 20": torch.cat([torch.ones(20), torch.zeros(N - 20)]),
}


def matrices(values: Tensor, count: int) -> Tensor:
    """Matrices with these eigenvalues and random eigenvectors, one after the other."""
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    n = len(values)
    q = torch.linalg.qr(torch.randn(count, n, n, generator=generator, dtype=torch.float64))[0]
    return (q * values.double()) @ q.mT


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_cover(name):
    values = SPECTRA[name].double()
    exact, found = float(values.sum()), []
    for i, k in enumerate(matrices(values, 200)):
        found.append(estimate_trace(lambda v, k=k: k @ v, N, products=30, seed=SEED + i))
    covered = np.mean([f.interval[0] <= exact <= f.interval[1] for f in found])
    assert covered >= 0.88, f"{covered:.3f} of intervals at 0.95"
    assert all(f.products == 30 and f.level == 0.95 for f in found)
    errors = np.array([f.value for f in found]) - exact
    assert abs(errors.mean()) <= 4.5 * errors.std() / np.sqrt(len(errors))
    assert errors.std() < 0.1 * exact


def test_error_falls_faster_than_that_of_samples():
    values = SPECTRA["power law"].double()
    spread = []
    for products in (12, 36):
        found = [
            estimate_trace(lambda v, k=k: k @ v, N, products=products, seed=i).value
            for i, k in enumerate(matrices(values, 60))
        ]
        spread.append(np.sqrt(np.mean((np.array(found) - float(values.sum())) ** 2)))
    assert spread[1] < spread[0] / 3, "three times the products, plain samples gain 1.7"


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_small_matrices_are_taken_whole(n):
    (k,) = matrices(torch.arange(1.0, n + 1), 1)
    found = estimate_trace(lambda v: k @ v, n, products=30)
    assert found.value == pytest.approx(float(k.trace()), rel=1e-12)
    assert found.interval == (found.value, found.value)
    assert found.products == n
    assert float(found) == found.value


def test_a_matrix_within_the_sketch_is_exact():
    (k,) = matrices(torch.cat([torch.ones(5), torch.zeros(75)]), 1)
    found = estimate_trace(lambda v: k @ v, 80, products=30)
    assert found.value == pytest.approx(5, rel=1e-12)
    assert found.interval[1] - found.interval[0] < 1e-10


def test_repeats_itself_reports_and_leaves_the_random_state():
    (k,), state = matrices(SPECTRA["slow"], 1), torch.get_rng_state()
    seen: list[tuple[int, int]] = []
    one = estimate_trace(lambda v: k @ v, N, seed=3, progress=lambda *at: seen.append(at))
    assert one == estimate_trace(lambda v: k @ v, N, seed=3)
    assert one != estimate_trace(lambda v: k @ v, N, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen[-1] == (30, 30)
    assert sorted(seen) == seen


def test_refuses():
    with pytest.raises(ValueError, match="at least 6") as refused:
        estimate_trace(lambda v: v, 10, products=5)
    assert ". " not in str(refused.value)
    with pytest.raises(ValueError, match="nan or infinity"):
        estimate_trace(lambda v: v * torch.inf, 100)
    with pytest.raises(ValueError, match="between 0 and 1"):
        estimate_trace(lambda v: v, 100, level=1.0)


def test_student_t_is_right():
    for freedom in (1, 2, 3, 4, 7, 20, 101):
        for level in (0.01, 0.5, 0.9, 0.95, 0.9999):
            assert student_t(freedom, level) == pytest.approx(
                stats.t.ppf((1 + level) / 2, freedom), rel=1e-9
            )
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_t(0, 0.95)


def test_mean_intervals_cover_sums_of_squares():
    """Of one degree of freedom, the most skewed there are, and of many, which are normal."""
    rng = np.random.default_rng(SEED)
    for freedom, least in ((1, 0.86), (50, 0.93)):
        samples = torch.from_numpy(rng.chisquare(freedom, (8, 4_000)))
        _, low, high = mean_interval(samples, 0.95)
        covered = float(((low <= freedom) & (freedom <= high)).double().mean())
        assert covered >= least, f"{covered:.3f} at {freedom}"
    with pytest.raises(ValueError, match="at least two"):
        mean_interval(torch.ones(1, 3), 0.95)
