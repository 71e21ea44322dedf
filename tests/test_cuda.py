"""The same numbers on a GPU; skipped where there is none."""

import copy

import pytest
import torch

from ntkscale import landscape, ntk, robustness
from ntkscale.networks import CNN, MLP
from ntkscale.tasks import Task, circle
from ntkscale.theory import dmft
from ntkscale.tracking import KernelTracker
from ntkscale.training import Ensemble, Linearised, Optimisation, Trainer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def ring(seed: int = 0) -> MLP:
    return MLP(
        2,
        1,
        width=256,
        bias=True,
        scale_input=False,
        init="ring",
        angles=32,
        seed=seed,
        dtype=torch.float64,
    )


def test_the_kernel_is_that_of_the_processor() -> None:
    net = CNN(1, 8, 3, width=8, dtype=torch.float64)
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    expected = ntk.gram(net, x, output="full")
    found = ntk.gram(net.cuda(), x.cuda(), output="full")
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=1e-9)


def test_float32_kernels_of_convolutions_are_not_those_of_tensorfloat() -> None:
    net = CNN(1, 8, 3, width=32)
    x = torch.randn(6, 1, 8, 8)
    expected = ntk.gram(copy.deepcopy(net).double(), x.double(), output="full")
    found = ntk.gram(net.cuda(), x.cuda(), output="full").cpu().double()
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-5


def test_training_is_that_of_the_processor() -> None:
    task = circle(q=1.0, points=64, dtype=torch.float64)
    ends = []
    for device in ("cpu", "cuda"):
        net = ring().to(device)
        tracker = KernelTracker(net, task.inputs.to(device), task.targets.to(device))
        trainer = Trainer(net, task, Optimisation(method="flow", horizon=5.0))
        tracker.measure(time=0.0)
        trainer.run()
        ends.append((trainer.evaluate()["mse"], tracker.measure(time=5.0)["kernel_distance"]))
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)


def test_an_ensemble_trains_on_the_gpu() -> None:
    task = circle(q=1.0, points=64, dtype=torch.float64)
    networks = [ring(seed).cuda() for seed in (0, 1)]
    trainer = Trainer(Ensemble(networks), task, Optimisation(method="sgd", steps=50))
    before = trainer.evaluate()["mse"]
    trainer.run()
    after = trainer.evaluate()["mse"]
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert all(now < then for now, then in zip(after, before, strict=True))


def test_mean_field_theory_is_that_of_the_processor() -> None:
    x, y = torch.randn(5, 8, dtype=torch.float64), torch.randn(5, dtype=torch.float64).sign()
    call = {"depth": 2, "gamma0": 1.0, "learning_rate": 0.3, "steps": 10}
    expected = dmft.solve_linear(x, y, **call)
    exact = dmft.solve_linear(x.cuda(), y.cuda(), **call)
    assert exact.mse.device.type == "cuda"
    torch.testing.assert_close(exact.mse.cpu(), expected.mse, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(exact.phi[1].cpu(), expected.phi[1], rtol=1e-9, atol=1e-12)
    sampled = dmft.solve(x.cuda(), y.cuda(), activation="linear", samples=8192, **call)
    for kernel, linear, error in zip(
        sampled.phi, expected.phi, sampled.standard_error["phi"].tolist(), strict=True
    ):
        off = float((kernel.cpu() - linear).norm() / linear.norm())
        assert off < 4 * error


def test_linearised_training_and_barriers_are_those_of_the_processor() -> None:
    x, labels = torch.randn(24, 6, dtype=torch.float64), torch.randint(0, 3, (24,))
    found = []
    for device in ("cpu", "cuda"):
        nets = [
            MLP(6, 3, width=32, depth=2, seed=seed, dtype=torch.float64).to(device)
            for seed in (0, 1)
        ]
        at = {"train": (x.to(device), labels.to(device))}
        first, second = (net.state_dict() for net in nets)
        line = landscape.error_barrier(nets[0], first, second, at)["train"]
        patterns = landscape.pattern_distance(nets[0], first, second, x.to(device))
        linear = Linearised(nets[0])
        with torch.no_grad():
            for value in linear.parameters():
                value.add_(0.1)
        found.append((line.errors.tolist(), patterns, linear(x.to(device)).detach().cpu()))
    assert found[1][0] == found[0][0] and found[1][1] == pytest.approx(found[0][1])
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-9, atol=1e-9)


def test_attacks_through_kernels_are_those_of_the_processor() -> None:
    x, fresh = torch.rand(60, 20, dtype=torch.float64), torch.rand(30, 20, dtype=torch.float64)
    labels = (fresh.sum(1) > fresh.sum(1).median()).long()
    threat = robustness.Threat(0.05)
    net = MLP(20, 1, width=32, depth=2, dtype=torch.float64)
    for kernel in (
        lambda n: robustness.InfiniteWidthKernel(depth=2),
        lambda n: robustness.NetworkKernel(n),
    ):
        ends = []
        for device in ("cpu", "cuda"):
            y = torch.where(x.sum(1) > x.sum(1).median(), 1.0, -1.0).double().to(device)
            predictor = robustness.KernelPredictor(kernel(net.to(device)), x.to(device), y)
            f = predictor.at(50.0)
            moved = robustness.fgsm(f, fresh.to(device), labels.to(device), threat)
            shares = robustness.robust(
                predictor.each_feature([0, 3]), fresh.to(device), labels.to(device), threat
            )
            ends.append((f(fresh.to(device)).cpu(), moved.cpu(), shares.correct.tolist()))
        torch.testing.assert_close(ends[1][0], ends[0][0], rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(ends[1][1], ends[0][1], rtol=0, atol=1e-12)
        assert ends[1][2] == ends[0][2]


def test_attacks_on_networks_are_those_of_the_processor() -> None:
    x, labels = torch.rand(20, 12, dtype=torch.float64), torch.randint(0, 4, (20,))
    net = MLP(12, 4, width=32, depth=2, dtype=torch.float64).eval()
    threat = robustness.Threat(0.1)
    for attack in (robustness.fgsm, robustness.pgd, robustness.apgd):
        ends = [
            attack(net.to(device), x.to(device), labels.to(device), threat).cpu()
            for device in ("cpu", "cuda")
        ]
        torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-9)


def test_adversarial_training_is_that_of_the_processor() -> None:
    labels = torch.randint(0, 3, (40,))
    inputs, targets = torch.rand(40, 10), torch.eye(3)[labels]
    task = Task("classes", inputs, targets, loss="cross-entropy", labels=labels)
    threat, ends = robustness.Threat(0.05), []
    for device in ("cpu", "cuda"):
        net = MLP(10, 3, width=32, depth=2, dtype=torch.float64).to(device)
        trainer = Trainer(
            net, task, Optimisation(method="sgd", steps=30, learning_rate=0.1, batch_size=20),
            adversary=lambda model, x, y: robustness.pgd(model, x, y, threat, steps=3),
        )  # fmt: skip
        trainer.run()
        ends.append(trainer.evaluate()["loss"])
    assert ends[1] == pytest.approx(ends[0], rel=1e-6)
