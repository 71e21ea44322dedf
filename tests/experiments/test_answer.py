"""The table that all runs share: what each answer says, and when it says that it cannot be told."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from ntkscale.experiments import Answer, answer_table
from ntkscale.experiments.answer import COLUMNS, mean_over_seeds
from ntkscale.experiments.crossings import at_time, levels_off
from ntkscale.scaling import SourceCapacity, predict, source_capacity

HELP, REACH, NEXT = COLUMNS[3:]


def start(alpha: float, beta: float) -> SourceCapacity:
    """An exact power-law spectrum, read."""
    k = np.arange(1.0, 2001.0)
    edges = np.append(k, 2001.0) ** (-alpha * beta)
    return source_capacity(k**-alpha, edges[:-1] - edges[1:], tail=float(edges[-1]))


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((), "cannot be told: not measured"),
        ((0.5,), "yes, by one seed"),
        ((1.5,), "no, by one seed"),
        ((0.5, 0.51, 0.49), "yes, by 3 seeds"),
        ((2.0, 2.1, 1.9), "no, by 3 seeds"),
        ((0.5, 1.6), "cannot be told: 2 seeds do not agree well enough"),
        ((math.nan, 0.5), "yes, by one seed"),
        ((math.nan,), "cannot be told: not measured"),
    ],
)
def test_whether_learning_features_helps(ratios: tuple[float, ...], said: str) -> None:
    assert Answer("task", ratios=ratios, equal_time=10.0).helps == said


def test_the_interval_of_the_ratio_is_that_of_a_t_test_of_its_logarithm() -> None:
    rng = np.random.default_rng()
    ratios = np.exp(0.2 * rng.standard_normal(4) - 0.5)
    row = Answer("task", ratios=list(ratios), gains=[0.1], equal_time=1730.0).row("run")
    interval = ttest_1samp(np.log(ratios), 0).confidence_interval(0.95)
    low, high = math.exp(interval.low), math.exp(interval.high)
    if not low < 1 < high:
        assert row[HELP].startswith("yes" if high < 1 else "no")
    mean = float(np.exp(np.log(ratios).mean()))
    assert f"mse x {mean:.2f} [{low:.2f}, {high:.2f}] at t = 1,730; exponent +0.10" in row[HELP]


def test_what_is_not_known_stays_open() -> None:
    row = Answer("task", unknown="no rich run", ratios=[0.5], gains=[0.1]).row("run")
    assert list(row) == list(COLUMNS)
    assert row[HELP] == "cannot be told: no rich run"
    assert [row[name] for name in (COLUMNS[2], REACH, NEXT)] == ["-"] * 3


@pytest.mark.parametrize(("ratio", "law"), [(0.5, "rich"), (2.0, "lazy")])
def test_compute_goes_where_theory_says(ratio: float, law: str) -> None:
    alpha, beta = 1.5, float(np.random.default_rng().uniform(0.3, 0.8))
    found = [start(alpha, beta)]
    said = predict(found[0].alpha, found[0].beta)
    row = Answer("task", starts=found, ratios=[ratio]).row("run")
    width, time = getattr(said, f"best_width_{law}"), getattr(said, f"best_time_{law}")
    first = "time" if time > width else "width"
    assert row[NEXT].startswith(f"{first}: N x {10**width:.1f}, t x {10**time:.1f}, mse x ")
    assert row[NEXT].endswith(f"({law} law)")


def test_batches_decide_where_the_compute_of_a_super_easy_task_goes() -> None:
    alpha, beta = 1.5, float(np.random.default_rng().uniform(1.5, 2.5))
    # (eta / B) t^-(2 - 1/alpha) and t^-(1 - 1/alpha) / N are equal at N = t; flow: see `predict`.
    for once, exponent in ((True, 1 - 1 / (2 * alpha)), (False, alpha * beta / (alpha * beta + 1))):
        said = Answer("t", given=(alpha, beta), one_pass=once).row("run")[NEXT]
        assert f"mse x {10**-exponent:.2f} (lazy law)" in said


def test_a_regime_that_seeds_do_not_settle_is_named_twice() -> None:
    row = Answer("task", starts=[start(1.5, 0.85), start(1.5, 1.2)]).row("run")
    assert row[COLUMNS[2]].startswith("hard or easy: alpha 1.5")


def test_how_far() -> None:
    answer = Answer("t", window=(3.0, 1234.0), holds=True, resolved=17000.0, plateau=500.0)
    assert answer.row("run")[REACH] == (
        "power law in t = 3 .. 1,230; levels off at t = 500; "
        "K_0 resolves lazy learning to t = 17,000"
    )
    assert Answer("t", window=(3.0, 5.0)).row("run")[REACH] == "no power law in t = 3 .. 5"


def test_the_table_has_a_row_for_every_answer() -> None:
    table = answer_table([("a", Answer("one")), ("b", Answer("two"))])
    assert [(row["run"], row["task"]) for row in table.rows] == [("a", "one"), ("b", "two")]


def test_plateaus_are_seen_within_the_record_alone() -> None:
    rng = np.random.default_rng()
    times = np.geomspace(1, 1e4, 80)
    exponent = float(rng.uniform(0.5, 0.9))
    noise = np.exp(1e-3 * rng.standard_normal(80))
    half = 300.0
    falling = times**-exponent
    assert levels_off(times, (falling + half**-exponent) * noise) == pytest.approx(half, rel=0.1)
    assert math.isnan(levels_off(times, falling * noise))
    assert math.isnan(levels_off(times, (falling + 1e7**-exponent) * noise))
    assert math.isnan(levels_off(times[:3], falling[:3]))


def test_a_curve_between_its_points_and_outside() -> None:
    times = np.geomspace(1, 100, 7)
    assert at_time(37.0, times, times**-0.4) == pytest.approx(37.0**-0.4)
    assert math.isnan(at_time(101.0, times, times))
    assert math.isnan(at_time(0.9, times, times))


def test_means_over_seeds() -> None:
    values = np.random.default_rng().standard_normal(5)
    entry = mean_over_seeds([*values, math.nan])
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    assert entry.value == pytest.approx(values.mean())
    assert entry.interval == pytest.approx((interval.low, interval.high))
    assert mean_over_seeds([2.0], [(1.0, 3.0)]).interval == (1.0, 3.0)
    assert mean_over_seeds([math.nan]).text == "-"


def test_solved_curves_have_no_seeds_and_given_exponents():
    answer = Answer("solved", given=(1.5, 0.5), ratios=[0.2], gains=[0.17], equal_time=1e4)
    row = answer.row("a run")
    assert row["which regime?"] == "hard: alpha 1.5, beta 0.5"
    assert row["does feature learning help?"].startswith("yes; mse x 0.20 at t = 10,000")
    assert row["how far does the curve hold?"] == "-"
    assert row["where to put 10 times the compute?"].endswith("(rich law)")
