"""`global-convergence`, tiny: what it measures against networks, what it tells, killed runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from ntkscale import ntk, runs
from ntkscale.experiments import EXPERIMENTS, global_convergence
from ntkscale.experiments.global_convergence import pieces
from ntkscale.experiments.global_convergence.claims import claims
from ntkscale.experiments.global_convergence.measures import records_of
from ntkscale.experiments.global_convergence.models import models, problem_of
from ntkscale.experiments.global_convergence.settings import (
    PRESETS,
    GlobalConvergenceSettings,
    expand,
)
from ntkscale.faces import train
from ntkscale.networks import MLP
from ntkscale.theory import partially_trained
from ntkscale.training import Optimisation, Trainer
from tests.reference.partially_trained import tangent_kernel

TINY = GlobalConvergenceSettings(
    data="xor", size=(12,), test_size=30, dimension=(5,), label=(0.7,), depth=(2,), width=(16, 24),
    frozen=20, activation=("relu",), scaling=("mean-field", "ntk", "full-mean-field"),
    horizon=40.0, check=20, seed=(3, 5), workers=1, wandb="disabled",
)  # fmt: skip


@pytest.mark.parametrize("scaling", ["mean-field", "ntk", "full-mean-field"])
@pytest.mark.parametrize(("name", "depth"), [("relu", 2), ("gelu", 3), ("tanh", 4)])
def test_a_network_is_its_problem(scaling: str, name: str, depth: int) -> None:
    """Kernel, outputs and steps, with biases, deep (normalised) stacks and all scalings."""
    settings = expand(replace(TINY, depth=(depth,), activation=(name,), bias=0.3))
    model = next(one for one in models(settings) if one.scaling == scaling)
    network, task, problem = model.both()
    kernel = float(network.gamma) ** 2 * ntk.gram(network, task.inputs)
    torch.testing.assert_close(problem.tangent(problem.hidden), kernel)
    slow = tangent_kernel(problem.hidden, problem.gram, problem.readout, problem.sigma.first)
    torch.testing.assert_close(slow, kernel)
    Trainer(network, task, Optimisation(steps=15, learning_rate=0.8)).run()
    found = partially_trained.flow(problem, 12.0, step=0.8)
    with torch.no_grad():
        hidden = network.preactivations(task.inputs)[f"hidden{depth}"]
        torch.testing.assert_close(found.hidden, hidden, rtol=1e-9, atol=1e-10)
        assert task.test_inputs is not None
        test = found.snapshots[-1].test_outputs
        torch.testing.assert_close(test, network(task.test_inputs)[:, 0], rtol=1e-9, atol=1e-10)
    kernel = float(network.gamma) ** 2 * ntk.gram(network, task.inputs)
    e = (network(task.inputs) - task.targets).detach()[:, 0]
    loss = float(e.square().mean()) / 2
    assert found.loss[-1] == pytest.approx(loss)
    assert found.rate[-1] == pytest.approx(float(e @ kernel @ e) / 144 / loss)


def test_what_is_recorded_is_what_networks_do(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="a")
    run = runs.load(global_convergence.run(settings).path)
    assert run.finished and len(run.results) == 12
    for model in models(expand(settings)):
        (name,) = (
            n for n, r in run.results.items() if all(r[k] == v for k, v in model.key.items())
        )
        record = run.results[name]
        network, task, _ = model.both()
        Trainer(network, task, Optimisation(steps=40, learning_rate=1.0)).run()
        assert task.test_inputs is not None and task.test_targets is not None
        with torch.no_grad():
            f = network(task.test_inputs)
        wrong = float((f * task.test_targets <= 0).double().mean())
        assert record["test_error"] == pytest.approx(wrong)
        assert record["test_mse"] == pytest.approx(float((f - task.test_targets).square().mean()))
        assert record["violations"] == 0 and record["r_squared"] <= 1
        assert (record.get("training_gap") is not None) == (model.seed == 3)
        rows = run.metrics.filter(run.metrics["cell"] == name)
        assert rows["time"].to_list()[-1] == 40 and rows["loss"][-1] == record["loss"]
        assert rows["mse"][-1] == pytest.approx(2 * rows["loss"][-1])
        assert len(run.weights(name)["neuron_movement"]) == model.width


def test_every_claim_table_and_figure(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="b", horizon=20.0)
    run = runs.load(global_convergence.run(settings).path)
    verdict = EXPERIMENTS["global-convergence"].judge(run)
    titles = [table.title for table in verdict.tables]
    assert titles == ["Claims", "Told before the run", "Rates", "Features and tests"]
    figures = [figure for section in verdict.sections for figure in section.figures]
    assert len(figures) == 6 and all(Path(str(figure.png)).exists() for figure in figures)
    listed = claims(records_of(run), expand(settings), True)
    marks = {one.what: one.found.mark for one in listed}
    assert marks["instantaneous rate >= proven rate r(t), at every step"] == "pass"
    twin = "the twin begins with the mean-field network's kernel, relative difference of rates"
    assert marks[twin] == "pass"
    # Bounds of the presets are not for other settings.
    assert marks["slope of movement against width, log-log"] is None
    assert "mean-field" in verdict.summary and "twin" in verdict.summary


def test_a_bound_that_is_broken_fails() -> None:
    settings = expand(GlobalConvergenceSettings())
    record: dict[str, Any] = {
        "activation": "relu", "scaling": "mean-field", "depth": 1, "size": 20, "dimension": 100,
        "label": 1.0, "width": 600, "seed": 0, "violations": 0, "steps": 9, "tightest": 2.0,
        "schur_slack": 0.1, "above_proven_loss": 0.0, "promised": 0.1, "promise_kept": True,
        "largest_proven": 0.1, "least_proven": 0.1, "training_gap": 1e-9, "r_squared": 0.999,
        "loss": 1e-10, "first_rate": 0.1,
    }  # fmt: skip

    def marks(**change: Any) -> list[Any]:
        return [one.found.mark for one in claims([{**record, **change}], settings, True)]

    assert set(marks()) == {"pass"}
    broken = (
        {"violations": 1}, {"schur_slack": -1e-6}, {"above_proven_loss": 1e-3},
        {"promise_kept": False}, {"least_proven": 0.0}, {"training_gap": 1e-5},
        {"r_squared": 0.99}, {"loss": 1e-8}, {"dimension": 10},
        {"activation": "tanh", "label": 0.5, "r_squared": 0.97},
    )  # fmt: skip
    for change in broken:
        assert marks(**change).count("fail") == 1, change
    nan = {**record, "r_squared": float("nan")}
    for some in ([record, nan], [nan, record]):
        assert [one.found.mark for one in claims(some, settings, True)].count("fail") == 1
    deep = {"depth": 2, "least_proven": 0.0}
    assert marks(**deep).count("fail") == 1
    # Points alike, few or linear features have a singular G, and no positive rate is claimed.
    for change in ({"distinct": False}, {"size": 700}, {"activation": "linear"}):
        assert "fail" not in marks(**deep, **change), change
    twin = {**record, "scaling": "ntk", "first_rate": 0.1001}
    both = [one.found.mark for one in claims([record, twin], settings, True)]
    assert both.count("fail") == 1


def test_intervals_are_over_seeds_alone(tmp_path: Path) -> None:
    """Not over dimensions, which are cases of their own."""
    settings = replace(
        TINY, runs=tmp_path, name="e", dimension=(5, 7), scaling=("mean-field", "ntk"), seed=(3,),
        horizon=20.0,
    )  # fmt: skip
    run = runs.load(global_convergence.run(settings).path)
    found = global_convergence.judge(run)
    assert "[" not in found.summary and found.summary.count("of the twin") == 4
    slopes = [
        one
        for one in claims(records_of(run), expand(settings), True)
        if one.what.startswith("slope") and one.condition.startswith("mean-field")
    ]
    assert [one.condition for one in slopes] == [f"mean-field, d = {d}, 2 widths" for d in (5, 7)]
    for one, d in zip(slopes, (5, 7), strict=True):
        thin, wide = (
            next(
                r["movement"]
                for r in run.results.values()
                if (r["scaling"], r["dimension"], r["width"]) == ("mean-field", d, width)
            )
            for width in (16, 24)
        )
        slope = np.log(wide / thin) / np.log(24 / 16)
        assert one.found.value == pytest.approx(slope) and one.found.interval is None


def test_labels_and_test_sets_of_no_size(tmp_path: Path) -> None:
    tiny = replace(
        TINY, data="sphere", depth=(1,), scaling=("mean-field",), label=(1e-9,), width=(16,),
        seed=(0,), runs=tmp_path, name="f",
    )  # fmt: skip
    assert global_convergence.judge(runs.load(global_convergence.run(tiny).path)).sections
    for data in ("xor", "digits"):
        none = expand(replace(TINY, data=cast(Any, data), classes=(3, 8), test_size=0))
        assert models(none)[0].task().test_inputs is None


def test_the_infinite_full_mean_field_starts_at_small_fields(tmp_path: Path) -> None:
    settings = replace(
        TINY, activation=("tanh",), scaling=("full-mean-field",), width=(16,), runs=tmp_path,
        name="g", seed=(3,), check=0, dimension=(9,),
    )  # fmt: skip
    run = runs.load(global_convergence.run(settings).path)
    (record,) = run.results.values()
    task = models(expand(settings))[0].task()
    assert task.test_inputs is not None and task.test_targets is not None
    gram = partially_trained.infinite_gram(
        torch.cat((task.inputs, task.test_inputs)), depth=2, activation="tanh", bias=0.5
    )
    root = torch.linalg.cholesky(gram / 20 + 1e-12 * torch.eye(len(gram)))
    h = root @ torch.randn(len(gram), 20_000, dtype=torch.float64)
    slopes = 1 - torch.tanh(h).square()
    theta = (gram * (slopes @ slopes.T) / 20_000)[:, :12]
    left = torch.eye(12) - torch.matrix_exp(-theta[:12] * 40 / 12)
    f = theta[12:] @ torch.linalg.solve(theta[:12], left @ task.targets)
    expected = float((f - task.test_targets).square().mean())
    assert record["infinite_mse"] == pytest.approx(expected, rel=5e-3)


def test_what_fails_is_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(
        TINY, data="sphere", depth=(1,), scaling=("mean-field",), activation=("tanh",),
        dimension=(4, 30), label=(1.0, 0.001), width=(200,), seed=(0,), runs=tmp_path, name="c",
    )  # fmt: skip

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pieces.partially_trained, "flow", stopped)
        global_convergence.run(settings)
    said = capsys.readouterr().out
    for part in ("violated", "vacuous", "open", "rank 4", "|f| stays below 1"):
        assert all(word in said for word in part.split())  # lines are folded
    run = runs.load(global_convergence.run(settings).path)
    table = next(t for t in global_convergence.judge(run).tables if t.title.startswith("Told"))
    where = {row["standing"]: (row["runs"], row["where"]) for row in table.rows}
    assert where["violated"] == ("2 of 4", "label 1")
    assert where["vacuous"] == ("2 of 4", "dimension 4")
    assert where["open"][0] == "3 of 4"
    kept = [r for r in run.results.values() if r["promised"] is not None]
    assert len(kept) == 1 and kept[0]["promise_kept"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    settings = replace(TINY, runs=tmp_path, workers=workers, width=(16,), horizon=20.0, check=0)
    whole = global_convergence.run(replace(settings, name="whole")).path
    follow, calls = partially_trained.flow, []

    def stopped(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return follow(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pieces.partially_trained, "flow", stopped)
        global_convergence.run(replace(settings, name="killed"))
    path = global_convergence.run(replace(settings, name="killed")).path
    assert runs.load(whole).results == runs.load(path).results
    assert (whole / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()


def test_pairs_of_images(tmp_path: Path) -> None:
    settings = replace(
        TINY, data="digits", classes=(3, 8, 0, 1), scaling=("mean-field",), width=(16,), size=(20,),
        runs=tmp_path, name="d", horizon=20.0, seed=(0,),
    )  # fmt: skip
    run = runs.load(global_convergence.run(settings).path)
    assert {(r["first"], r["second"]) for r in run.results.values()} == {(3, 8), (0, 1)}
    rows = global_convergence.judge(run).tables[2].rows
    assert [row["runs"] for row in rows] == ["3 or 8", "0 or 1"]
    task = models(expand(settings))[0].task()
    assert task.inputs.shape == (20, 64)
    np.testing.assert_allclose(task.targets.abs().numpy(), 0.7)


def test_presets_are_complete() -> None:
    for preset in PRESETS:
        for quick in (False, True):
            assert models(expand(GlobalConvergenceSettings(preset=cast(Any, preset), quick=quick)))
    names = {r for r in expand(GlobalConvergenceSettings()).activation}
    assert names == {"relu", "tanh"} and len(models(expand(GlobalConvergenceSettings()))) >= 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--width 5", "--width must be even"),
        ("--activation relu2", "no bound on its slope"),
        ("--scaling full-mean-field", "--depth 2"),
        ("--data digits --classes 3", "pairs of classes"),
        ("--horizon 5", "ten times --step"),
        ("--device mps", "--device mps"),
        ("--label 0", "--label 0"),
        ("--floor 0.6", "--floor 0.6"),
        ("--floor 1e-40", "--floor 1e-40"),
        ("--data digits --classes 3 8 3 8", "a pair twice"),
        ("--seed 1 1", "--seed"),
        ("--check -1", "--check"),
        ("--data xor --dimension 1 --depth 2", "--dimension of xor"),
    ],
)
def test_bad_options_are_one_sentence(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"global-convergence {words} --runs {tmp_path / 'runs'}"
    assert train.main(command.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_help_fits_on_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        train.main(["global-convergence", "--help"])
    assert len(capsys.readouterr().out.splitlines()) <= 45


def test_only_partially_trained_networks_are_problems() -> None:
    task = models(expand(TINY))[0].task()
    for network in (
        MLP(5, 1, width=8, dtype=torch.float64),
        MLP(5, 2, width=8, trained="last-hidden", dtype=torch.float64),
    ):
        with pytest.raises(ValueError, match="trained='last-hidden'"):
            problem_of(network, task)
    signs = MLP(5, 1, width=8, init="signs", trained="last-hidden", dtype=torch.float64)
    problem = problem_of(signs, task)  # centred by subtraction
    Trainer(signs, task, Optimisation(steps=9, learning_rate=1.0)).run()
    found = partially_trained.flow(problem, 9.0)
    with torch.no_grad():
        torch.testing.assert_close(found.snapshots[-1].outputs, signs(task.inputs)[:, 0])
