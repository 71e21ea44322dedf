from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ntkscale import runs
from ntkscale.experiments import cell_group, circle
from ntkscale.experiments.cell_group import CellGroup
from ntkscale.experiments.circle import cells
from ntkscale.experiments.circle.cells import Condition, infinite_spectrum, target, window
from ntkscale.experiments.circle.measures import measure
from ntkscale.experiments.crossings import crossing_times
from ntkscale.networks import MLP
from ntkscale.reporting.figure_file import read_figure_data
from ntkscale.runs import Run
from ntkscale.schema import QUANTITIES
from ntkscale.training import Optimisation, lazy_flow

HARD = Condition(0.5, 1.0, power=1, depth=1, width=128, phases=0, gamma0=1.0, seed=0)
SETTINGS = circle.CircleSettings(
    beta=(0.5, 1.25),
    gamma0=(1.0,),
    lazy=1e-4,
    width=(128,),
    angles=16,
    points=32,
    window=(1.0, 60.0),
    wandb="disabled",
    name="run",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = circle.run(replace(SETTINGS, runs=tmp_path_factory.mktemp("runs")))
    assert folder is not None
    return runs.load(folder.path)


def test_every_cell_is_recorded_under_the_names_of_the_schema(run: Run) -> None:
    assert run.finished
    assert len(run.results) == 4
    keys = {"cell", "beta", "gamma0", "seed"}
    assert set(run.metrics.columns) - keys <= QUANTITIES.keys()
    for name in run.results:
        steps = run.metrics.filter(pl.col("cell") == name)["step"].to_list()
        assert steps[0] == 0
        assert steps == sorted(set(steps))
        assert run.kernels.steps(name)[0] == 0
        assert run.weights(name)["hidden1"].shape == (128, 2)


def test_the_kept_kernel_is_that_of_the_initial_network(run: Run) -> None:
    task = target(SETTINGS, HARD)
    network = MLP(
        2,
        1,
        width=128,
        bias=True,
        gamma0=1.0,
        scale_input=False,
        init="ring",
        angles=16,
        dtype=torch.float64,
    )
    rows = []
    for x in task.inputs:
        network.zero_grad()
        network(x[None]).sum().backward()
        parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        rows.append(torch.cat(parts))
    jacobian = torch.stack(rows) * float(network.gamma)
    kernel = run.kernels["beta=0.5,gamma0=1,seed=0", 0]["kernel"]
    torch.testing.assert_close(kernel, jacobian @ jacobian.T, rtol=1e-5, atol=1e-5)


def test_a_network_near_the_kernel_limit_follows_the_exact_lazy_flow(run: Run) -> None:
    name = "beta=0.5,gamma0=0.0001,seed=0"
    rows = run.metrics.filter((pl.col("cell") == name) & (pl.col("time") > 1))
    task = target(SETTINGS, HARD)
    exact = lazy_flow(run.kernels[name, 0]["kernel"], task.targets, rows["time"].to_list()).mse
    np.testing.assert_allclose(rows["mse"].to_numpy(), exact.numpy(), rtol=0.05)


def test_the_stop_is_the_lazy_loss_at_the_end_of_the_window(run: Run) -> None:
    for cell in measure(run, SETTINGS):
        if cell.gamma0 < 1:
            assert cell.status == "finished"
            assert cell.times[-1] == 60.0
            continue
        assert cell.status == "stopped"
        assert cell.mse[-1] <= cell.baseline.lazy_mse[-1]
        assert cell.mse[-2] > cell.baseline.lazy_mse[-1]


def test_a_lazy_network_gains_nothing_and_a_rich_one_does(run: Run) -> None:
    cells = {(c.baseline.beta, c.gamma0): c for c in measure(run, SETTINGS)}
    assert abs(cells[0.5, 1e-4].gain) < 0.02
    assert cells[0.5, 1.0].distance[-1] > 100 * cells[0.5, 1e-4].distance[-1]
    assert cells[0.5, 1.0].predicted == pytest.approx(2 / 3)
    assert cells[1.25, 1.0].predicted == pytest.approx(1.25)


def test_the_verdict_has_every_cell_and_its_figures(run: Run) -> None:
    verdict = circle.judge(run)
    assert len(verdict.tables[0].rows) == 4
    assert len(verdict.tables[1].rows) == 4
    assert "beta = 0.5 (hard)" in verdict.summary
    for figure in (picture for section in verdict.sections for picture in section.figures):
        assert isinstance(figure.png, Path)
        assert figure.png.exists()
        assert figure.png.with_suffix(".pdf").exists()


def test_every_curve_of_the_kernels_distance_has_a_name_and_a_colour(run: Run) -> None:
    circle.judge(run)
    data = read_figure_data(run.path / "figures" / "kernel_evolution.png")
    assert data is not None
    growth, *distances = data.panels
    assert [one.name for one in growth.series if one.name]
    assert [panel.title for panel in distances] == ["beta = 0.5", "beta = 1.25"]
    for panel in distances:
        assert [one.name for one in panel.series] == ["gamma0 = 0.0001", "gamma0 = 1"]
        assert len({one.colour for one in panel.series}) == 2
    assert distances[0].y.view == distances[1].y.view


def test_a_cell_beyond_its_expected_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    one = cells.cell(SETTINGS, HARD)
    said: list[tuple[float, str]] = []
    group = CellGroup(
        None,
        [one],
        Optimisation(method="flow"),
        torch.device("cpu"),
        Path(),
        lambda share, text: said.append((share, text)),
    )
    for clock in (0.5, 2.0):
        end = clock * one.schedule.expected_end
        monkeypatch.setattr(cell_group, "_clock", lambda trainer, end=end: end)
        group._progress(group._trainer)
    assert [share for share, _ in said] == [0.5, 1.0]
    assert ["longer than expected" in text for _, text in said] == [False, True]


def test_the_same_command_on_a_finished_run_trains_nothing(run: Run) -> None:
    before = (run.path / "metrics.jsonl").stat().st_mtime_ns
    folder = circle.run(replace(SETTINGS, runs=run.path.parents[1]))
    assert folder is not None
    assert folder.finished
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before


def test_seeds_in_one_ensemble_learn_as_they_do_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, beta=(0.5,), lazy=0.0, seed=(3, 4), runs=tmp_path)
    ends = []
    for batched in (False, True):
        folder = circle.run(replace(settings, batched=batched, name=f"batched{batched}"))
        assert folder is not None
        metrics = runs.load(folder.path).metrics
        early = metrics.filter((pl.col("time") > 0.5) & (pl.col("time") < 5))
        ends.append(early.sort("seed", "time")["mse"].to_numpy())
    # One step size for both members instead of one each: equal to first order in it.
    np.testing.assert_allclose(ends[0], ends[1], rtol=0.02)


def test_crossing_times_of_a_power_law() -> None:
    rng = np.random.default_rng()
    exponent = rng.uniform(0.2, 1.5)
    times = np.geomspace(0.1, 1e4, 60)
    levels = np.geomspace(2.0, 5000.0, 17) ** -exponent
    found = crossing_times(times, times**-exponent, levels)
    assert found is not None
    np.testing.assert_allclose(found, np.geomspace(2.0, 5000.0, 17), rtol=1e-6)


def test_a_curve_that_does_not_get_there_has_no_crossings() -> None:
    times = np.geomspace(0.1, 10, 30)
    assert crossing_times(times, times**-0.5, np.array([1.0, 0.01])) is None
    assert crossing_times(times, times**-0.5, np.array([100.0, 1.0])) is None


def test_the_window_covers_the_modes_it_names() -> None:
    low, high = window(circle.CircleSettings(), HARD)
    spectrum = infinite_spectrum(circle.CircleSettings(), HARD)
    assert low == pytest.approx(0.5 / float(spectrum[5]))
    assert high == pytest.approx(0.25 / float(spectrum[32]))
    assert (low, high) == pytest.approx((160, 3500), rel=0.05)
