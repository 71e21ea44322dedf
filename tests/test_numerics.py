"""The error budget and the referees that need no environment of their own, on small cases."""

import numpy as np
import pytest
import torch

from benchmarks import numerics, numerics_errors
from benchmarks.numerics_quantity import Quantity, Setting
from benchmarks.referees import __main__ as referees
from benchmarks.referees import scipy_fits, scipy_flows, scipy_integrals
from benchmarks.referees.environments import AbsentError, ask
from benchmarks.referees.ruling import Ruling, deviation
from ntkscale.reporting import Entry

SLOW = ("operator: trace, moment, one seed", "operator: 20 eigenvalues")
"""Take seconds; `make numerics` has them."""
QUANTITIES = [quantity for quantity in numerics.QUANTITIES if quantity.name not in SLOW]
QUICK = ("partially trained: RK4", "power law: ends of the interval", "robust accuracy: FGSM, PGD")


@pytest.mark.parametrize("variation", ["float32", "memory"])
def test_numbers_stay_within_their_bounds(variation: str) -> None:
    rows = [row for one in QUANTITIES for row in numerics.PARTS[variation](one)]
    assert len(rows) > 9
    assert all(row.ok for row in rows), [row for row in rows if not row.ok]


@pytest.mark.parametrize("name", QUICK)
def test_stated_errors(name: str) -> None:
    (row,) = numerics.stated([name])
    assert row.ok, row


def test_equal_calls_give_equal_bits() -> None:
    setting = Setting(dtype=torch.float32, memory=1 << 28)
    for quantity in QUANTITIES:
        first, second = (quantity.arrays(setting) for _ in range(2))
        assert numerics.same_bits(first, second), quantity.name


def test_a_number_that_moves_is_seen() -> None:
    step = [1.0]

    def compute(_: Setting) -> dict[str, list[float]]:
        step[0] += 1e-3
        return {"number": [2.0, step[0]]}

    moving = Quantity("moving", compute, "each", 1e-6, 1e-6, 1e-6, 1e-6)
    (row,) = numerics.precision(moving)
    assert not row.ok
    assert row.bits is False
    cell = numerics.table([row]).rows[0]["largest deviation"]
    assert isinstance(cell, Entry)
    assert cell.mark == "fail"
    assert not numerics.Row("nan", "float32", float("nan"), 1.0, "relative").ok
    broken = moving.deviation({"number": np.array([np.nan, 1.0])}, {"number": np.array([1.0, 1.0])})
    assert np.isnan(broken)


def test_misses_that_chance_allows() -> None:
    assert numerics_errors.misses(40, 0.95) == pytest.approx(7 / 40)


@pytest.mark.parametrize("referee", [scipy_flows, scipy_integrals])
def test_scipy_agrees(referee) -> None:
    for row in referee.rule(int(np.random.default_rng().integers(2**31)), 1):
        assert row.ok, row


def test_scipy_agrees_on_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scipy_fits, "CURVES", 40)
    for row in scipy_fits.rule(5, 1):
        assert row.ok, row


def test_a_referee_that_disagrees_is_heard() -> None:
    row = Ruling("number", "referee", 1, deviation([1.0, 2.001], [1.0, 2.0]), 1e-4)
    assert row.deviation == pytest.approx(5e-4)
    assert not row.ok
    cell = referees.table([row], "title").rows[0]["largest deviation"]
    assert isinstance(cell, Entry)
    assert cell.mark == "fail"
    with pytest.raises(ValueError, match="answers"):
        deviation([1.0], [[1.0]])


def test_an_absent_referee_says_what_installs_it() -> None:
    with pytest.raises(AbsentError, match="make bench-environment"):
        ask(".venv-nowhere", "benchmarks.referees.by_curvlinops", {})
