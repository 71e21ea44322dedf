from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ntkscale.scaling import fit_power_law
from ntkscale.theory.scaling_model import measured, power_law
from ntkscale.theory.scaling_model.mean_field import mean_field
from ntkscale.theory.scaling_model.sgd import lazy_sgd

RNG = np.random.default_rng()


@pytest.mark.parametrize("batch", [1.0, 7.0, None])
def test_second_moments_step_by_step(batch: float | None) -> None:
    """Against the whole matrix E v v^T, off-diagonal entries and all."""
    values = np.sort(RNG.uniform(0.01, 1, 6))[::-1]
    spectrum = measured(values, RNG.standard_normal(6), tail_power=0.2)
    eta, sigma = 0.2, 0.3 if batch else 0.0
    per_b = 1 / batch if batch else 0.0
    moments = np.outer(spectrum.target, spectrum.target)
    expected = []
    lam = np.diag(values)
    for _ in range(50):
        expected.append(np.trace(lam @ moments) + 0.2)
        noise = per_b * ((expected[-1] + sigma**2) * lam + lam @ moments @ lam)
        mean = (np.eye(6) - eta * lam) @ moments @ (np.eye(6) - eta * lam)
        moments = mean + eta**2 * noise
    found = lazy_sgd(spectrum, range(50), learning_rate=eta, batch_size=batch, noise=sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def simulated(
    values: np.ndarray, target: np.ndarray, steps: int, runs: int, eta: float, batch: int
) -> np.ndarray:
    """mse (steps + 1, runs) of SGD on fresh Gaussian features, as written down."""
    v = np.repeat(target[None], runs, axis=0)
    mse = [np.square(v) @ values]
    for _ in range(steps):
        psi = RNG.standard_normal((runs, batch, len(values))) * np.sqrt(values)
        v = v - eta / batch * np.einsum("rbm,rb->rm", psi, np.einsum("rbm,rm->rb", psi, v))
        mse.append(np.square(v) @ values)
    return np.array(mse)


def test_mean_of_simulations() -> None:
    values, runs, batch = np.sort(RNG.uniform(0.05, 1, 8))[::-1], 3000, 4
    spectrum = measured(values, RNG.standard_normal(8))
    mse = simulated(values, spectrum.target[:, 0], 60, runs, 0.15, batch)
    found = lazy_sgd(spectrum, range(61), learning_rate=0.15, batch_size=batch)
    error = mse.std(axis=1, ddof=1) / runs**0.5
    assert (np.abs(mse.mean(axis=1) - found) <= 5 * error + 1e-12).all()


def test_mean_field_is_its_limit_of_large_batches() -> None:
    spectrum = power_law(1.5, 0.8, num_modes=10_000, modes_per_decade=10)

    def gap(batch: float) -> float:
        options: dict[str, Any] = {"learning_rate": 0.3, "batch_size": batch, "noise": 0.4}
        theory = mean_field(spectrum, 0.0, 60, **options).mse
        exact = lazy_sgd(spectrum, range(60), **options)
        return float(np.abs(theory / exact - 1).max())

    assert gap(400.0) < gap(40.0) / 8
    assert gap(40.0) < 0.02


def test_rows_that_stand_for_alike_modes_and_several_outputs() -> None:
    spectrum = measured([1.0, 0.3, 0.1], RNG.standard_normal((3, 2)))
    rows = np.repeat(np.arange(3), 4)
    apart = replace(
        spectrum,
        eigenvalues=spectrum.eigenvalues[rows],
        target=spectrum.target[rows],
        count=np.ones(12),
    )
    together = replace(spectrum, count=np.full(3, 4.0))
    options: dict[str, Any] = {"learning_rate": 0.1, "batch_size": 3, "noise": 0.2}
    both = lazy_sgd(together, range(40), **options)
    np.testing.assert_allclose(lazy_sgd(apart, range(40), **options), both, rtol=1e-9)
    each = [
        lazy_sgd(replace(together, target=together.target[:, [c]]), range(40), **options)
        for c in range(2)
    ]
    np.testing.assert_allclose(both, np.sum(each, axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.5, 2.2), (2.0, 2.5), (1.25, 1.8), (3.0, 2.5), (1.5, 0.5), (1.5, 1.1)]
)
def test_late_slope(alpha: float, beta: float) -> None:
    """Super-easy tasks end in the noise of the batches, 2 - 1/alpha; the others do not see it."""
    spectrum = power_law(alpha, beta, num_modes=10**10, modes_per_decade=20)
    steps = np.unique(np.logspace(5, 7, 41).astype(int))
    fit = fit_power_law(steps, lazy_sgd(spectrum, steps, learning_rate=0.2, batch_size=8))
    assert fit.is_power_law
    assert fit.exponent == pytest.approx(min(beta, 2 - 1 / alpha), abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 2.2), (2.0, 2.5)])
def test_late_slope_of_simulations(alpha: float, beta: float) -> None:
    spectrum = power_law(alpha, beta, num_modes=600)
    batch, runs, steps = 4, 24, 8000
    mse = simulated(spectrum.eigenvalues, spectrum.target[:, 0], steps, runs, 0.25, batch)
    mse += spectrum.tail_power
    exact = lazy_sgd(spectrum, range(steps + 1), learning_rate=0.25, batch_size=batch)
    ratio = mse[1000:] / exact[1000:, None]
    assert abs(ratio.mean() - 1) < 4 * ratio.mean(axis=0).std(ddof=1) / runs**0.5 + 0.01
    window = np.unique(np.logspace(3, np.log10(steps), 40).astype(int))
    fit = fit_power_law(window, [mse[int(w / 1.1) : int(w * 1.1)].mean() for w in window])
    assert abs(fit.exponent - (2 - 1 / alpha)) < 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": [0.5]}, "whole"),
        ({"steps": [-1]}, "zero or positive"),
        ({"learning_rate": 0.0}, "learning_rate must"),
        ({"batch_size": 0}, "batch_size must"),
        ({"noise": -1.0}, "standard deviation"),
        ({"learning_rate": 1.5, "batch_size": 2}, "lambda_1"),
        ({"learning_rate": 0.9, "batch_size": 1}, "feeds itself"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"steps": [1], "learning_rate": 0.1, "batch_size": 8}
    spectrum = power_law(1.2, 0.6, num_modes=200)
    with pytest.raises(ValueError, match=words):
        lazy_sgd(spectrum, **{**options, **changes})
