"""A width as a spectrum of its own, against the flow of the draw and against steps of SGD."""

import numpy as np
import pytest

from ntkscale.theory import scaling_model as sm

SEED = int(np.random.default_rng().integers(2**31))


@pytest.mark.parametrize(("gamma", "modes"), [(0.0, 300), (1.3, 300), (0.6, 20)])
def test_its_flow_is_that_of_the_width(gamma: float, modes: int) -> None:
    spectrum = sm.power_law(1.6, 0.8, num_modes=modes)
    times = np.geomspace(0.1, 1e4, 15)
    own = sm.at_width(spectrum, 33, seed=SEED)
    found = sm.flow(own, gamma, times, rtol=1e-6)
    exact = sm.finite_flow(spectrum, gamma, times, width=33, seed=SEED, rtol=1e-6)
    assert found.mse == pytest.approx(exact.mse, rel=2e-6)
    assert found.kernel_scale == pytest.approx(exact.kernel_scale, rel=1e-5)


def test_its_expected_sgd_is_the_mean_of_simulations() -> None:
    spectrum = sm.power_law(1.5, 2.0, num_modes=60)
    steps, rate, batch = [10, 100, 400], 0.2, 3
    expected = sm.lazy_sgd(
        sm.at_width(spectrum, 20, seed=SEED), steps, learning_rate=rate, batch_size=batch
    )
    # One A_0, many batches: the sampling itself is what is averaged here.
    own = sm.at_width(spectrum, 20, seed=SEED)
    rng, draws = np.random.default_rng(SEED), 4000
    theta, root = own.target[:, 0], np.sqrt(own.eigenvalues)
    c, losses = np.zeros((draws, len(theta))), []
    for step in range(1, steps[-1] + 1):
        u = rng.standard_normal((draws, batch, len(theta))) * root
        rest = np.sqrt(own.tail_power) * rng.standard_normal((draws, batch))
        missed = np.einsum("dbk,dk->db", u, theta - c) + rest
        c = c + rate / batch * np.einsum("dbk,db->dk", u, missed)
        if step in steps:
            losses.append((own.eigenvalues * np.square(theta - c)).sum(axis=1) + own.tail_power)
    mean = np.mean(losses, axis=1)
    error = np.std(losses, axis=1) / np.sqrt(draws)
    assert (np.abs(mean - expected) < 5 * error + 1e-3 * expected).all()
    assert (expected > own.tail_power).all()


def test_what_is_refused() -> None:
    binned = sm.power_law(1.5, 0.5, num_modes=1000, modes_per_decade=10)
    with pytest.raises(ValueError, match="rows of this spectrum"):
        sm.at_width(binned, 10)
    with pytest.raises(ValueError, match="2 GiB"):
        sm.at_width(sm.power_law(1.5, 0.5, num_modes=100_000), 10_000)
