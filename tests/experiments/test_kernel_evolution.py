"""`kernel-evolution`, tiny: what it measures against direct computation, and killed runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntkscale import landscape, ntk, runs
from ntkscale.experiments import EXPERIMENTS, kernel_evolution
from ntkscale.experiments.kernel_evolution import pieces
from ntkscale.experiments.kernel_evolution.claims import _falling_advantage
from ntkscale.experiments.kernel_evolution.measures import evolutions
from ntkscale.experiments.kernel_evolution.settings import PRESETS, KernelEvolutionSettings, expand
from ntkscale.training import Linearised, Optimisation, Trainer, spawn

TINY = KernelEvolutionSettings(
    size=96,
    test_size=50,
    width=12,
    epochs=3.0,
    spawn=(0.0, 1.0, 1.5),
    linear_epochs=1.0,
    learning_rate=0.2,
    momentum=0.5,
    batch_size=16,
    probe=10,
    regression=20,
    seed=(0, 1),
    workers=1,
    wandb="disabled",
)


def plan_of(settings: KernelEvolutionSettings, group: int = 0) -> Any:
    return pieces.groups(expand(settings))[group][0].do.args[0]  # type: ignore[attr-defined]


def test_measures_are_those_of_networks_trained_by_hand(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="a")
    run = runs.load(kernel_evolution.run(settings).path)
    one = evolutions(run, expand(settings))[0][1]
    plan = plan_of(settings, 1)
    assert one.seed == 1 and run.finished
    parent = plan.build()
    trainer = Trainer(parent, plan.task, plan.optimisation, seed=1)
    states: dict[int, Any] = {}
    kernels: dict[int, torch.Tensor] = {}
    probe = plan.task.inputs[:10]

    def look(now: Trainer) -> None:
        states[now.step] = now.state()
        kernels[now.step] = ntk.gram(parent, probe).double()

    per_step = 0.2 / (1 - 0.5)
    trainer.run(measure_at=[k * per_step for k in range(19)], on_measure=look)
    assert one.full_error == pytest.approx(1 - trainer.evaluate()["test_accuracy"])
    spacing = round(0.4 * 6)
    for position, step in enumerate((0, 6, 9)):
        distance = float(ntk.kernel_distance(kernels[step], kernels[step + spacing]))
        rate = distance / (spacing / 6)
        assert float(one.velocity[position]) == pytest.approx(rate, rel=1e-3)
        travelled = float(ntk.kernel_distance(kernels[0], kernels[step]))
        assert float(one.travelled[position]) == pytest.approx(travelled, rel=1e-3, abs=1e-12)
    # Children and linearised networks of the second spawn time.
    children = []
    for child in (0, 1):
        network = plan.build()
        own = spawn(network, plan.task, states[6], seed=1_000_000 + 1000 + 10 + child)
        own.run()
        children.append(network.state_dict())
    barrier = landscape.error_barrier(
        parent, children[0], children[1], {"train": (plan.task.inputs, plan.task.labels)}
    )["train"].barrier
    assert float(one.mean("train_barrier")[1]) == pytest.approx(barrier, abs=1e-12)
    patterns = landscape.pattern_distance(parent, children[0], children[1], probe)
    assert float(one.mean("hamming")[1]) == pytest.approx(patterns)
    network = plan.build()
    network.load_state_dict(
        {k.removeprefix("model."): v for k, v in states[6][0].items() if k.startswith("model.")}
    )
    linear = Trainer(
        Linearised(network),
        plan.task,
        Optimisation(method="momentum", steps=6, learning_rate=0.2, batch_size=16, momentum=0.5),
        seed=1_000_001,
    )
    linear.run()
    expected = 1 - linear.evaluate()["test_accuracy"]
    assert float(one.linear_error[1]) == pytest.approx(expected)


def test_it_is_judged_with_every_figure(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="b", seed=(0, 1))
    verdict = EXPERIMENTS["kernel-evolution"].judge(runs.load(kernel_evolution.run(settings).path))
    figures = [figure for section in verdict.sections for figure in section.figures]
    assert len(figures) == 2 and all(Path(str(figure.png)).exists() for figure in figures)
    assert [table.title for table in verdict.tables][:2] == [
        "Claims",
        "By spawn time, mean over parents",
    ]
    # The bounds are for the presets' own settings.
    assert all(row["found"].mark is None for row in verdict.tables[0].rows)  # type: ignore


def test_lazy_networks_hardly_move_and_rich_ones_do(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="c", gamma0=(0.01, 2.0), children=2, regression=0,
        kernel="full", momentum=0.0, seed=(0,), learning_rate=0.5,
    )  # fmt: skip
    run = runs.load(kernel_evolution.run(settings).path)
    (lazy, rich), dead = evolutions(run, expand(settings))
    assert not dead
    assert lazy.distances[0, -1] < 1e-3 < rich.distances[0, -1]
    verdict = kernel_evolution.judge(run)
    assert verdict.tables[0].title == "Lazy to rich" and len(verdict.tables[0].rows) == 2
    # A lazy network is its own linearisation.
    assert np.abs(lazy.advantage).max() <= 0.1


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("killed", ["parent", "child", "linearised"])
def test_a_killed_run_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, workers: int
) -> None:
    settings = replace(TINY, runs=tmp_path, workers=workers, regression=0, spawn=(0.0, 1.0))
    whole = kernel_evolution.run(replace(settings, name="whole")).path
    train, left = pieces._train, {"count": {"parent": 1, "child": 3, "linearised": 2}[killed]}

    def stopped(trainer: Trainer, desk: Any, plan: Any, look: Any, checkpoint: Any) -> str:
        kind = "parent" if look else "linearised" if hasattr(trainer.network, "mode") else "child"
        left["count"] -= kind == killed
        if left["count"] or kind != killed:
            return train(trainer, desk, plan, look, checkpoint)

        def last_look(now: Trainer) -> None:
            look(now)
            checkpoint(now)
            if now.step >= 4:
                raise KeyboardInterrupt

        if look:
            return train(trainer, desk, plan, last_look, checkpoint)
        trainer._blow_up = trainer._blow_up or [float("inf")]
        start = trainer.step
        while trainer.step < start + 4:
            trainer._advance(None)
        checkpoint(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pieces, "_train", stopped)
        kernel_evolution.run(replace(settings, name="killed"))
    path = kernel_evolution.run(replace(settings, name="killed")).path
    first, second = runs.load(whole), runs.load(path)
    assert first.results == second.results
    assert (whole / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()
    for name in first.weighted:
        ours, theirs = first.weights(name), second.weights(name)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_presets_are_complete() -> None:
    for preset in PRESETS:
        for quick in (False, True):
            expand(KernelEvolutionSettings(preset=preset, quick=quick))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spawn": (0.0, 3.0)}, "must lie from 0 to before"),
        ({"spawn": (0.0, float("nan"))}, "must lie from 0 to before"),
        ({"spawn": (0.0, 0.05, 1.0)}, "give times at different steps"),
        ({"spawn": (0.0, 2.95)}, "give times at different steps"),
        ({"workers": -2}, "--workers -2"),
        ({"children": 1}, "no pair to compare"),
        ({"model": "cnn"}, "needs images"),
        ({"model": "resnet20", "gamma0": (1.0,)}, "has no --gamma0"),
        ({"batch_size": 97}, "exceeds the 96 training samples"),
        ({"seed": (1, 1)}, "--seed has a value twice"),
        ({"linear_epochs": -1.0}, "--linear-epochs must be 0 or more"),
        ({"momentum": 1.0}, "momentum"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        kernel_evolution.run(replace(TINY, runs=tmp_path, **change))
    assert list(tmp_path.iterdir()) == []


def test_networks_with_batch_norm_go_all_the_way(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="r", data="digits", model="resnet20", width=2, seed=(0,),
        size=64, test_size=30, epochs=2.0, spawn=(0.0, 1.0), batch_norm="recompute",
        schedule="cosine", kernel="full", probe=6, linear_rate=0.01,
    )  # fmt: skip
    run = runs.load(kernel_evolution.run(settings).path)
    verdict = kernel_evolution.judge(run)
    assert "Batch-norm statistics on straight paths: recompute" in verdict.summary
    (one,), _ = evolutions(run, expand(settings))
    assert np.isfinite(one.mean("train_barrier")).all() and np.isfinite(one.linear_error).all()
    assert not any("running" in name for name in one.parameters)


@pytest.mark.parametrize(("rate", "words"), [(1e6, "Diverged, and left out"), (40.0, "left out")])
def test_what_diverges_or_dies_is_left_out_and_said(
    tmp_path: Path, rate: float, words: str
) -> None:
    settings = replace(TINY, runs=tmp_path, name="d", learning_rate=rate, seed=(0,))
    verdict = kernel_evolution.judge(runs.load(kernel_evolution.run(settings).path))
    assert words in verdict.summary


def test_a_child_that_diverged_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = pieces._child

    def broken(plan: Any, position: int, number: int, *rest: Any) -> dict[str, Any]:
        record = child(plan, position, number, *rest)
        return {**record, "status": "diverged"} if (position, number) == (1, 0) else record

    monkeypatch.setattr(pieces, "_child", broken)
    settings = replace(TINY, runs=tmp_path, name="e", children=3, seed=(0,))
    run = runs.load(kernel_evolution.run(settings).path)
    verdict = kernel_evolution.judge(run)
    assert "Diverged, and left out: child,seed=0,spawn=1,child=0" in verdict.summary
    (one,), _ = evolutions(run, expand(settings))
    assert np.isfinite(one.pairs["hamming"]).sum(1).tolist() == [3, 1, 3]
    assert np.isfinite(one.mean("hamming")).all()


def test_an_advantage_that_falls_rises_or_is_left_open() -> None:
    rng = np.random.default_rng()
    falling = np.linspace(0.5, 0.01, 6) + 1e-4 * rng.standard_normal((3, 6))
    assert _falling_advantage(falling, True).found.mark == "pass"
    rising = falling.copy()
    rising[:, 2:] += 0.2
    assert _falling_advantage(rising, True).found.mark == "fail"
    open_ = falling.copy()
    open_[:, 1] = open_[:, 0] + np.array([0.04, -0.02, 0.01])
    claim = _falling_advantage(open_, True)
    assert claim.found.mark == "rough" and "within the scatter" in str(claim.found.value)
    assert _falling_advantage(open_, False).found.mark is None
