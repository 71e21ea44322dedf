"""Curves that are known beforehand, read by the circle's answers as if networks had drawn them."""

from dataclasses import replace

import numpy as np
import pytest

from ntkscale.experiments.circle.answers import circle_answers
from ntkscale.experiments.circle.cells import Condition
from ntkscale.experiments.circle.measures import Baseline, Trained
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.scaling import fit_power_law, source_capacity

SETTINGS = CircleSettings(seed=(0, 1))
TIMES = np.geomspace(0.01, 1e4, 120)
ALPHA, BETA, POINTS = 2.0, 0.5, 300


def baseline(seed: int) -> Baseline:
    k = np.arange(1.0, POINTS + 1)
    values, edges = k**-ALPHA, np.append(k, POINTS + 1.0) ** (-ALPHA * BETA)
    power, tail = edges[:-1] - edges[1:], float(edges[-1])
    fit = fit_power_law(TIMES, TIMES**-BETA)
    return Baseline(
        condition=Condition(BETA, 1.0, 1, 1, 64, 0, 1.0, seed),
        tail=tail,
        eigenvalues=values,
        coefficients=np.sqrt(power),
        measured=source_capacity(values, power, tail=tail),
        times=TIMES,
        lazy_mse=TIMES,
        infinite_mse=TIMES,
        lazy=fit,
        infinite=fit,
    )


def trained(
    seed: int, gamma0: float, factor: float, window: tuple[float, float] | None, gain: float = 0.1
) -> Trained:
    """A network whose mse is `factor` times that of the lazy flow of its own kernel."""
    base = baseline(seed)
    mse = np.append(1.0, factor * (base.lazy_curve(TIMES) + base.tail))
    none = np.array([])
    return Trained(
        name="",
        condition=replace(base.condition, gamma0=gamma0),
        baseline=base,
        status="finished",
        times=np.append(0.0, TIMES),
        steps=none,
        mse=mse,
        test_mse=mse,
        slope=base.lazy if window else None,
        window=window,
        gain=gain,
        kernel_times=none,
        distance=none,
        growth=none,
        growth_law=float("nan"),
    )


def test_the_richest_networks_against_the_lazy_flow_of_their_own_kernels() -> None:
    factors = np.random.default_rng().uniform(0.2, 0.9, 2)
    cells = [
        trained(0, 0.001, 1.0, (1.0, 100.0)),
        trained(0, 1.0, 0.01, (1.0, 50.0)),
        trained(0, 2.0, factors[0], (2.0, 90.0), 0.2),
        trained(1, 2.0, factors[1], (3.0, 80.0), 0.3),
        # Not through its window: it has no exponent, and no say.
        trained(2, 2.0, 7.0, None),
    ]
    (said,) = circle_answers(cells, SETTINGS)
    assert "gamma0 = 2 against the flow of K_0" in said.task
    assert said.gains == [0.2, 0.3]
    assert said.equal_time == 80.0 and said.window == (3.0, 80.0) and said.holds
    assert said.ratios == pytest.approx(factors, rel=1e-3)
    assert said.helps.endswith("2 seeds") or "agree" in said.helps
    assert len(said.starts) == 3
    # A third of the points resolve their modes: K_0 is good until mode P / 3 is learned.
    assert said.resolved == pytest.approx((POINTS // 3 + 1) ** ALPHA)


def test_every_target_has_its_answer_and_what_is_missing_is_named() -> None:
    rich = trained(0, 1.0, 0.5, None)
    other = replace(rich, condition=replace(rich.condition, beta=1.25))
    said = circle_answers([rich, other], SETTINGS)
    assert [one.unknown for one in said] == ["no rich network got through the window"] * 2
    (said,) = circle_answers([trained(0, 0.1, 1.0, (1.0, 100.0))], SETTINGS)
    assert said.helps == "cannot be told: no rich run (gamma0 >= 0.5)"


def test_the_first_plateau_of_all_seeds_counts() -> None:
    power, floors = float(np.random.default_rng().uniform(0.4, 0.9)), (0.03, 0.01)
    cells = [
        replace(
            trained(seed, 1.0, 1.0, (1.0, 100.0)),
            times=TIMES,
            mse=TIMES**-power + floor,
        )
        for seed, floor in enumerate(floors)
    ]
    (said,) = circle_answers(cells, SETTINGS)
    assert said.plateau == pytest.approx(0.03 ** (-1 / power), rel=0.05)
