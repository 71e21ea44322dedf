"""Frontiers of curves whose envelope is known, with and without noise."""

import numpy as np
import pytest

from ntkscale.scaling import frontier

RNG = np.random.default_rng()


def curves(a: float, m: float, widths: list[int], times: np.ndarray, noise: float, seeds: int):
    """t^-a + N^-m; the best N solves a t^-a = m N^-m."""
    return [(times**-a + n**-m) * np.exp(noise * RNG.standard_normal((seeds, 1))) for n in widths]


def test_the_slope_of_two_powers() -> None:
    a, m = RNG.uniform(0.4, 1.2), RNG.uniform(0.5, 1.5)
    widths, times = [2**i for i in range(4, 13)], np.geomspace(1, 1e8, 400)
    found = frontier(widths, [times] * len(widths), curves(a, m, widths, times, 0.0, 1))
    r = a * m / (a + m)
    assert found.slope == pytest.approx(r, abs=0.02)
    assert np.median(found.slope) == pytest.approx(r, abs=5e-3)
    whole = found.over(found.compute[0], found.compute[-1])
    assert whole.exponent == pytest.approx(r, abs=3e-3)
    assert whole.interval[0] <= whole.exponent + 1e-9
    best = found.compute ** (a / (a + m)) * (m / a) ** (1 / (a + m))
    assert found.width == pytest.approx(best, rel=0.08)
    assert found.time * found.width == pytest.approx(found.compute)
    value = found.time**-a + found.width**-m
    assert found.mse == pytest.approx(value, rel=0.02)


def test_intervals_hold_the_truth_mostly() -> None:
    a, m = 0.7, 0.9
    widths, times = [2**i for i in range(4, 12)], np.geomspace(1, 1e6, 120)
    hits = 0
    for _ in range(10):
        found = frontier(widths, [times] * len(widths), curves(a, m, widths, times, 0.1, 12))
        low, high = found.over(found.compute[-1] / 100, found.compute[-1]).interval
        hits += low <= a * m / (a + m) <= high
    assert hits >= 6


def test_what_is_refused() -> None:
    times = np.geomspace(1, 100, 30)
    ladder = [np.ones((2, 30))] * 4
    with pytest.raises(ValueError, match="4 or more"):
        frontier([1, 2, 4], [times] * 3, ladder[:3])
    with pytest.raises(ValueError, match="for every width"):
        frontier([1, 2, 4, 8], [times] * 4, ladder[:3])
    with pytest.raises(ValueError, match="diverged"):
        frontier([1, 2, 4, 8], [times] * 4, [*ladder[:3], np.full((2, 30), np.nan)])
    with pytest.raises(ValueError, match="share hardly any compute"):
        frontier([1, 10, 100, 1000], [times] * 4, ladder)
    falling = [times**-1.0 * np.ones((1, 1))] * 4
    with pytest.raises(ValueError, match="leaves the ladder"):
        frontier([1, 2, 4, 8], [times] * 4, falling)
