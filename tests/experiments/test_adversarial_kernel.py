"""`adversarial-kernel`, tiny: what it measures against direct computation, and killed runs."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, spearmanr
from torch import Tensor

from ntkscale import ntk, runs
from ntkscale.experiments import EXPERIMENTS, adversarial_kernel
from ntkscale.experiments.adversarial_kernel import models, pictures, transfer
from ntkscale.experiments.adversarial_kernel.measures import features, networks, records
from ntkscale.experiments.adversarial_kernel.settings import (
    PRESETS,
    AdversarialKernelSettings,
    expand,
)
from ntkscale.networks import CNN, MLP
from ntkscale.robustness import InfiniteWidthKernel, KernelPredictor, feature_images
from ntkscale.schema import QUANTITIES
from ntkscale.tasks import images
from ntkscale.theory.infinite_width import kernels
from ntkscale.training import Optimisation, Trainer

TINY = AdversarialKernelSettings(
    preset="digits",
    pairs=("3-8",),
    size=40,
    attacked=20,
    features=12,
    top=5,
    times=(10.0, 300.0),
    transfer_size=30,
    transfer_time=60.0,
    width=(10, 40),
    ladder_width=12,
    gamma0=(0.2, 2.0),
    seed=(0,),
    workers=1,
    wandb="disabled",
)
EPS = 16 / 255


def attacked(f: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """One sign step against y f, sample by sample, by autograd."""
    found = []
    for one, target in zip(x, y, strict=True):
        leaf = one[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(-(target * f(leaf)).sum(), leaf)
        found.append((one[None] + eps * gradient.sign()).clamp(0, 1))
    return torch.cat(found).detach()


def right(f: Any, x: Tensor, y: Tensor) -> int:
    return int((f(x).detach().reshape(-1) * y > 0).sum())


class Kernel:
    """The paper's kernel regression, by its formulas in float64."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        values, vectors = torch.linalg.eigh(self.kernel(x, x) / len(x))
        self.values, self.vectors = values.flip(0), vectors.flip(1)

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        both = kernels(a, b, depth=1, weight_variance=2.0, bias_variance=0.01).ntk
        return both + 0.01

    def function(self, weights: Tensor) -> Any:
        alpha = self.vectors @ (weights * (self.vectors.T @ self.y)) / len(self.x)
        return lambda x: self.kernel(x, self.x) @ alpha

    def at(self, time: float) -> Any:
        done = 1 - torch.exp(-self.values * time) if math.isfinite(time) else 1.0
        return self.function(done / self.values)

    def features(self, indices: list[int]) -> Any:
        chosen = torch.zeros_like(self.values)
        chosen[indices] = 1
        return self.function(chosen / self.values)


def test_features_are_those_of_the_formulas(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="a", seed=(3,), parts=("features", "held-out"))
    settings = replace(settings, typed=("parts",))
    run = runs.load(adversarial_kernel.run(settings).path)
    (one,) = features(run)
    task = images("digits", size=40, classes=(3, 8), scale="pixels", seed=3)
    reference = Kernel(task.inputs.double(), task.targets[:, 0].double())
    # Counts may differ by a sample whose output, or a pixel of whose gradient, is rounding.
    assert task.test_inputs is not None and task.test_targets is not None
    x, y = task.test_inputs.double(), task.test_targets[:, 0].double()
    for place, time in enumerate((10.0, 300.0, math.inf)):
        f = reference.at(time)
        assert one.early.clean[place] * len(x) == pytest.approx(right(f, x, y))
        moved = attacked(f, x, y, EPS)
        assert one.early.attacked[0, place] * len(x) == pytest.approx(right(f, moved, y), abs=1)
        few = right(f, moved[:20], y[:20])
        assert one.fgsm[place] * 20 == pytest.approx(few, abs=1)
    for place, k in enumerate(one.counts):
        f = reference.features(list(range(k)))
        assert one.cumulative.clean[place] * len(x) == pytest.approx(right(f, x, y), abs=1)
        strong = right(f, attacked(f, x, y, 51 / 255), y)
        assert one.cumulative.attacked[2, place] * len(x) == pytest.approx(strong, abs=1)
    assert {*range(6), 39} <= set(one.index.tolist()) and len(one.index) <= 13
    for place, index in enumerate(one.index.tolist()):
        f = reference.features([index])
        assert abs(int(one.useful.correct[place]) - right(f, x, y)) <= 1
        moved = attacked(f, x[:20], y[:20], EPS)
        assert abs(int(one.robust.correct[place]) - right(f, moved, y[:20])) <= 1
    rho = spearmanr(one.index, one.robust.correct).statistic  # type: ignore[union-attr]
    assert one.spearman["robust"][0] == pytest.approx(rho)
    # Held-out samples: the rest of the training part, then the test set.
    (counted,) = records(run, "held-out")
    every = images("digits", classes=(3, 8), scale="pixels", seed=3)
    x = torch.cat([every.inputs[40:].double(), x])
    y = torch.cat([every.targets[40:, 0].double(), y])
    assert counted["samples"] == len(x) and counted["beyond"] == 20
    counts = [right(reference.features([index]), x, y) for index in range(40)]
    rows = run.metrics.filter(run.metrics["part"] == "held-out")
    np.testing.assert_allclose(rows["usefulness"].to_numpy() * len(x), counts, atol=1)
    # Benjamini and Hochberg, step by step.
    p = np.array([binom.sf(count - 1, len(x), 0.5) for count in counts])
    order, last = np.argsort(p), -1
    for rank, place in enumerate(order):
        last = rank if p[place] <= 0.05 * (rank + 1) / 40 else last
    found = set(order[: last + 1].tolist())
    assert abs(counted["found"] - len(found)) <= 1
    assert abs(counted["found_beyond"] - len([k for k in found if k >= 20])) <= 1
    sets = dict(zip(counted["sets"]["name"], counted["sets"]["clean"], strict=True))
    half = slice(len(x) // 2, None)
    assert counted["sets"]["of"] == len(x[half])
    far = right(reference.features(list(range(20, 40))), x[half], y[half])
    assert sets["from 20 on"] == pytest.approx(far, abs=1)


def test_the_kernel_of_the_transfer_is_the_limit_of_its_networks() -> None:
    task = images("digits", size=12, classes=(3, 8), scale="pixels", dtype=torch.float64)
    for depth in (1, 2):
        settings = replace(TINY, depth=depth)
        limit = models.limit_of_networks(settings, task)(task.inputs)
        found = []
        for seed in range(3):
            network = models.mlp(task, 1500, depth, None, seed).double()
            found.append(float(network.gamma) ** 2 * ntk.gram(network, task.inputs))
        error = (torch.stack(found).mean(0) - limit).norm() / limit.norm()
        assert float(error) < 0.06
    # As lazy as weights of variance 2: the function moves twice as far for the same change.
    network = models.mlp(task, 50, 1, None, 0)
    assert float(network.gamma0) == pytest.approx(1 / math.sqrt(4 * 50), rel=1e-6)


def test_transfer_is_that_of_a_network_trained_by_hand(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="t", parts=("transfer",), seed=(2,))
    settings = replace(settings, typed=("parts",), pairs=("7-1",))
    run = runs.load(adversarial_kernel.run(settings).path)
    task = images("digits", size=30, classes=(7, 1), scale="pixels", seed=2)
    own = {(one.width, one.gamma0): one.records[0] for one in networks(run, (7, 1))}
    assert list(own) == [(10, None), (40, None), (12, 0.2), (12, 2.0)]
    network = MLP(64, 1, width=40, gamma0=1 / math.sqrt(160), seed=2)
    start = {k: v.detach().clone() for k, v in network.named_parameters()}
    options = Optimisation(method="flow", steps=200_000, horizon=60.0, step_fraction=1.0)
    trainer = Trainer(network, task, options, seed=2)
    trainer.run(measure_at=transfer.look_times(expand(settings)))
    record = own[40, None]
    assert record["mse"] == pytest.approx(trainer.evaluate()["mse"], rel=1e-5)
    moved = sum(
        float((v.detach() - start[k]).square().sum()) for k, v in network.named_parameters()
    )
    size = sum(float(v.square().sum()) for v in start.values())
    assert record["movement"] == pytest.approx(math.sqrt(moved / size), rel=1e-4)
    assert task.test_inputs is not None and task.test_targets is not None
    x, y = task.test_inputs, task.test_targets[:, 0]
    assert record["test_accuracy"] == pytest.approx(right(network, x, y) / len(x))
    mine = attacked(network, x, y, EPS)
    assert record["fgsm_accuracy"] == pytest.approx(right(network, mine, y) / len(x), abs=0.02)
    kernel = InfiniteWidthKernel(1, weight_variance=1.0, bias_variance=0.0, readout_bias=False)
    f = KernelPredictor(kernel, task.inputs, task.targets).at(60.0)
    theirs = attacked(f, x.double(), y.double(), EPS).float()
    rate = right(network, theirs, y) / len(x)
    assert record["kernel at t"] == pytest.approx(rate, abs=0.02)
    cosines = []
    for one in x:
        gradients = []
        for model, image in ((network, one[None]), (f, one[None].double())):
            leaf = image.clone().requires_grad_()
            gradients.append(torch.autograd.grad(model(leaf).sum(), leaf)[0].flatten().double())
        cosines.append(float(torch.nn.functional.cosine_similarity(*gradients, dim=0)))
    assert record["cosine, kernel at t"] == pytest.approx(np.mean(cosines), abs=1e-4)
    # The richer network is there sooner, at the loss of the kernel at the end.
    assert own[12, 2.0]["time"] < own[12, 0.2]["time"] <= 60.0
    (source,) = records(run, "kernel")
    assert own[12, 2.0]["mse"] <= source["mse"]
    looks = run.metrics.filter(run.metrics["part"] == "network")
    keys = {"cell", "part", "a", "b", "seed", "width", "gamma0"}
    assert set(looks.columns) - keys <= QUANTITIES.keys()


def test_a_kernel_has_any_training_loss_at_some_time() -> None:
    task = images("digits", size=30, classes=(3, 8), scale="pixels")
    fitted = KernelPredictor(InfiniteWidthKernel(), task.inputs, task.targets)
    for time in (0.5, 40.0, 3000.0):
        mse = transfer.training_mse(fitted, time)
        outputs = fitted.at(time)(task.inputs)
        assert mse == pytest.approx(float((outputs - fitted.targets).square().mean()), rel=1e-6)
        assert transfer.time_of_mse(fitted, mse) == pytest.approx(time, rel=1e-6)
    assert transfer.time_of_mse(fitted, 2.0) == pytest.approx(0.0, abs=1e-9)


def test_it_is_judged_with_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pictures,
        "_optimised",
        lambda _, fitted, shown, label: feature_images(fitted, shown, label=label, steps=5),
    )
    parts = ("features", "held-out", "pictures", "consistency", "transfer", "ten-classes")
    settings = replace(
        TINY, runs=tmp_path, name="b", parts=parts, test_size=60,
        typed=("parts", "test_size"),
    )  # fmt: skip
    run = runs.load(adversarial_kernel.run(settings).path)
    verdict = EXPERIMENTS["adversarial-kernel"].judge(run)
    figures = [Path(str(one.png)) for section in verdict.sections for one in section.figures]
    assert [path.stem for path in figures] == [
        "features_3-8",
        "attacks_3-8",
        "gradients_3-8",
        "optimised_3-8",
        "consistency",
        "transfer_3-8",
        "attacks_ten",
    ]
    assert all(path.exists() for path in figures)
    titles = [table.title for table in verdict.tables]
    assert titles == [
        "Claims",
        "Pairs of classes",
        "Early stopping, 3/8: accuracy of f_t",
        "Leading features as classifiers, 3/8",
        "Single features, 3/8",
        "Useful features far down the spectrum",
        "Sets of features as classifiers",
        "Are features the same in other kernels?",
        "Transfer over widths, 3/8",
        "Transfer, lazy to rich, 3/8",
        "Ten classes",
    ]
    # The bounds are for the presets on Fashion-MNIST.
    assert all(row["found"].mark is None for row in verdict.tables[0].rows)  # type: ignore
    assert "peak memory" in verdict.tables[-1].note


def test_many_pairs_have_one_table_and_one_figure(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="c", parts=("features",), size=20, test_size=20, attacked=5,
        pairs=("0-1", "2-3", "4-5", "6-7", "8-9", "1-2"), features=6, top=3, times=(10.0,),
        typed=("parts", "test_size", "size"),
    )  # fmt: skip
    verdict = adversarial_kernel.judge(runs.load(adversarial_kernel.run(settings).path))
    assert [table.title for table in verdict.tables] == ["Claims", "Pairs of classes"]
    assert len(verdict.tables[1].rows) == 6
    assert "median of 6 pairs" in str(verdict.tables[0].rows[0]["claim"])
    assert len(verdict.sections) == 1


def test_a_convolutional_kernel(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="d", kernel="cnn", channels=4, width=(2,), gamma0=(),
        parts=("features", "held-out", "transfer"), size=15, test_size=10, attacked=5, features=6,
        top=3, times=(10.0,), transfer_size=10, transfer_time=5.0,
        typed=("parts", "test_size", "gamma0", "size"),
    )  # fmt: skip
    run = runs.load(adversarial_kernel.run(settings).path)
    task = images("digits", size=15, test_size=10, classes=(3, 8), scale="pixels")
    network = CNN(1, 8, 1, width=4, gamma0=(8 * 4 * 2 * 2) ** -0.5, seed=1_000_000)
    assert task.test_inputs is not None and task.test_targets is not None
    gram = ntk.gram(network, task.inputs).double()
    across = ntk.gram(network, task.test_inputs, task.inputs).double()
    outputs = across @ torch.linalg.solve(gram, task.targets.double())
    (one,) = features(run)
    share = float((outputs * task.test_targets > 0).double().mean())
    assert one.early.clean[-1] == pytest.approx(share, abs=0.11)
    assert networks(run, (3, 8))[0].width == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    settings = replace(
        TINY, runs=tmp_path, workers=workers, parts=("features", "transfer"), seed=(0, 1),
        typed=("parts", "size"), width=(10,), gamma0=(1.0,), transfer_time=20.0, size=15,
        attacked=5, features=8,
    )  # fmt: skip
    whole = adversarial_kernel.run(replace(settings, name="whole")).path
    train = Trainer.run

    def stopped(self: Trainer, **given: Any) -> Any:
        look, keep = given["on_measure"], given["checkpoint"]

        def last_look(now: Trainer) -> None:
            look(now)
            keep(now)
            if now.step >= 10 and now.seed == 1:
                raise KeyboardInterrupt

        return train(self, **{**given, "on_measure": last_look})

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "run", stopped)
        adversarial_kernel.run(replace(settings, name="killed"))
    path = adversarial_kernel.run(replace(settings, name="killed")).path
    assert runs.load(whole).results == runs.load(path).results
    assert (whole / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()


def test_presets_are_complete() -> None:
    for preset in PRESETS:
        for quick in (False, True):
            expand(AdversarialKernelSettings(preset=preset, quick=quick))  # type: ignore[arg-type]
    assert len(expand(AdversarialKernelSettings(preset="all-pairs")).class_pairs) == 45


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": ("2-2",)}, "--pairs 2-2 must be two different classes"),
        ({"pairs": ("2-12",)}, "--pairs 2-12"),
        ({"pairs": ("2,4",)}, "--pairs 2,4"),
        ({"eps": (300.0,)}, "exceeds 255 grey levels"),
        ({"eps": (0.0, 8.0)}, "--eps 0.0 must be above 0"),
        ({"times": (math.inf,)}, "--times inf"),
        ({"top": 41}, "--top 41 exceeds --size 40"),
        ({"features": 6}, "--features 6 must exceed --top 5 by 3"),
        ({"size": 5000}, "--size 5000 exceeds the"),
        ({"transfer_size": 5000, "parts": ("transfer",)}, "--transfer-size 5000 exceeds the"),
        ({"held_out": 0}, "--held-out 0 leaves nothing"),
        ({"seed": (1, 1)}, "--seed has a value twice"),
        ({"gamma0": (-1.0,)}, "--gamma0 -1.0"),
        ({"workers": -2}, "--workers -2"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        adversarial_kernel.run(replace(TINY, runs=tmp_path, typed=tuple(change), **change))
    assert list(tmp_path.iterdir()) == []
