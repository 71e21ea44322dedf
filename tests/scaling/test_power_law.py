"""fit_power_law against curves whose law is known."""

import numpy as np
import pytest
import torch

from ntkscale.scaling import fit_power_law, local_slope
from ntkscale.scaling.noise import weigh_noise


def autoregression(rng, n, length, spread):
    """First-order noise by its covariance matrix: independent of the recursion under test."""
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    covariance = np.exp(-distance / max(length, 1e-3))
    return spread * np.linalg.cholesky(covariance) @ rng.standard_normal(n)


def test_exact_law_is_recovered_to_rounding():
    x = np.geomspace(0.3, 5e4, 37)
    fit = fit_power_law(x, 2.5 * x**-0.62)
    assert fit.is_power_law
    assert fit.reason == ""
    assert fit.exponent == pytest.approx(0.62, abs=1e-12)
    assert fit.prefactor == pytest.approx(2.5, rel=1e-10)
    assert fit.interval == pytest.approx((0.62, 0.62), abs=1e-9)
    assert fit.window == pytest.approx((0.3, 5e4))
    assert fit.num_points == 37
    np.testing.assert_allclose(fit(x), 2.5 * x**-0.62, rtol=1e-9)


def test_growth_has_a_negative_exponent():
    x = np.geomspace(1, 1e3, 30)
    assert fit_power_law(x, 0.1 * x**0.4).exponent == pytest.approx(-0.4, abs=1e-12)


def test_tensors_lists_and_any_order_give_the_same_fit():
    rng = np.random.default_rng(3)
    x = np.geomspace(1, 1e3, 40)
    y = x**-0.5 * np.exp(0.05 * rng.standard_normal(40))
    reference = fit_power_law(x, y)
    shuffled = rng.permutation(40)
    assert fit_power_law(torch.tensor(x[shuffled]), torch.tensor(y[shuffled])) == reference
    assert fit_power_law(x.tolist(), y.tolist()) == reference


def test_exponent_is_the_least_squares_line_of_numpy():
    rng = np.random.default_rng(4)
    x = np.sort(rng.uniform(1, 500, 50))
    y = x**-0.8 * np.exp(0.1 * rng.standard_normal(50))
    fit = fit_power_law(x, y, window=(5, 400))
    inside = (x >= 5) & (x <= 400)
    slope, level = np.polyfit(np.log(x[inside]), np.log(y[inside]), 1)
    assert fit.exponent == pytest.approx(-slope, rel=1e-9)
    assert fit.prefactor == pytest.approx(np.exp(level), rel=1e-9)
    assert fit.num_points == inside.sum()


@pytest.mark.parametrize("correlated", [False, True])
def test_interval_covers_the_truth(correlated):
    rng = np.random.default_rng(20 + correlated)
    covered = accepted = 0
    count = 150
    for _ in range(count):
        n = int(rng.integers(20, 201))
        length = rng.uniform(0.0, n / 10) if correlated else 0.0
        p = rng.uniform(0.2, 2.0)
        x = np.geomspace(1, 10 ** rng.uniform(2, 4), n)
        noise = autoregression(rng, n, length, 10 ** rng.uniform(-2, -0.7))
        fit = fit_power_law(x, x**-p * np.exp(noise))
        covered += fit.interval[0] <= p <= fit.interval[1]
        accepted += fit.is_power_law
    assert 0.89 <= covered / count <= 0.993
    assert accepted / count >= 0.97


def test_independent_noise_gives_the_textbook_interval():
    """Student's interval of the slope, within what not knowing the correlation costs."""
    rng = np.random.default_rng(8)
    n = 100
    u = np.linspace(0, 5, n)
    ratios = []
    for _ in range(20):
        noise = 0.1 * rng.standard_normal(n)
        fit = fit_power_law(np.exp(u), np.exp(-0.5 * u + noise))
        residual = noise - np.polyval(np.polyfit(u, noise, 1), u)
        error = np.sqrt(residual @ residual / (n - 2) / ((u - u.mean()) ** 2).sum())
        ratios.append((fit.interval[1] - fit.interval[0]) / (2 * 1.984 * error))
    assert 0.95 < np.mean(ratios) < 1.2


def test_correlation_is_measured_and_widens_the_interval():
    rng = np.random.default_rng(9)
    u = np.linspace(0, 7, 150)
    rho = np.exp(-1 / 8)
    fits = [
        fit_power_law(np.exp(u), np.exp(-0.5 * u + autoregression(rng, 150, length, 0.1)))
        for length in (0.0, 8.0)
        for _ in range(5)
    ]
    white, red = fits[:5], fits[5:]
    assert np.mean([f.residual_correlation for f in white]) < 0.2
    assert np.mean([f.residual_correlation for f in red]) == pytest.approx(rho, abs=0.12)
    widths = [np.mean([f.interval[1] - f.interval[0] for f in group]) for group in (white, red)]
    assert widths[1] > 2 * widths[0]


def test_drawn_noise_has_the_variance_and_correlation_it_was_weighed_from():
    rng = np.random.default_rng(10)
    n = 400
    noise = autoregression(rng, n, 5.0, 0.3)
    drawn = weigh_noise(noise, np.ones((n, 1))).draw(3000, n, rng)
    assert drawn.std() == pytest.approx(0.3, rel=0.25)
    # The same spread at the first and at the last point: stationary from the start.
    assert drawn[:, 0].std() == pytest.approx(drawn[:, -1].std(), rel=0.1)
    neighbours = (drawn[:, 1:] * drawn[:, :-1]).mean() / (drawn**2).mean()
    assert neighbours == pytest.approx(np.exp(-1 / 5), abs=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_offset_is_recovered_with_and_refused_without(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 150))
    x = np.geomspace(1, 10 ** rng.uniform(2, 4), n)
    falling = rng.uniform(0.5, 5) * x**-0.7
    offset = falling[-1] * rng.uniform(1, 10)
    y = (falling + offset) * np.exp(autoregression(rng, n, 2.0, 0.003))
    fit = fit_power_law(x, y, offset=True)
    assert fit.is_power_law
    assert fit.exponent == pytest.approx(0.7, abs=0.03)
    assert fit.offset == pytest.approx(offset, rel=0.05)
    assert fit.offset_interval[0] < fit.offset < fit.offset_interval[1]
    np.testing.assert_allclose(fit(x), falling + offset, rtol=0.02)
    plain = fit_power_law(x, y)
    assert not plain.is_power_law
    assert "offset" in plain.reason or "local exponent" in plain.reason


def test_strong_offset_is_not_read_as_a_small_exponent():
    """A line through this curve reads about a third of the exponent: it must not be believed."""
    x = np.geomspace(1, 1e3, 50)
    y = x**-0.7 + 0.1
    assert -np.polyfit(np.log(x), np.log(y), 1)[0] < 0.35
    assert not fit_power_law(x, y).is_power_law
    assert not fit_power_law(x, y, window=(1, 1e3)).is_power_law
    assert fit_power_law(x, y, offset=True).exponent == pytest.approx(0.7, abs=1e-6)


def test_unsupported_offset_is_said_and_dropped():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 1e3, 60)
    y = x**-0.4 * np.exp(0.05 * rng.standard_normal(60))
    plain, fit = fit_power_law(x, y), fit_power_law(x, y, offset=True)
    assert fit.offset == 0.0
    assert "offset" in fit.reason
    assert fit.exponent == plain.exponent
    assert fit.interval[0] <= plain.interval[0]
    assert fit.interval[1] >= plain.interval[1]


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("offset", [False, True])
def test_exponential_is_refused(spread, offset):
    rng = np.random.default_rng(11)
    for decades in (2, 3, 4):
        x = np.geomspace(1, 10**decades, 60)
        y = np.exp(-8 * x / x[-1] + spread * rng.standard_normal(60))
        fit = fit_power_law(x, y, offset=offset)
        assert not fit.is_power_law
        assert fit.reason


def test_exponential_on_a_linear_axis_is_refused():
    x = np.arange(1.0, 101.0)
    assert not fit_power_law(x, np.exp(-x / 12)).is_power_law


def test_pure_noise_is_refused():
    rng = np.random.default_rng(12)
    refused = 0
    for _ in range(60):
        n = int(rng.integers(20, 201))
        x = np.geomspace(1, 1e3, n)
        y = np.exp(autoregression(rng, n, rng.uniform(0, n / 10), 0.2))
        refused += not fit_power_law(x, y).is_power_law
    assert refused >= 58
    signed = fit_power_law(np.geomspace(1, 1e3, 50), rng.standard_normal(50))
    assert not signed.is_power_law
    assert np.isnan(signed.exponent)
    assert "not positive" in signed.reason
    assert not fit_power_law(np.geomspace(1, 1e3, 50), np.full(50, 0.7)).is_power_law


def test_early_transient_is_cut_and_reported():
    rng = np.random.default_rng(13)
    x = np.geomspace(0.1, 1e5, 120)
    y = (1 + x / 3) ** -0.6 * np.exp(0.01 * rng.standard_normal(120))
    fit = fit_power_law(x, y)
    assert fit.is_power_law
    assert fit.window[0] > 3
    assert fit.window[1] == pytest.approx(1e5)
    assert fit.exponent == pytest.approx(0.6, abs=0.02)
    assert "from x =" in fit.reason


def test_a_law_in_the_last_two_fifths_is_found():
    x = np.geomspace(0.1, 1e5, 120)
    fit = fit_power_law(x, (1 + (x / 300) ** 2) ** -0.3)
    assert fit.is_power_law
    assert 200 < fit.window[0] < 2000
    assert fit.exponent == pytest.approx(0.6, abs=0.02)


def test_an_offset_below_a_fifth_of_the_last_value_is_no_plateau():
    x = np.geomspace(1, 10, 40)
    small, large = (share / (1 - share) * 10**-0.2 for share in (0.19, 0.3))
    assert fit_power_law(x, x**-0.2 + small, window=(1, 10)).is_power_law
    assert "levels off" in fit_power_law(x, x**-0.2 + large, window=(1, 10)).reason


def test_late_departure_is_never_cut_silently():
    x = np.geomspace(1, 1e4, 80)
    fit = fit_power_law(x, x**-0.5 * np.exp(-x / 800))
    assert not fit.is_power_law
    assert fit.window[1] < 1e4
    assert "steepens" in fit.reason
    assert fit_power_law(x, x**-0.5 * np.exp(-x / 800), window=(1, 50)).is_power_law


def test_smooth_curve_in_a_finite_window_is_tolerated_and_spanned():
    """Sum of decaying modes: no noise, a slight bend, and an interval that shows it."""
    k = np.arange(1, 2000)[:, None]
    t = np.geomspace(160, 3500, 40)
    y = (k**-2.0 * np.exp(-2 * 0.07 * k**-2.0 * t)).sum(0)
    fit = fit_power_law(t, y, window=(160, 3500))
    _, local = local_slope(t, y)
    assert fit.is_power_law
    assert fit.exponent == pytest.approx(local.mean(), abs=0.01)
    assert fit.interval[0] <= np.quantile(local, 0.2)
    assert fit.interval[1] >= np.quantile(local, 0.8)
    assert fit.interval[1] - fit.interval[0] < 0.2


def test_same_seed_same_interval():
    rng = np.random.default_rng(14)
    x = np.geomspace(1, 1e3, 30)
    y = x**-0.5 * np.exp(0.1 * rng.standard_normal(30))
    assert fit_power_law(x, y, seed=5) == fit_power_law(x, y, seed=5)
    assert fit_power_law(x, y, seed=5).interval != fit_power_law(x, y, seed=6).interval
    narrow, wide = fit_power_law(x, y, confidence=0.5), fit_power_law(x, y, confidence=0.99)
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        ([1, 2, 3, 4, 5], [1, 2, 3], {}, "shapes"),
        ([1, 2, 3], [3, 2, 1], {}, "at least 5 points"),
        ([0, 1, 2, 3, 4], [5, 4, 3, 2, 1], {}, "positive"),
        ([1, 2, 3, 4, 5], [5, 4, float("nan"), 2, 1], {}, "not finite"),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], {"window": (5, 2)}, "empty"),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], {"window": (2, 4)}, "widen the window"),
        ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], {"confidence": 95}, "between 0 and 1"),
        ([2, 2, 2, 2, 2], [5, 4, 3, 2, 1], {}, "two different x"),
    ],
)
def test_bad_input_is_one_clear_sentence(x, y, options, words):
    with pytest.raises(ValueError, match=words):
        fit_power_law(x, y, **options)


def test_local_slope_of_two_laws():
    x = np.geomspace(1, 1e6, 200)
    y = np.where(x < 1e3, x**-0.3, 1e3**0.6 * x**-0.9)
    at, slope = local_slope(x[::-1], y[::-1])
    np.testing.assert_allclose(at, x)
    np.testing.assert_allclose(slope[x < 300], 0.3, atol=1e-9)
    np.testing.assert_allclose(slope[x > 3e3], 0.9, atol=1e-9)
    with pytest.raises(ValueError, match="span"):
        local_slope(x, y, span=0.0)
