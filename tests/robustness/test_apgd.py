"""Auto-PGD against Algorithm 1 as printed, and against plain PGD."""

import importlib
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from ntkscale.robustness import Threat, apgd, correct, per_sample_loss, pgd
from tests.reference import robustness as reference

module = importlib.import_module("ntkscale.robustness.apgd")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_algorithm_one(norm):
    agreed = total = 0
    cases: list[tuple[int, Any]] = [(1, "margin"), (4, "cross-entropy"), (4, "dlr")]
    for outputs, loss in cases:
        first = torch.randn(6, 9, dtype=torch.float64)
        last = torch.randn(9, outputs, dtype=torch.float64)

        def model(z, first=first, last=last):
            return torch.tanh(z.flatten(1) @ first) @ last

        x = torch.rand(6, 2, 3, dtype=torch.float64)
        labels = torch.randint(0, max(2, outputs), (6,))
        eps, steps = 0.1 + 0.2 * float(torch.rand(1)), int(torch.randint(2, 40, (1,)))
        threat, seed = Threat(eps, norm), int(torch.randint(1 << 30, (1,)))
        found = apgd(model, x, labels, threat, steps=steps, seed=seed, loss=loss)
        starts = threat.draw(x, torch.Generator().manual_seed(seed), surface=True)
        for i in range(len(x)):
            best, losses, sizes = reference.auto_pgd(
                model, x[i], starts[i], int(labels[i]), (eps, norm, 0.0, 1.0), steps, loss
            )
            assert len(losses) == steps + 1 and all(
                size in (before, before / 2) for before, size in itertools.pairwise(sizes)
            )
            value, _ = reference.loss_at(model, found[i], int(labels[i]), loss)
            # One that is wrong goes before one of larger loss that is right.
            wrong = not bool(correct(model(best[None]), labels[i : i + 1]))
            same = bool((found[i] - best).abs().max() < 1e-7)
            agreed += same or (not wrong and value < max(losses))
            total += 1
    # Comparisons of losses that differ by rounding may send a path elsewhere.
    assert agreed >= total - 2


def test_checkpoints_of_the_paper():
    assert module._checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    for steps in range(1, 300):
        assert module._checkpoints(steps) == reference.checkpoints(steps)[1:]


def networks(count: int):
    for _ in range(count):
        layers = nn.Linear(20, 30), nn.Linear(30, 5)
        for layer in layers:
            nn.init.normal_(layer.weight)
        net = nn.Sequential(layers[0], nn.ReLU(), layers[1]).double()
        x = torch.rand(40, 20, dtype=torch.float64)
        yield net, x, net(x).argmax(1)


@pytest.mark.parametrize("loss", ["cross-entropy", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_as_strong_as_plain_steps_on_average(norm, loss):
    gain, count = 0.0, 6
    for net, x, labels in networks(count):
        threat = Threat(0.05 if norm == "linf" else 0.2, norm)

        def reached(moved, net=net, labels=labels):
            values = per_sample_loss(net(moved).detach(), labels, loss)
            # The ratio has no bound where a class is wrong by far: that far, one is like another.
            return float((values.clamp(max=1) if loss == "dlr" else values).mean())

        plain = pgd(net, x, labels, threat, steps=50, loss=loss, random_start=True)
        gain += reached(apgd(net, x, labels, threat, steps=50, loss=loss)) - reached(plain)
    # Measured over 80 networks: .007 (linf, cross-entropy) to .045 (l2, cross-entropy) on average,
    # the lowest of one -.003; in another draw four summed to -.012, as both end in local optima.
    assert gain / count >= -0.01


def test_more_runs_and_more_steps_never_do_less_harm():
    for net, x, labels in networks(3):
        threat = Threat(0.08)
        seed = int(torch.randint(1 << 30, (1,)))

        def harm(restarts, net=net, x=x, labels=labels, threat=threat, seed=seed):
            moved = apgd(net, x, labels, threat, steps=12, restarts=restarts, seed=seed)
            return ~correct(net(moved), labels), per_sample_loss(net(moved), labels)

        (wrong, loss), (more_wrong, more_loss) = harm(1), harm(3)
        assert (more_wrong | ~wrong).all()
        left = ~wrong & ~more_wrong
        assert (more_loss >= loss - 1e-12)[left].all()


def test_the_best_loss_grows_with_every_step(monkeypatch):
    net, x, labels = next(networks(1))
    seen: list[torch.Tensor] = []
    looked = module._Search._look

    def watch(self, points, labels):
        found = looked(self, points, labels)
        seen.append(found.loss)
        return found

    monkeypatch.setattr(module._Search, "_look", watch)
    moved = apgd(net, x, labels, Threat(0.05), steps=30, loss="margin")
    best = torch.stack(seen).cummax(0).values
    assert len(seen) == 31 and (best.diff(dim=0) >= 0).all()
    # The margin is positive exactly where the class is wrong: its best is the answer's.
    torch.testing.assert_close(per_sample_loss(net(moved), labels, "margin"), best[-1])
