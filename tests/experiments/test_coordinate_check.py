from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import coordinate_check
from ntkscale.networks import Parameterization


def judged(tmp_path: Path, parameterization: Parameterization) -> str:
    settings = coordinate_check.CoordinateCheckSettings(
        runs=tmp_path,
        name=parameterization,
        parameterization=parameterization,
        width=(64, 128, 256, 512),
        seed=(0, 1, 2, 3, 4, 5),
        depth=2,
    )
    folder = coordinate_check.run(settings)
    return coordinate_check.judge(runs.load(folder.path)).summary


def test_mean_field_passes_and_standard_fails(tmp_path: Path) -> None:
    assert "PASS" in judged(tmp_path, "mean-field")
    assert "FAIL" in judged(tmp_path, "standard")


def test_slopes_are_those_of_the_changes() -> None:
    slope = np.random.default_rng().uniform(-1, 1)
    rows = [
        {"coordinate": "output", "step": 1, "seed": seed, "width": width, "rms_change": change}
        for seed, factor in ((0, 1.0), (1, 2.0))
        for width in (8, 16, 64)
        for change in (factor * width**slope,)
    ]
    (found,) = coordinate_check.slopes(pl.DataFrame(rows))
    assert found.slope == pytest.approx(slope)
    assert found.error == pytest.approx(0, abs=1e-12)
