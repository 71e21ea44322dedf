import time

import numpy as np
import pytest
from scipy.special import zeta

from ntkscale.theory.scaling_model import measured, power_law

SEED = time.time_ns() % 2**32


def test_power_law_and_its_tails() -> None:
    spectrum = power_law(1.5, 0.6, num_modes=300)
    k = np.arange(1, 301.0)
    assert spectrum.eigenvalues == pytest.approx(k**-1.5)
    assert spectrum.power == pytest.approx(k**-1.9)
    assert spectrum.total_power == pytest.approx(zeta(1.9))
    assert spectrum.eigenvalues.sum() + spectrum.tail_trace == pytest.approx(zeta(1.5))


@pytest.mark.parametrize("num_modes", [1, 49, 50, 51, 997, 10**12])
def test_bins_keep_trace_power_and_number(num_modes: int) -> None:
    rng = np.random.default_rng(SEED)
    alpha, beta = rng.uniform(1.2, 3), rng.uniform(0.2, 2)
    rows = power_law(alpha, beta, num_modes=num_modes, modes_per_decade=20)
    assert rows.num_modes == pytest.approx(num_modes)
    assert rows.total_power == pytest.approx(zeta(alpha * beta + 1), rel=1e-10)
    trace = (rows.count * rows.eigenvalues).sum() + rows.tail_trace
    assert trace == pytest.approx(zeta(alpha), rel=1e-10)
    assert (np.diff(rows.eigenvalues) < 0).all()


def test_measured_sorts_and_gives_dead_directions_to_the_tail() -> None:
    spectrum = measured([0.1, 2.0, -1e-20, 0.0], [[1.0, 0], [2, 1], [3, 0], [0, 1]], tail_power=0.5)
    assert spectrum.eigenvalues == pytest.approx([2.0, 0.1])
    assert spectrum.power == pytest.approx([5.0, 1.0])
    assert spectrum.tail_power == pytest.approx(10.5)


@pytest.mark.parametrize(
    ("values", "along", "tails", "words"),
    [
        ([1.0, 2.0], [1.0], {}, "do not belong together"),
        ([1.0, np.nan], [1.0, 1.0], {}, "not finite"),
        ([-1.0], [1.0], {}, "no eigenvalue is positive"),
        ([1.0], [1.0], {"tail_power": -1.0}, "tails are sums"),
    ],
)
def test_measured_refuses(values: list, along: list, tails: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measured(values, along, **tails)


@pytest.mark.parametrize(
    ("alpha", "beta", "rows", "words"),
    [
        (1.0, 0.5, {"num_modes": 10}, "alpha must be above 1"),
        (2.0, 0.0, {"num_modes": 10}, "beta must be above 0"),
        (2.0, 0.5, {"num_modes": 0}, "num_modes must be"),
        (2.0, 0.5, {"num_modes": 100, "modes_per_decade": 0}, "modes_per_decade must be"),
    ],
)
def test_power_law_refuses(alpha: float, beta: float, rows: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        power_law(alpha, beta, **rows)
