"""The same numbers on a GPU; skipped where there is none."""

import pytest
import torch

from ntkscale import ntk
from ntkscale.networks import CNN, MLP
from ntkscale.tasks import circle
from ntkscale.tracking import KernelTracker
from ntkscale.training import Ensemble, Optimisation, Trainer

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
