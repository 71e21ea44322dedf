"""What fits are made of: the laws' derivatives, the noise that is weighed, and the bend."""

import numpy as np
import pytest

from ntkscale.scaling.curves import power_law, power_law_with_offset, smoothly_broken_power_law
from ntkscale.scaling.departure import departure
from ntkscale.scaling.noise import Noise, weigh_noise

U = np.linspace(-3.0, 3.0, 13)


@pytest.mark.parametrize(
    ("law", "parameters"),
    [
        (power_law, [0.3, 0.7]),
        (power_law_with_offset, [0.3, 0.7, 0.2]),
        (power_law_with_offset, [0.3, 0.7, -0.05]),
        (smoothly_broken_power_law, [0.3, 0.4, 1.1, 0.5, 0.6]),
        (smoothly_broken_power_law, [0.3, 1.1, -0.4, -0.5, -0.6]),
    ],
)
def test_derivatives_of_the_laws(law, parameters):
    at = np.array([parameters])
    _, gradient = law(U, at)
    for k in range(len(parameters)):
        step = np.zeros_like(at)
        step[0, k] = 1e-6
        slope = (law(U, at + step)[0] - law(U, at - step)[0]) / 2e-6
        np.testing.assert_allclose(gradient[0, :, k], slope[0], atol=1e-8)


def test_noise_is_rough_or_has_a_double_root():
    design = np.column_stack([np.ones_like(U), U])
    noise = weigh_noise(np.random.default_rng(0).standard_normal(len(U)), design)
    half = len(noise.first) // 2
    assert noise.freedom == len(U) - 2
    np.testing.assert_array_equal(noise.second[:half], 0.0)
    # z^2 - first z - second has one root, twice.
    np.testing.assert_allclose(noise.first[half:] ** 2, -4 * noise.second[half:])
    assert noise.weight.sum() == pytest.approx(1.0)


def test_drawn_noise_is_correlated_from_its_first_point_on():
    one = np.ones(1)
    noise = Noise(0.9 * one, 0.0 * one, one, 100 * one, 100)
    drawn = noise.draw(4000, 4, np.random.default_rng(1))
    for i in range(3):
        assert np.corrcoef(drawn[:, i], drawn[:, i + 1])[0, 1] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("points", [9, 20, 40])
def test_a_parabola_is_a_bend_with_the_exponents_of_its_thirds(points):
    u = np.linspace(-3.0, 3.0, points)
    curve = -0.5 * u - 0.02 * u**2
    design = np.column_stack([np.ones_like(u), -u])
    slope = -float(np.polyfit(u, curve, 1)[0])
    residual = curve - np.polyval(np.polyfit(u, curve, 1), u)
    noise = 1e-4 * np.random.default_rng(points).standard_normal(points)
    found = departure(u, residual + noise, design, slope, np.random.default_rng(0))
    # The mean of 0.5 + 0.04 u over each third of [-3, 3].
    assert found.exponents == pytest.approx((0.42, 0.5, 0.58), abs=2e-3)
    assert found.significant
