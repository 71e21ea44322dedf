"""Runs of a sweep that differ in lists alone are judged as the one run they make."""

from pathlib import Path

import pytest
import torch

from ntkscale.experiments import EXPERIMENTS
from ntkscale.faces.sweep.axes import plan
from ntkscale.faces.sweep.folder import SweepFolder, open_sweep
from ntkscale.faces.sweep.pooled import pooled
from ntkscale.runs import load, open_run

COMMANDS = {name: experiment.settings for name, experiment in EXPERIMENTS.items()}
WORDS = ["circle", "--lazy", "0.001", "--gamma0", "0.1,1", "--seed", "0..2", "--steps", "10,20"]


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """Two lists and one option of one value; every run holds its cell and a lazy one."""
    folder, lock = open_sweep(tmp_path / "s", plan(WORDS, COMMANDS))
    lock.release()
    for point in folder.plan.points:
        gamma0, seed, steps = (point.options[name][0] for name in ("gamma0", "seed", "steps"))
        config = {"experiment": "circle", "gamma0": [float(gamma0)], "seed": [int(seed)]}
        with open_run(folder.run(point), config | {"steps": int(steps)}) as run:
            for richness in (0.001, float(gamma0)):
                cell = f"gamma0={richness},seed={seed}"
                run.append({"cell": cell, "step": 0, "mse": richness})
                run.write_kernel(cell, 0, {"kernel": torch.eye(2) * richness})
                run.write_weights(cell, {"w": torch.ones(1)})
                run.write_result(cell, {"status": "finished", "steps": int(steps)})
            run.finish()
    return folder


def test_lists_are_put_together_and_single_values_stay_apart(sweep: SweepFolder):
    paths = pooled(sweep)
    assert [path.name for path in paths] == ["steps=10", "steps=20"]
    for path in paths:
        run = load(path)
        assert run.finished and run.config["gamma0"] == [0.1, 1.0]
        assert run.config["seed"] == [0, 1, 2]
        # The lazy cell of a seed was in two runs and is there once.
        assert len(run.results) == len(run.metrics) == len(run.kernels) == 9
        kernel = run.kernels["gamma0=1.0,seed=2", 0]["kernel"]
        assert torch.equal(kernel, torch.eye(2))
    assert pooled(sweep) == paths


def test_an_unfinished_sweep_is_put_together_as_far_as_it_is(sweep: SweepFolder):
    results = sweep.run(sweep.plan.points[0]) / "results.json"
    results.unlink()
    first, second = map(load, pooled(sweep))
    assert not first.finished and second.finished
    assert "gamma0=0.1,seed=0" not in first.results and len(first.results) == 8
    assert len(first.metrics) == 8


def test_cells_that_contradict_each_other_stay_apart(sweep: SweepFolder):
    point = sweep.plan.points[0]
    old = load(sweep.run(point))
    for path in sorted(sweep.run(point).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    config = {name: value for name, value in old.config.items() if name != "version"}
    with open_run(sweep.run(point), config) as run:
        run.append({"cell": "gamma0=0.001,seed=0", "step": 0, "mse": 2.0})
        run.write_result("gamma0=0.001,seed=0", {"status": "diverged", "steps": 10})
        run.finish()
    own = [sweep.run(one) for one in sweep.plan.points if one.options["steps"] == ("10",)]
    assert pooled(sweep) == [*own, sweep.path / "pooled" / "circle" / "steps=20"]
