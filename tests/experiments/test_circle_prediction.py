"""Whole curves predicted from the kernel at the start, for networks of every kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntkscale import runs
from ntkscale.experiments import circle
from ntkscale.experiments.circle.cells import build, target
from ntkscale.experiments.circle.measures import measure
from ntkscale.experiments.circle.prediction import CLOSE, predict_cells, prediction_table
from tests.reference.linearised import linearised_mse

BASE = circle.CircleSettings(
    gamma0=(1.0,), lazy=1e-4, width=(64,), angles=8, points=32, wandb="disabled", name="run"
)
KINDS = {
    "ring": replace(BASE, beta=(0.4,)),
    "easy, biased": replace(BASE, beta=(1.2,), width=(128,), angles=16),
    "squared": replace(BASE, q=(1.3,), power=(2,), steps=9000),
    "deep": replace(BASE, beta=(0.7,), depth=(3,), width=(48,), init="gaussian", steps=4000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lazy_network_follows_the_prediction_over_its_whole_run(
    kind: str, tmp_path: Path
) -> None:
    seed = int(np.random.default_rng().integers(1000))
    settings = circle.expand(replace(KINDS[kind], seed=(seed,), runs=tmp_path))
    folder = circle.run(settings)
    assert folder is not None
    run = runs.load(folder.path)
    lazy, rich = predict_cells(measure(run, settings), settings)
    assert np.abs(lazy.ratio - 1).max() < CLOSE
    assert lazy.test_ratio is not None
    assert np.abs(lazy.test_ratio - 1).max() < CLOSE
    # The rich one is not that of the linear model, and says so.
    assert rich.test_ratio is None
    rows = prediction_table([lazy, rich], settings).rows
    assert [row["model"] for row in rows] == ["gamma = 0", "gamma = 1"]

    # The prediction itself, against the linearised network spelt out.
    condition = lazy.cell.condition
    task = target(settings, condition)
    assert task.test_inputs is not None and task.test_targets is not None
    network = build(settings, condition).double()
    chosen = np.linspace(0, len(lazy.times) - 1, 5).astype(int)
    train, test = linearised_mse(
        network,
        float(network.gamma),
        (task.inputs, task.targets),
        (task.test_inputs, task.test_targets),
        lazy.times[chosen].tolist(),
    )
    cell, tail = lazy.cell, lazy.cell.baseline.tail
    predicted = (cell.mse[1:] - tail) / lazy.ratio
    np.testing.assert_allclose(predicted[chosen], train, rtol=1e-4)
    predicted = (cell.test_mse[1:] - tail) / lazy.test_ratio
    np.testing.assert_allclose(predicted[chosen], test, rtol=1e-4)
    if kind == "deep":
        verdict = circle.judge(run)
        row = verdict.tables[0].rows[0]
        assert {"alpha of K_0", "beta of K_0", "2 power"} <= row.keys()
        assert lazy.cell.predicted == pytest.approx(
            2 * lazy.cell.baseline.measured.beta / (1 + lazy.cell.baseline.measured.beta)
            if lazy.cell.baseline.measured.beta < 1
            else lazy.cell.baseline.measured.beta
        )
