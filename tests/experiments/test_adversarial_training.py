"""`adversarial-training`, tiny: what it measures against direct computation, and killed runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ntkscale import ntk, runs
from ntkscale.experiments import EXPERIMENTS, adversarial_training
from ntkscale.experiments.adversarial_training import pieces
from ntkscale.experiments.adversarial_training.claims import mark_of
from ntkscale.experiments.adversarial_training.ladder import draw_ladder, ladder_table
from ntkscale.experiments.adversarial_training.measures import trained
from ntkscale.experiments.adversarial_training.settings import (
    PRESETS,
    AdversarialTrainingSettings,
    expand,
)
from ntkscale.reporting import Entry
from ntkscale.robustness import Threat, pgd
from ntkscale.schema import QUANTITIES
from ntkscale.training import Linearised, Optimisation, Trainer

TINY = AdversarialTrainingSettings(
    preset="digits",
    size=120,
    test_size=40,
    width=10,
    epochs=3.0,
    batch_size=20,
    probe=16,
    top=3,
    train_steps=2,
    eval_steps=3,
    linear_spawn=(0.0, 1.0),
    linear_epochs=1.0,
    seed=(0, 1),
    workers=1,
    wandb="disabled",
)


def attacked(
    model: Any, x: torch.Tensor, labels: torch.Tensor, steps: int, size: float
) -> torch.Tensor:
    """Sign steps of cross-entropy's gradient, clipped to within .1 of x and to 0 .. 1."""
    moved = x.clone()
    for _ in range(steps):
        leaf = moved.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        moved = moved + size * gradient.sign()
        moved = torch.maximum(torch.minimum(moved, x + 0.1), x - 0.1).clamp(0, 1)
    return moved


def share_right(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == labels).float().mean())


def test_measures_are_those_of_networks_trained_by_hand(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="a", attack=("none", "pgd"), seed=(3,))
    run = runs.load(adversarial_training.run(settings).path)
    found, dead = trained(run, expand(settings))
    standard, one = found
    assert run.finished and not dead and (standard.attack, one.attack) == ("none", "pgd")
    plan = pieces.groups(expand(settings))[1][0].do.args[0]  # type: ignore[attr-defined]
    task, net = plan.task, plan.build()
    probe, labels = task.inputs[:16], task.labels[:16]
    kernels: dict[str, list[torch.Tensor]] = {"clean": [], "adversarial": []}
    weights: dict[int, Any] = {}
    robust: list[float] = []

    def adversary(model: Any, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return attacked(model, x, labels, 2, 2.5 * 0.1 / 2)

    def look(now: Trainer) -> None:
        moved = attacked(net, probe, labels, 3, 2.5 * 0.1 / 3)
        for name, inputs in (("clean", probe), ("adversarial", moved)):
            kernels[name].append(ntk.gram(net, inputs).detach().double() / 10)
        tested = attacked(net, task.test_inputs, task.test_labels, 3, 2.5 * 0.1 / 3)
        robust.append(share_right(net, tested, task.test_labels))
        weights[now.step] = {n: v.clone() for n, v in net.state_dict().items()}

    trainer = Trainer(net, task, plan.optimisation, seed=3, adversary=adversary)
    looks = [0, 2, 3, 6, 12, 18]
    assert plan.looks == looks and one.epochs.tolist() == [s / 6 for s in looks]
    trainer.run(measure_at=looks, by_step=True, on_measure=look)
    assert one.robust.tolist() == pytest.approx(robust)
    assert one.clean[-1] == pytest.approx(share_right(net, task.test_inputs, task.test_labels))
    for name, path in one.paths.items():
        mine = kernels[name]
        for position, kernel in enumerate(mine):
            values = torch.linalg.eigvalsh(kernel)
            share = float(values[-3:].sum() / values.sum())
            assert path.shares["trace_share"][position] == pytest.approx(share, rel=1e-4)
            cosine = float((kernel * mine[0]).sum() / kernel.norm() / mine[0].norm())
            angle = math.degrees(math.acos(min(cosine, 1.0)))
            assert path.angle["full"][position] == pytest.approx(angle, rel=1e-3, abs=0.02)
        assert path.growth == pytest.approx(float(mine[-1].norm() / mine[0].norm()), rel=1e-4)
        assert path.early_rotation == pytest.approx(path.angle["full"][4] / path.angle["full"][5])
        last = float(ntk.kernel_distance(mine[-2], mine[-1]))
        assert path.velocity[-1] == pytest.approx(last, rel=1e-3)
        h = torch.eye(16, dtype=torch.float64) - 1 / 16
        values = torch.linalg.eigvalsh(h @ mine[-1] @ h).square()
        squared = float(values[-3:].sum() / values.sum())
        assert path.shares["centred_squared_share"][-1] == pytest.approx(squared, rel=1e-3)
    # The network linearised after one epoch, attacked in its own right.
    net.load_state_dict(weights[6])
    model = Linearised(net)
    options = Optimisation(steps=6, learning_rate=0.1, batch_size=20)
    Trainer(model, task, options, seed=1_000_003, adversary=adversary).run()
    tested = attacked(model, task.test_inputs, task.test_labels, 3, 2.5 * 0.1 / 3)
    assert one.linear_robust[1] == pytest.approx(share_right(model, tested, task.test_labels))
    assert one.linear_clean[1] == pytest.approx(
        share_right(model, task.test_inputs, task.test_labels)
    )
    full = plan.build()
    full.load_state_dict(weights[18])
    with torch.no_grad():
        right = model(task.test_inputs).argmax(1) == task.test_labels
        for source in (model, full):
            for loss in ("cross-entropy", "margin"):
                moved = pgd(
                    source, task.test_inputs, task.test_labels, Threat(0.1), steps=3, loss=loss
                )
                right &= model(moved).argmax(1) == task.test_labels
    assert one.linear_worst[1] == pytest.approx(float(right.float().mean()))
    # Standard training is that of the trainer alone.
    plain = plan.build()
    Trainer(plain, task, plan.optimisation, seed=3).run()
    kept = run.weights("standard,seed=3")
    assert all(torch.equal(kept[name], value) for name, value in plain.state_dict().items())


def test_it_is_judged_with_every_figure(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="b", seed=(0, 1))
    run = runs.load(adversarial_training.run(settings).path)
    verdict = EXPERIMENTS["adversarial-training"].judge(run)
    figures = [figure for section in verdict.sections for figure in section.figures]
    assert len(figures) == 7 and all(Path(str(figure.png)).exists() for figure in figures)
    assert [table.title for table in verdict.tables] == [
        "Claims",
        "By training",
        "Every network",
        "Linearised adversarial training",
    ]
    assert len(verdict.tables[0].rows) == 7 * 2 * 2 and len(verdict.tables[2].rows) == 3 * 2 * 2
    # The bounds are for fashion-mlp's own settings.
    assert all(row["found"].mark is None for row in verdict.tables[0].rows)  # type: ignore
    assert "of its final rotation after 2 epochs" in verdict.summary
    assert set(run.metrics.columns) - {"cell", "part", "seed"} <= QUANTITIES.keys()


def test_a_ladder_of_two_classes_with_full_kernels(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="c", gamma0=(0.02, 2.0), classes=(3, 8), kernel="full",
        attack=("none", "pgd"), seed=(0,), linear_epochs=0.0, learning_rate=0.5, probe=8,
        model="cnn", width=4,
    )  # fmt: skip
    run = runs.load(adversarial_training.run(settings).path)
    found, _ = trained(run, expand(settings))
    moved = {one.gamma0: one.paths["clean"].distances[0, -1] for one in found}
    assert moved[0.02] < 0.1 * moved[2.0]
    assert run.kernels["pgd,gamma0=2,seed=0", 0]["clean"].shape == (8, 8, 2, 2)
    by_richness: dict[float | None, Any] = {
        gamma0: [one for one in found if one.gamma0 == gamma0] for gamma0 in (0.02, 2.0)
    }
    assert len(ladder_table(by_richness, expand(settings)).rows) == 4
    assert Path(str(draw_ladder(by_richness, expand(settings), tmp_path).png)).exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("killed", ["network", "linearised"])
def test_a_killed_run_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str, workers: int
) -> None:
    settings = replace(
        TINY, runs=tmp_path, workers=workers, attack=("none", "pgd"), seed=(0,), epochs=2.0
    )
    whole = adversarial_training.run(replace(settings, name="whole")).path
    train, left = pieces._train, {"count": 1}

    def stopped(trainer: Trainer, desk: Any, plan: Any, look: Any, checkpoint: Any) -> str:
        kind = "network" if look else "linearised"
        if kind != killed or plan.attack != "pgd" or not left["count"]:
            return train(trainer, desk, plan, look, checkpoint)
        left["count"] -= 1

        def last_look(now: Trainer) -> None:
            look(now)
            checkpoint(now)
            if now.step >= 3:
                raise KeyboardInterrupt

        if look:
            return train(trainer, desk, plan, last_look, checkpoint)
        trainer._blow_up = trainer._blow_up or [float("inf")]
        while trainer.step < 4:
            trainer._advance(None)
        checkpoint(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pieces, "_train", stopped)
        adversarial_training.run(replace(settings, name="killed"))
    path = adversarial_training.run(replace(settings, name="killed")).path
    first, second = runs.load(whole), runs.load(path)
    assert first.results == second.results
    assert (whole / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()
    for name in first.weighted:
        ours, theirs = first.weights(name), second.weights(name)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_presets_are_complete() -> None:
    for preset in PRESETS:
        for quick in (False, True):
            expand(AdversarialTrainingSettings(preset=preset, quick=quick))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": 300.0}, "turns black into white"),
        ({"eps": 0.0}, "--eps 0.0 must be above 0"),
        ({"attack": ("pgd", "pgd")}, "at most once"),
        ({"classes": (1,)}, "takes two different ones"),
        ({"classes": (1, 12)}, "two different ones of 0 to 9"),
        ({"top": 16}, "leaves nothing of a kernel"),
        ({"linear_spawn": (0.0, 3.0)}, "must lie from 0 to before"),
        ({"linear_spawn": (0.0, 0.01)}, "spread them"),
        ({"batch_size": 121}, "--batch-size 121 exceeds the 120 training samples"),
        ({"probe": 121}, "--probe 121 exceeds the 120 training samples"),
        ({"seed": (1, 1)}, "--seed has a value twice"),
        ({"model": "cnn", "depth": 3}, "leave --depth out"),
        ({"step_size": -1.0}, "--step-size must be 0 or more"),
        ({"epochs": 0.5}, "must be 1 or more"),
        ({"workers": -2}, "--workers -2"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        adversarial_training.run(replace(TINY, runs=tmp_path, **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rate", "words"), [(1e6, "Diverged, and left out"), (30.0, "left out")])
def test_what_diverges_or_dies_is_left_out_and_said(
    tmp_path: Path, rate: float, words: str
) -> None:
    settings = replace(TINY, runs=tmp_path, name="d", learning_rate=rate, seed=(0,))
    verdict = adversarial_training.judge(runs.load(adversarial_training.run(settings).path))
    assert words in verdict.summary


def test_a_claim_holds_fails_or_is_open() -> None:
    at_least, below = {"least": 0.08, "most": None}, {"least": None, "most": 0.5}
    assert mark_of(Entry(0.1, (0.09, 0.11)), 5, **at_least) == "pass"
    assert mark_of(Entry(0.1, (0.05, 0.15)), 5, **at_least) == "rough"
    assert mark_of(Entry(0.01, (-0.05, 0.07)), 5, **at_least) == "fail"
    assert mark_of(Entry(0.1, (0.09, 0.11)), 4, **at_least) == "rough"
    assert mark_of(Entry(0.2, (0.1, 0.3)), 6, **below) == "pass"
    assert mark_of(Entry(0.7, (0.5, 0.9)), 6, **below) == "fail"
    assert mark_of(Entry(np.nan, None), 6, **below) == "rough"
