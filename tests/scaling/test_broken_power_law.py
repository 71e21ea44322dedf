"""fit_broken_power_law against crossovers whose law is known."""

import numpy as np
import pytest

from ntkscale.scaling import fit_broken_power_law, fit_power_law


def crossover(x, early, late, at, sharpness):
    """Product form, written without the logarithms of the code under test."""
    r = x / at
    return r**-early * ((1 + r**sharpness) / 2) ** (-(late - early) / sharpness)


@pytest.mark.parametrize("seed", range(4))
def test_exact_crossover_is_recovered(seed):
    rng = np.random.default_rng(seed)
    early, late, sharpness = rng.uniform(0.1, 0.5), rng.uniform(0.7, 1.5), rng.uniform(0.6, 4)
    at = 10 ** rng.uniform(1.5, 3.5)
    x = np.geomspace(1, 1e5, int(rng.integers(30, 120)))
    y = 3.0 * crossover(x, early, late, at, sharpness)
    fit = fit_broken_power_law(x, y)
    assert fit.is_broken
    assert (fit.early, fit.late) == pytest.approx((early, late), abs=1e-4)
    assert fit.crossover == pytest.approx(at, rel=1e-3)
    assert fit.sharpness == pytest.approx(sharpness, rel=1e-3)
    assert fit.prefactor == pytest.approx(3.0, rel=1e-3)
    np.testing.assert_allclose(fit(x), y, rtol=1e-4)


def test_intervals_cover():
    rng = np.random.default_rng(30)
    x = np.geomspace(1, 1e5, 80)
    covered = np.zeros(3)
    for _ in range(20):
        y = crossover(x, 0.3, 0.9, 300.0, 1.5) * np.exp(0.02 * rng.standard_normal(80))
        fit = fit_broken_power_law(x, y)
        covered += [
            fit.early_interval[0] <= 0.3 <= fit.early_interval[1],
            fit.late_interval[0] <= 0.9 <= fit.late_interval[1],
            fit.crossover_interval[0] <= 300 <= fit.crossover_interval[1],
        ]
    assert (covered >= 17).all()


def test_plain_power_law_is_not_broken():
    rng = np.random.default_rng(31)
    x = np.geomspace(1, 1e3, 60)
    found = [
        fit_broken_power_law(x, x**-0.6 * np.exp(0.03 * rng.standard_normal(60))).is_broken
        for _ in range(8)
    ]
    assert sum(found) <= 1


def test_late_exponent_beats_a_line_on_a_slow_crossover():
    x = np.geomspace(1, 1e5, 60)
    y = 1 / (0.3 * x**0.25 + x**0.7)
    broken, line = fit_broken_power_law(x, y), fit_power_law(x, y, window=(1, 1e5))
    assert abs(broken.late - 0.7) < 0.3 * abs(line.exponent - 0.7)


def test_bad_input():
    x = np.geomspace(1, 10, 12)
    with pytest.raises(ValueError, match="not positive"):
        fit_broken_power_law(x, np.linspace(1, -1, 12))
    with pytest.raises(ValueError, match="at least 10 points"):
        fit_broken_power_law(x, 1 / x, window=(1, 3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_broken_power_law(x, 1 / x, confidence=0.0)


def test_a_curve_may_flatten_and_break_late():
    x = np.geomspace(1, 1e5, 80)
    flatter = fit_broken_power_law(x, crossover(x, 0.9, 0.3, 300.0, 2.0))
    assert flatter.is_broken
    assert (flatter.early, flatter.late) == pytest.approx((0.9, 0.3), abs=1e-3)
    # Beyond e^3 from the middle of the window, where its sharpness would be bounded.
    late = fit_broken_power_law(x, crossover(x, 0.3, 0.9, 1.2e4, 3.0))
    assert late.is_broken and late.reason == ""
    assert late.crossover == pytest.approx(1.2e4, rel=1e-3)
