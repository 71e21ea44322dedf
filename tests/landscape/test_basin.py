"""Basin times against a search by hand and the exact distribution of the bootstrap."""

import math

import numpy as np
import pytest

from ntkscale.landscape import basin_time, linearly_connected, mean_barrier
from tests.reference.landscape import basin_time_by_search, every_resample

RNG = np.random.default_rng()


def test_time_and_bootstrap_of_random_barriers():
    for _ in range(20):
        count, pairs = int(RNG.integers(2, 8)), int(RNG.integers(2, 5))
        times = np.concatenate([[0.0], np.sort(RNG.uniform(0.1, 9, count - 1))])
        falling = np.linspace(0.08, 0.005, count)[:, None]
        barriers = falling * RNG.lognormal(0, 0.8, (count, pairs))
        found = basin_time(times, barriers, seed=int(RNG.integers(1 << 30)))
        assert found.time == basin_time_by_search(times.tolist(), barriers.tolist(), 0.02)
        chances = every_resample(times.tolist(), barriers.tolist(), 0.02)
        assert found.never == pytest.approx(chances.get(math.inf, 0.0), abs=0.05)
        below = [sum(p for t, p in chances.items() if t <= end) for end in found.interval]
        under = [sum(p for t, p in chances.items() if t < end) for end in found.interval]
        # The quantile of 2,000 draws holds that of the exact distribution within its noise.
        assert under[0] <= 0.025 + 0.02 and below[0] >= 0.025 - 0.02
        assert under[1] <= 0.975 + 0.02 and below[1] >= 0.975 - 0.02
        again = basin_time(times, barriers, threshold=0.02, seed=3)
        assert again == basin_time(times, barriers, seed=3)


def test_a_late_barrier_postpones_the_time():
    barriers = [[0.1, 0.2], [0.0, 0.01], [0.03, 0.03], [0.01, 0.0]]
    assert basin_time([0, 1, 2, 4], barriers).time == 4
    assert basin_time([0, 1, 2, 4], barriers, threshold=0.05).time == 1
    assert linearly_connected(barriers).tolist() == [False, True, False, True]


def test_traps():
    stable = basin_time([0, 1], [[0.001, 0.01], [0.0, 0.0]])
    assert stable.stable_from_initialisation and stable.time == 0 and stable.never == 0
    assert not basin_time([0.5, 1], [[0.001, 0.01], [0.0, 0.0]]).stable_from_initialisation
    chaotic = basin_time([0, 1], [[0.3, 0.2], [0.1, 0.4]])
    assert chaotic.chaotic_throughout and chaotic.time == math.inf and chaotic.never == 1
    assert chaotic.interval == (math.inf, math.inf)
    returning = basin_time([0, 1, 2], [[0.3, 0.2], [0.0, 0.0], [0.1, 0.1]])
    assert returning.time == math.inf and not returning.chaotic_throughout
    single = basin_time([0, 1], [[0.3], [0.0]])
    assert single.time == 1 and single.interval == (0, math.inf) and math.isnan(single.never)


def test_mean_barriers_hold_the_truth():
    hits = 0
    for _ in range(400):
        found = mean_barrier(RNG.normal(0.1, 0.05, (1, 4)), confidence=0.9)
        hits += bool(found.low[0] <= 0.1 <= found.high[0])
    assert 330 <= hits <= 388  # 360 +- 5 standard deviations
    two = mean_barrier([[0.1, 0.3]])
    # Student's t with one degree of freedom: tan(0.475 pi) = 12.706.
    reach = math.tan(0.475 * math.pi) * 0.1
    assert two.mean[0] == pytest.approx(0.2)
    assert (two.low[0], two.high[0]) == pytest.approx((0.2 - reach, 0.2 + reach))
    assert mean_barrier([[0.1]]).high[0] == math.inf


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: basin_time([0, 1], [[0.1, 0.2]]), "one time a row"),
        (lambda: basin_time([1, 0], [[0.1], [0.2]]), "ascend"),
        (lambda: basin_time([0, math.nan], [[0.1], [0.2]]), "finite and ascend"),
        (lambda: basin_time([0], [[math.nan, 0.1]]), "spawn time 0 and pair 0 is nan"),
        (lambda: basin_time([0], [0.1]), "a row for every"),
        (lambda: basin_time([0], [[0.1]], confidence=95), "between 0 and 1"),
        (lambda: basin_time([0], [[0.1]], draws=0), "2000"),
        (lambda: mean_barrier([[]]), "a row for every"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
