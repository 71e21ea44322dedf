"""The curve given to the dashboard is the lazy flow of the cell's own initial kernel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ntkscale import ntk, runs
from ntkscale.experiments import circle
from ntkscale.experiments.dmft import record
from ntkscale.experiments.theory_curve import lazy_curve
from ntkscale.networks import MLP
from ntkscale.tasks import Task
from ntkscale.theory.scaling_model import flow, measured
from tests.reference import wandb_record

TIMES = [0.5, 2.0, 30.0]


def problem(seed: int) -> tuple[Task, MLP, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(12, n, generator=generator, dtype=torch.float64) for n in (3, 2))
    network = MLP(3, 2, width=20, gamma0=0.7, seed=seed, dtype=torch.float64)
    kernel = float(network.gamma) ** 2 * ntk.gram(network, x) / 2
    return Task("t", x, y), network, kernel


def test_kernel_and_spectrum_say_the_same_as_the_solvable_model() -> None:
    task, network, kernel = problem(int(np.random.default_rng().integers(1000)))
    values, vectors = ntk.eigensystem(kernel / 12)
    along = vectors.T @ task.targets / 12**0.5
    said = flow(measured(values.numpy(), along.numpy()), 0.0, [0.0, *TIMES]).mse
    spectrum = {"spectrum_eigenvalues": values, "spectrum_coefficients": along}
    for start in ({"kernel": kernel}, {"kernel": kernel[:4, :4], **spectrum}):
        times, mse = lazy_curve(start, network, task, TIMES)
        assert times == [0.0, *TIMES]
        assert mse == pytest.approx(said, rel=1e-4)
    assert mse[0] == pytest.approx(float(task.targets.square().mean(0).sum()))


def test_nothing_is_said_where_nothing_is_known() -> None:
    task, network, kernel = problem(1)
    assert lazy_curve({"kernel": kernel[:5, :5]}, network, task, TIMES) == ([], [])
    classes = replace(task, loss="cross-entropy", labels=torch.zeros(12, dtype=torch.long))
    assert lazy_curve({"kernel": kernel}, network, classes, TIMES) == ([], [])
    loose = MLP(3, 2, width=20, gamma0=0.7, centered=False, dtype=torch.float64)
    assert lazy_curve({"kernel": kernel}, loose, task, TIMES) == ([], [])
    kept = {"linearised_times": torch.tensor(TIMES), "linearised_mse": torch.tensor([3.0, 2, 1])}
    assert lazy_curve(kept, network, task, [1.0]) == (TIMES, [3.0, 2.0, 1.0])


def test_a_lazy_network_trains_along_the_recorded_curve(tmp_path: Path) -> None:
    settings = circle.CircleSettings(
        gamma0=(0.001,), lazy=0.0, width=(64,), angles=16, points=32, window=(1.0, 5.0),
        step_fraction=0.1, workers=1, runs=tmp_path, dtype="float64",
    )  # fmt: skip
    path = circle.run(settings).path  # pyright: ignore[reportOptionalMemberAccess]
    history = wandb_record.history(path / "wandb")
    said = {row["time"]: row["theory_mse"] for row in history if "theory_mse" in row}
    seen = {row["time"]: row["mse"] for row in history if "mse" in row}
    both = [(said[t], seen[s]) for t in said for s in seen if t and abs(s / t - 1) < 1e-9]
    assert len(both) > 10 and said[0.0] == pytest.approx(seen[0.0])
    assert [one for one, _ in both] == pytest.approx([other for _, other in both], rel=0.05)
    assert "theory_mse" not in runs.load(path).metrics.columns
    assert wandb_record.axes(path / "wandb")["theory_mse"] == "time"


def test_mean_field_theory_has_the_name_of_theory() -> None:
    rows = [
        {"kind": record.FULL, "time": 1.0, "mse": 0.5, "loss": 0.25},
        {"kind": "network", "time": 2.0, "mse": 0.7, "loss": 0.35},
    ]
    theory, network = record._curves(rows)
    assert theory == {"time": 1.0, "theory_mse": 0.5, "loss": 0.25}
    assert network == {"time": 2.0, "mse": 0.7, "loss": 0.35}
