"""Curves that are known beforehand, read by the images' verdict as if networks had drawn them."""

from dataclasses import replace

import numpy as np
import pytest

from ntkscale.experiments.answer import Answer
from ntkscale.experiments.images.answers import image_answers
from ntkscale.experiments.images.experiment import ImagesSettings
from ntkscale.experiments.images.measures import Start, Trained
from ntkscale.experiments.images.prediction import (
    Predicted,
    compared,
    exponent_table,
    predict_images,
)
from ntkscale.scaling import source_capacity

ALPHA, BETA, LAZY = 1.5, 0.4, 1e-3
SETTINGS = ImagesSettings(data="digits", method="flow")
TIMES = np.geomspace(1e-5, 3e4, 180)


def start(seed: int, samples: int = 600) -> Start:
    k = np.arange(1.0, samples + 1)
    values = k**-ALPHA
    along = np.sqrt(k ** (-ALPHA * BETA - 1))[:, None]
    measured = source_capacity(values, along[:, 0] ** 2)
    return Start(32, seed, values, along, measured, None)


def lazy_curve(begun: Start, times: np.ndarray) -> np.ndarray:
    return np.exp(-2 * np.outer(times, begun.eigenvalues)) @ begun.power


def cell(gamma0: float, seed: int, times: np.ndarray, mse: np.ndarray) -> Trained:
    none = np.array([])
    return Trained(
        width=32,
        gamma0=gamma0,
        seed=seed,
        status="finished",
        x=times,
        loss=mse,
        test_loss=np.full(len(times), np.nan),
        fit=None,
        kernel_x=none,
        distance=none,
        change=none,
        alignment=none,
        accuracy=float("nan"),
        test_accuracy=float("nan"),
    )


def faster(begun: Start, power: float) -> tuple[np.ndarray, np.ndarray]:
    """A network whose clock runs as (1e4 t)^power: far ahead of any model, stopped early."""
    times = np.geomspace(1e-5, 3e4 ** (1 / power) / 1e4, 120)
    return times, lazy_curve(begun, (1e4 * times) ** power)


@pytest.fixture(scope="module")
def power() -> float:
    return float(np.random.default_rng().uniform(1.2, 1.6))


@pytest.fixture(scope="module")
def begun() -> list[Start]:
    return [start(0), start(1)]


@pytest.fixture(scope="module")
def found(begun: list[Start], power: float) -> list[Predicted]:
    cells = [
        trained
        for one in begun
        for trained in (
            cell(LAZY, one.seed, TIMES, lazy_curve(one, TIMES)),
            cell(1.0, one.seed, *faster(one, power)),
        )
    ]
    return predict_images(cells, begun, SETTINGS)


def test_a_lazy_curve_is_predicted(found: list[Predicted]) -> None:
    for one in found:
        if one.cell.gamma0 == LAZY:
            assert not one.equal_losses
            assert one.ratio == pytest.approx(1, abs=5e-3)
            assert one.slope is not None and one.predicted_slope is not None
            assert one.slope.exponent == pytest.approx(one.predicted_slope.exponent, abs=0.01)


def test_a_network_ahead_of_the_model_is_read_at_equal_losses(
    found: list[Predicted], power: float
) -> None:
    rich = [one for one in found if one.cell.gamma0 == 1.0]
    lazy = [one for one in found if one.cell.gamma0 == LAZY]
    for one, other in zip(rich, lazy, strict=True):
        assert one.equal_losses and one.slope is not None and other.slope is not None
        high, low = other.observed[other.inside][[0, -1]]
        assert one.observed[one.inside].max() <= high * 1.001
        assert one.observed[one.inside].min() >= low * 0.999
        # The same piece of the same curve, on a clock that is a power of the lazy one.
        assert one.slope.exponent == pytest.approx(power * other.slope.exponent, rel=0.03)
        assert one.level_slope == one.slope and other.level_slope == other.slope


def test_a_network_as_fast_as_the_model_is_read_both_ways(begun: list[Start], power: float) -> None:
    own = begun[0]
    times = TIMES[TIMES ** (power / 1.2) < 3e4]
    ahead = cell(0.01, 0, times, lazy_curve(own, times ** (power / 1.2)))
    lazy, one = predict_images(
        [cell(LAZY, 0, TIMES, lazy_curve(own, TIMES)), ahead], begun, SETTINGS
    )
    assert not one.equal_losses
    assert one.slope is not None and one.level_slope is not None and lazy.slope is not None
    expected = power / 1.2 * lazy.slope.exponent
    assert one.level_slope.exponent == pytest.approx(expected, rel=0.03)


def test_the_table_says_how_it_was_read(found: list[Predicted]) -> None:
    rows = exponent_table(found, "training").rows
    assert [row["gamma0"] for row in rows] == ["0.001", "1"]
    assert [str(row["window (t)"]).endswith("= L") for row in rows] == [False, True]


def answer(begun: list[Start], found: list[Predicted]) -> Answer:
    (said,) = image_answers(begun, found, SETTINGS)
    return said


def test_answers(begun: list[Start], found: list[Predicted], power: float) -> None:
    said = answer(begun, found)
    lazy = next(one.slope for one in found if one.cell.gamma0 == LAZY)
    assert lazy is not None
    assert said.helps == "yes, by 2 seeds"
    assert said.gains == pytest.approx([(power - 1) * lazy.exponent] * 2, rel=0.2)
    last = min(one.times[-1] for one in found)
    assert said.equal_time == last
    expected = [lazy_curve(one, np.array([(1e4 * last) ** power]))[0] for one in begun]
    slow = [lazy_curve(one, np.array([last]))[0] for one in begun]
    assert said.ratios == pytest.approx(np.divide(expected, slow), rel=0.02)
    assert said.resolved == pytest.approx(200**ALPHA)


def test_what_cannot_be_told(begun: list[Start], found: list[Predicted]) -> None:
    rich = [one for one in found if one.cell.gamma0 == 1.0]
    lazy = [one for one in found if one.cell.gamma0 == LAZY]
    assert "no lazy run" in answer(begun, rich).helps
    assert "no rich run" in answer(begun, lazy).helps
    assert "no curve" in answer(begun, []).helps
    # A seed whose lazy training failed has no partner.
    said = answer(begun, [*rich, lazy[0]])
    assert len(said.ratios) == 1 and said.helps == "yes, by one seed"


def test_what_is_compared() -> None:
    once = replace(SETTINGS, method="sgd", size=1000, steps=10, batch_size=100)
    assert compared(once, True) == "test"
    assert compared(once, False) == "training"
    assert compared(replace(once, steps=11), True) == "training"
    assert compared(replace(once, steps=11, augmentation="shift"), True) == "test"
    assert compared(SETTINGS, True) == "training"


def test_the_largest_gamma0_speaks_for_the_rich_ones(
    begun: list[Start], found: list[Predicted], power: float
) -> None:
    # A network that stops early, ahead of all others, and one that is richer and slower.
    slow = TIMES[TIMES < 1e3]
    more = [cell(2.0, own.seed, slow, lazy_curve(own, slow)) for own in begun]
    both = [one.cell for one in found] + more
    said = answer(begun, predict_images(both, begun, SETTINGS))
    assert "gamma0 = 2 against" in said.task
    assert said.equal_time == slow[-1]
    assert said.ratios == pytest.approx([1.0, 1.0], rel=0.02)


def test_whether_batches_are_seen_once(begun: list[Start], found: list[Predicted]) -> None:
    once = replace(SETTINGS, method="sgd", size=1000, steps=10, batch_size=100)
    assert image_answers(begun, found, once)[0].one_pass
    assert image_answers(begun, [], once)[0].one_pass
    for other in (SETTINGS, replace(once, steps=11), replace(once, batch_size=1000, steps=1)):
        assert not image_answers(begun, found, other)[0].one_pass
