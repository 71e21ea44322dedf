"""`largest_eigenvalues` against dense eigenvalues: decays, copies, rank, restarts, honesty."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale.ntk.spectrum.krylov import Space
from ntkscale.ntk.spectrum.lanczos import LONGEST, EigenPairs, largest_eigenvalues

SEED = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31


def matrix(values: Tensor) -> Tensor:
    """A matrix with these eigenvalues and random eigenvectors."""
    print(f"seed {SEED}")
    generator = torch.Generator().manual_seed(SEED)
    n = len(values)
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    k = (q * values) @ q.T
    return (k + k.T) / 2


def power_law(n: int, exponent: float) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64) ** -exponent


def assert_right(found: EigenPairs, k: Tensor, top: int, relative: float = 1e-6) -> None:
    exact = torch.linalg.eigvalsh(k).flip(0)[:top]
    u, values = found.vectors, found.values
    assert bool(found.converged.all())
    assert bool((values[:-1] >= values[1:]).all())
    assert ((values - exact).abs() <= relative * exact.abs() + 1e-12 * exact[0]).all()
    torch.testing.assert_close(u.T @ u, torch.eye(top, dtype=u.dtype), rtol=0, atol=1e-12)
    assert (u.gather(0, u.abs().argmax(0, keepdim=True)) > 0).all()
    residuals = torch.linalg.vector_norm(k @ u - u * values, dim=0)
    scale = max(float(exact[0]), 1e-300)
    assert (residuals / scale - found.residuals).abs().max() < 1e-13


@pytest.mark.parametrize("block", [1, 2, 5])
@pytest.mark.parametrize("exponent", [0.6, 1.2, 2.0])
def test_power_laws(exponent, block):
    k = matrix(power_law(400, exponent))
    found = largest_eigenvalues(lambda v: k @ v, 400, 30, block=block, seed=SEED)
    assert_right(found, k, 30)
    assert found.own_residuals.max() <= 1e-4
    assert found.restarts == 0


def test_takes_few_products():
    spent = 0
    k = matrix(power_law(1_500, 1.5))

    def times(v):
        nonlocal spent
        spent += v.shape[1]
        return k @ v

    found = largest_eigenvalues(times, 1_500, 50, seed=SEED)
    assert found.products == spent <= 120
    assert found.iterations == spent // 2
    assert found.own_residuals.max() <= 1e-4


SPECTRA = {
    "identity": torch.ones(80),
    "thirty copies": torch.cat(
        [power_law(5, 1.0), torch.full((30,), 0.1), power_law(85, 2.0) / 50]
    ),
    "copies at the end": torch.cat([power_law(15, 0.5), torch.full((15,), 0.2), torch.zeros(60)]),
    "pairs": power_law(60, 1.5).repeat_interleave(2),
    "harmonics": torch.cat([torch.full((2 * i + 1,), (1.0 + i) ** -3) for i in range(11)]),
    "one spike": torch.cat([torch.tensor([1e6]), power_law(119, 1.0)]),
    "rank 7": torch.cat([power_law(7, 1.0), torch.zeros(93)]),
    "exponential": 0.7 ** torch.arange(100.0),
}


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("name", SPECTRA)
def test_repeated_and_vanishing_eigenvalues(name, block):
    k = matrix(SPECTRA[name].double())
    for top in (1, 20, 40):
        found = largest_eigenvalues(lambda v: k @ v, len(k), top, block=block, seed=SEED)
        exact = torch.linalg.eigvalsh(k).flip(0)
        zero = 1e-12 * float(exact[0])
        assert bool(found.converged.all())
        wrong = (found.values - exact[:top]).abs()
        assert (wrong <= 1e-6 * exact[:top].abs() + zero).all(), wrong.max()


def test_a_zero_matrix():
    found = largest_eigenvalues(torch.zeros_like, 9, 4)
    assert not found.values.any()
    assert not found.residuals.any()
    assert not found.own_residuals.any()
    assert bool(found.converged.all())


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_every_eigenvalue_of_a_small_matrix(n):
    k = matrix(power_law(n, 1.0))
    for top in range(1, n + 1):
        assert_right(largest_eigenvalues(lambda v: k @ v, n, top, block=3, seed=SEED), k, top)


def test_nearly_all_eigenvalues():
    k = matrix(power_law(200, 1.5))
    found = largest_eigenvalues(lambda v: k @ v, 200, 197)
    assert_right(found, k, 197, relative=1e-9)
    assert found.products == 200


@pytest.mark.parametrize("columns", [0, 50])
def test_restarts_keep_within_memory_and_cost_little(columns, monkeypatch):
    k = matrix(power_law(600, 1.2))
    held = []
    added = Space.add

    def add(self, *args):
        added(self, *args)
        held.append(self.size)

    monkeypatch.setattr(Space, "add", add)
    free = largest_eigenvalues(lambda v: k @ v, 600, 25, seed=SEED)
    held.clear()
    found = largest_eigenvalues(lambda v: k @ v, 600, 25, memory=16 * 600 * columns, seed=SEED)
    assert_right(found, k, 25)
    assert found.restarts > 0
    look = 2 * LONGEST
    assert max(held) <= max(columns, 25 + 8 * 2) + look
    assert found.products <= 2 * free.products


def test_inexact_products_show_in_the_residuals():
    """Products in float32 of a matrix in float32: eigenvalues, and residuals that admit it."""
    k = matrix(power_law(300, 1.5))
    k32 = k.float()
    found = largest_eigenvalues(lambda v: k32 @ v.float(), 300, 20, precision=torch.float32)
    u, values = found.vectors, found.values
    exact = torch.linalg.eigvalsh(k32.double()).flip(0)[:20]
    assert ((values - exact).abs() <= 1e-6 * exact[0]).all()
    residuals = torch.linalg.vector_norm(k32.double() @ u - u * values, dim=0) / exact[0]
    assert (residuals - found.residuals).abs().max() < 1e-6


def test_more_eigenvalues_than_float32_has():
    """A numerical rank of 20: the rest is rounding, and is neither waited for nor missed."""
    k = matrix(torch.cat([power_law(20, 1.0), torch.full((180,), 1e-9)])).float()
    found = largest_eigenvalues(lambda v: k @ v.float(), 200, 40, precision=torch.float32)
    assert bool(found.converged.all())
    assert (found.values[20:].abs() < 1e-5).all()
    assert found.products <= 80


def test_equal_calls_give_equal_bits_and_leave_the_random_state():
    k, state = matrix(power_law(120, 1.0)), torch.get_rng_state()
    one, two, other = (
        largest_eigenvalues(lambda v: k @ v, 120, 6, seed=seed) for seed in (5, 5, 6)
    )
    assert torch.equal(one.vectors, two.vectors)
    assert not torch.equal(one.vectors, other.vectors)
    assert torch.equal(torch.get_rng_state(), state)


def test_stops_when_told_and_says_so():
    k = matrix(power_law(500, 0.5))
    seen: list[tuple[int, int]] = []
    found = largest_eigenvalues(
        lambda v: k @ v, 500, 30, most=40, progress=lambda *at: seen.append(at)
    )
    assert found.products <= 42
    assert not bool(found.converged.all())
    assert seen[-1][1] == 30
    residuals = torch.linalg.vector_norm(k @ found.vectors - found.vectors * found.values, dim=0)
    assert torch.allclose(residuals / found.values[0], found.residuals, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 11}, "k is 11"),
        ({"block": 0}, "block is 0"),
        ({"tolerance": 0.0}, "tolerance is 0"),
        ({"most": 2}, "most is 2"),
    ],
)
def test_refuses(options, says):
    with pytest.raises(ValueError, match=says) as refused:
        largest_eigenvalues(lambda v: v, 10, **({"k": 3} | options))
    assert ". " not in str(refused.value)


def test_refuses_products_that_are_not_finite():
    with pytest.raises(ValueError, match="nan or infinity"):
        largest_eigenvalues(lambda v: v * torch.nan, 10, 3)
