from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import images
from ntkscale.experiments.images.measures import Trained, starts, trained, width_gaps
from ntkscale.runs import Run
from ntkscale.schema import QUANTITIES

SETTINGS = images.ImagesSettings(
    size=200,
    test_size=50,
    width=(16, 32),
    gamma0=(0.5, 2.0),
    steps=60,
    probe=16,
    spectrum=100,
    wandb="disabled",
    name="run",
)


def train(settings: images.ImagesSettings) -> Run:
    folder = images.run(settings)
    assert folder is not None
    return runs.load(folder.path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(replace(SETTINGS, runs=tmp_path_factory.mktemp("runs")))


def test_every_cell_is_recorded(run: Run) -> None:
    assert run.finished
    assert len(run.results) == 4
    keys = {"cell", "width", "gamma0", "seed"}
    assert set(run.metrics.columns) - keys <= QUANTITIES.keys()
    for column in ("mse", "test_mse", "accuracy", "test_accuracy", "kernel_alignment"):
        assert run.metrics[column].drop_nulls().len() > 0
    last = run.metrics.group_by("cell", maintain_order=True).last()
    assert last["time"].to_list() == pytest.approx([6.0] * 4)


def test_the_spectrum_is_that_of_the_initial_kernel(run: Run) -> None:
    found = starts(run)
    assert [(start.width, start.seed) for start in found] == [(16, 0), (32, 0)]
    for start in found:
        assert len(start.eigenvalues) == 100
        assert np.all(np.diff(start.eigenvalues) <= 0)
        # Centred one-hot targets have power 1 - 1/C, all of it on some eigenvector.
        assert start.power.sum() == pytest.approx(0.9, rel=1e-5)


def test_the_verdict_has_every_cell_and_its_figures(run: Run) -> None:
    verdict = images.judge(run)
    assert len(verdict.tables[0].rows) == 4
    assert "alpha" in verdict.summary
    assert "different widths" in verdict.summary
    for figure in (picture for section in verdict.sections for picture in section.figures):
        assert isinstance(figure.png, Path)
        assert figure.png.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "adam", "learning_rate": (1e-3,), "loss": "cross-entropy"},
        {"method": "flow", "classes": (3, 8), "batch_size": 0},
        {"model": "cnn", "augmentation": "shift", "schedule": "cosine", "warmup": 5},
        {"model": "resnet", "depth": 1, "seed": (0, 1), "batched": True, "bias": True},
        {"parameterization": "standard", "learning_rate": (1e-3,), "weight_decay": 1e-3},
    ],
    ids=["adam", "flow", "cnn", "resnet", "standard"],
)
def test_every_kind_of_training_ends_in_a_verdict(tmp_path: Path, changes: dict) -> None:
    small = {"width": (8,), "gamma0": (1.0,), "steps": 20, "runs": tmp_path}
    run = train(replace(SETTINGS, **small, **changes))
    cells = trained(run, images.expand(replace(SETTINGS, **small, **changes)))
    assert len(cells) == len(changes.get("seed", (0,)))
    assert {cell.status for cell in cells} == {"finished"}
    assert all(np.isfinite(cell.loss).all() for cell in cells)
    if changes.get("method") == "adam":
        assert run.metrics["time"].is_null().all()
    assert images.judge(run).tables[0].rows


def test_divergence_is_a_result(tmp_path: Path) -> None:
    wild = replace(SETTINGS, width=(16,), gamma0=(2.0,), learning_rate=(500.0,), runs=tmp_path)
    run = train(wild)
    (result,) = run.results.values()
    assert result["status"] == "diverged"
    assert images.judge(run).tables[0].rows[0]["ended"] == "diverged"


def test_ones_own_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    x = rng.standard_normal((40, 5))
    np.savez(tmp_path / "mine.npz", inputs=x, targets=x[:, :1] ** 2)
    run = train(
        images.ImagesSettings(
            data=str(tmp_path / "mine.npz"),
            width=(16,),
            gamma0=(1.0,),
            steps=20,
            batch_size=0,
            runs=tmp_path,
            wandb="disabled",
        )
    )
    assert run.metrics["mse"].drop_nulls()[0] == pytest.approx((x[:, 0] ** 4).mean(), rel=1e-4)


def test_width_gaps_compare_common_times_only() -> None:
    def cell(width: int, x: list[float], loss: list[float]) -> Trained:
        none = np.array([])
        return Trained(
            width=width,
            gamma0=1.0,
            seed=0,
            status="finished",
            x=np.array(x),
            loss=np.array(loss),
            test_loss=np.array(loss),
            fit=None,
            kernel_x=none,
            distance=none,
            change=none,
            alignment=none,
            accuracy=float("nan"),
            test_accuracy=float("nan"),
        )

    (gap,) = width_gaps(
        [
            cell(8, [1, 2, 4], [1.0, 0.6, 0.3]),
            cell(16, [1, 2, 5], [1.0, 0.5, 0.1]),
            cell(32, [1, 2, 4], [0.9, 0.5, 0.3]),
        ]
    )
    assert gap.gap == pytest.approx(0.2)
    assert gap.at == 2
    assert gap.widest_pair == pytest.approx(1 / 0.9 - 1)


def test_metrics_are_log_spaced_in_flow_time(run: Run) -> None:
    times = run.metrics.filter(pl.col("cell") == run.metrics["cell"][0])["time"].to_numpy()[1:]
    ratios = times[2:] / times[1:-1]
    assert ratios.min() > 1.1
    assert ratios.max() < 2.5
