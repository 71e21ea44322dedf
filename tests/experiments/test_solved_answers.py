"""Curves that are known beforehand, read as the answers of a run on the solvable model."""

import numpy as np
import polars as pl
import pytest

from ntkscale.experiments.scaling_model.answers import solved_answers
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings

TIMES = np.geomspace(10.0, 1e9, 70)


def curve(beta: float, gamma: float, prefactor: float, exponent: float) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "part": "exponents",
            "beta": beta,
            "gamma": gamma,
            "time": TIMES,
            "mse": prefactor * TIMES**-exponent,
        }
    )


def test_the_richest_curve_is_put_beside_the_lazy_one() -> None:
    rng = np.random.default_rng()
    settings = ScalingModelSettings(alpha=float(rng.uniform(1.2, 3)), gamma=(0.0, 0.1, 1.0))
    lazy, rich = rng.uniform(0.2, 0.5), rng.uniform(0.5, 0.9)
    first, second = rng.uniform(0.1, 10, 2)
    frame = pl.concat(
        [
            curve(0.5, 0.0, first, lazy),
            curve(0.5, 0.1, 1.0, 3.0),
            curve(0.5, 1.0, second, rich),
            # Not solved yet at the largest gamma.
            curve(1.25, 0.0, 1.0, 1.25),
            curve(1.25, 0.1, 1.0, 1.25),
        ]
    )
    (said,) = solved_answers(frame, settings)
    assert said.given == (settings.alpha, 0.5)
    assert said.gains == pytest.approx([rich - lazy], abs=1e-6)
    assert said.equal_time == 1e9
    assert said.ratios == pytest.approx([second / first * 1e9 ** (lazy - rich)])
    assert said.window == (1e5, 1e9) and said.holds
    assert not said.one_pass  # gradient flow


def test_a_run_without_a_rich_curve_answers_nothing() -> None:
    frame = curve(0.5, 0.0, 1.0, 0.5)
    assert not list(solved_answers(frame, ScalingModelSettings(gamma=(0.0,))))
    other = frame.with_columns(part=pl.lit("curves"))
    assert not list(solved_answers(other, ScalingModelSettings()))
