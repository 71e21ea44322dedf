from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import coordinate_check
from ntkscale.networks import Parameterization
from ntkscale.training import Trainer
from ntkscale.training.interruption import Interruption


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


def test_an_interrupted_training_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a training: nothing of it counts, and the same command ends well."""
    settings = coordinate_check.CoordinateCheckSettings(
        width=(8, 16, 32), seed=(0, 1), runs=tmp_path, name="stopped"
    )
    plain, count = Trainer.run, 0

    def stopped(trainer: Trainer, **how: Any) -> Any:
        nonlocal count
        count += 1
        if count != 3:
            return plain(trainer, **how)
        with monkeypatch.context() as patch:
            patch.setattr(Interruption, "anywhere", lambda *_: True)
            return plain(trainer, **how)

    monkeypatch.setattr(Trainer, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        coordinate_check.run(settings)
    assert len(runs.load(tmp_path / "coordinate-check" / "stopped").results) == 2
    coordinate_check.run(settings).close()
    results = runs.load(tmp_path / "coordinate-check" / "stopped").results
    assert [result["status"] for result in results.values()] == ["finished"] * 6
