"""The average over A_0 by its deterministic equivalent, against draws and against the plateau."""

import numpy as np
import pytest

from ntkscale.theory import scaling_model as sm

SEED = int(np.random.default_rng().integers(2**31))


def rows(alpha: float, beta: float, width: int) -> sm.Spectrum:
    return sm.power_law(alpha, beta, num_modes=1000 * width, modes_per_decade=30)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.5), (1.4, 1.15), (2.0, 0.8)])
@pytest.mark.parametrize("gamma", [0.0, 0.75])
def test_flows_are_the_mean_of_draws(alpha: float, beta: float, gamma: float) -> None:
    width, draws, times = 96, 24, np.geomspace(0.3, 1e5, 12)
    spectrum = sm.power_law(alpha, beta, num_modes=6 * width)
    found = [
        sm.flow(sm.at_width(spectrum, width, seed=SEED + draw), gamma, times, rtol=1e-3).mse
        for draw in range(draws)
    ]
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(draws)
    expected = sm.flow(sm.mean_at_width(rows(alpha, beta, width), width), gamma, times).mse
    # Relative corrections of order 1/N, a few of them, and five standard errors.
    assert (np.abs(mean - expected) < 5 * error + 3 / width * expected).all()


def test_strong_modes_have_no_tails() -> None:
    # Fast laws before width is felt: a smeared first mode would add 1e-3 / t, three times this.
    width, times = 2**15, np.geomspace(100, 1000, 4)
    own = sm.flow(sm.mean_at_width(rows(3.0, 2.2, width), width), 0.0, times).mse
    endless = sm.solve(3.0, 2.2, 0.0, times)
    # The (1/N) t^-(1 - 1/alpha) of theory, with one prefactor at all times and widths.
    transient = 0.3 * times ** -(1 - 1 / 3.0) / width
    assert own == pytest.approx(endless + transient, rel=0.02)


def test_one_pass_sgd_is_the_mean_of_draws() -> None:
    width, draws, steps = 64, 24, [10, 100, 1000, 10_000]
    spectrum = sm.power_law(1.5, 1.9, num_modes=6 * width)

    def expected(own: sm.Spectrum) -> np.ndarray:
        return sm.lazy_sgd(own, steps, learning_rate=0.25, batch_size=4)

    found = [expected(sm.at_width(spectrum, width, seed=SEED + draw)) for draw in range(draws)]
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(draws)
    theory = expected(sm.mean_at_width(rows(1.5, 1.9, width), width))
    assert (np.abs(mean - theory) < 5 * error + 3 / width * theory).all()


@pytest.mark.parametrize("width", [30, 3000])
def test_what_is_known_of_the_whole(width: int) -> None:
    spectrum = rows(1.3, 0.7, width)
    own = sm.mean_at_width(spectrum, width)
    assert own.total_power == pytest.approx(spectrum.total_power, rel=1e-6)
    assert own.tail_power == pytest.approx(sm.plateau(spectrum, width=width).mse)
    assert own.num_modes == pytest.approx(width)
    trace = float(spectrum.count @ spectrum.eigenvalues) + spectrum.tail_trace
    assert own.count @ own.eigenvalues == pytest.approx(trace, rel=0.02)
    assert (np.diff(own.eigenvalues) < 0).all()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        sm.mean_at_width(rows(1.5, 0.5, 10), 0)
    with pytest.raises(ValueError, match="one output"):
        sm.mean_at_width(sm.measured([1.0, 0.5], np.ones((2, 2))), 1)
    with pytest.raises(ValueError, match="take more modes"):
        sm.mean_at_width(sm.measured([1.0, 0.5], np.ones(2)), 5)


def test_single_modes_are_a_network_of_that_width() -> None:
    width, times = 256, np.geomspace(1.0, 1e4, 9)
    own = sm.mean_at_width(rows(1.5, 1.4, width), width)
    single = sm.single_modes(own, width)
    assert len(single.eigenvalues) == width
    assert (np.diff(single.eigenvalues) < 0).all()
    assert single.total_power == pytest.approx(own.total_power)
    for gamma in (0.0, 0.75):
        ratio = sm.flow(single, gamma, times).mse / sm.flow(own, gamma, times).mse
        assert ratio == pytest.approx(1.0, abs=4 / width)
    with pytest.raises(ValueError, match="the rows stand for"):
        sm.single_modes(own, 2 * width)


def test_batches_on_single_modes_are_those_on_draws() -> None:
    width, rate, steps = 48, 0.2, [1, 40, 200, 1000]
    spectrum = sm.power_law(1.5, 1.9, num_modes=4 * width)
    single = sm.single_modes(sm.mean_at_width(rows(1.5, 1.9, width), width), width)
    found = []
    for own, limit in ((spectrum, width), (single, None)):
        seeds = range(SEED, SEED + 48)
        curves = sm.simulate(
            own, 0.5, steps, learning_rate=rate, width=limit, batch_size=4, exact=False, seeds=seeds
        )
        assert curves.mean_mse is not None
        found.append(curves.mean_mse[:, 1:])
    mean = np.mean(found, axis=1)
    error = np.linalg.norm(np.std(found, axis=1, ddof=1), axis=0) / np.sqrt(48)
    assert (np.abs(mean[0] - mean[1]) < 5 * error + 4 / width * mean[1]).all()
