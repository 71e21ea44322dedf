"""Counting under attack, refusals of models that still train, and signs of a failing attack."""

from functools import partial
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import nn

from ntkscale.networks import MLP
from ntkscale.robustness import (
    Threat,
    apgd,
    fgsm,
    loss_gradient,
    pgd,
    robust_accuracy,
    sanity_checks,
)


def trained(classes: int = 4):
    """Classes around random centres in [0, 1]^12, and a small network that has learned them."""
    centres = torch.rand(classes, 12)
    labels = torch.arange(160) % classes
    x = (centres[labels] + 0.1 * torch.randn(160, 12)).clamp(0, 1)
    net = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, classes))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), labels).backward()
        optimiser.step()
    return net, x[:60], labels[:60]


def test_counts_intervals_and_batches():
    net, x, labels = trained()
    attack = partial(pgd, threat=Threat(0.15), steps=5)
    found = robust_accuracy(net, x, labels, attack, batch_size=7, sanity=Threat(0.15))
    moved = attack(net, x, labels)
    torch.testing.assert_close(found.adversarial, moved, rtol=0, atol=1e-5)

    def count(inputs):
        pairs = zip(inputs, labels, strict=True)
        return sum(int(net(row[None]).argmax()) == int(label) for row, label in pairs)

    right, clean = count(moved), count(x)
    assert (found.clean, found.robust) == (clean / 60, right / 60)
    low = beta.ppf(0.025, right, 61 - right) if right else 0.0
    high = beta.ppf(0.975, right + 1, 60 - right) if right < 60 else 1.0
    assert found.interval == pytest.approx((low, high), abs=1e-9)
    whole = robust_accuracy(net, x, labels, attack, confidence=0.8)
    assert whole.robust == found.robust and whole.interval[0] >= found.interval[0]
    assert whole.warnings == ()


def test_doubts_of_the_count():
    net, x, labels = trained()

    def helps(model, x, labels):
        _, gradient = loss_gradient(model, x, labels)
        return (x - 0.3 * gradient.sign()).clamp(0, 1)

    wrong = robust_accuracy(net, x, (labels + 1) % 4, helps)
    assert wrong.robust > wrong.clean and "the attack helps" in wrong.warnings[0]
    broken = robust_accuracy(net, x, labels, lambda model, x, labels: x * torch.nan)
    assert broken.robust == 0 and "not finite" in broken.warnings[0]


def test_a_healthy_model_gives_no_sign():
    sizes: list[tuple[Any, float]] = [("linf", 0.1), ("l2", 0.3)]
    for norm, eps in sizes:
        net, x, labels = trained()
        assert sanity_checks(net, x, labels, Threat(eps, norm)) == []
        assert sanity_checks(net, x, labels, Threat(0.0, norm)) == []


def says(found: list[str], words: str) -> bool:
    return any(words in sentence for sentence in found)


def test_signs_of_masked_gradients():
    net, x, labels = trained()
    # Saturated: cross-entropy in float32 has no gradient left.
    found = sanity_checks(lambda z: 1e4 * net(z), x, labels, Threat(0.01))
    assert says(found, "samples have a gradient that is zero")
    # Steps: the inputs are rounded, with a straight-through derivative of zero.
    found = sanity_checks(lambda z: net((z * 3).round() / 3 + 0 * z), x, labels, Threat(0.1))
    assert says(found, "60 of 60 samples have a gradient that is zero")
    assert says(found, "does not grow with eps") and says(found, "stay right though")

    class Downhill:
        """A defence that reports its gradient with the wrong sign."""

        def __call__(self, z):
            return net(z)

        def pullback(self, z):
            def pull(cotangent):
                with torch.enable_grad():
                    leaf = z.clone().requires_grad_()
                    (g,) = torch.autograd.grad(net(leaf), leaf, cotangent)
                return -g

            return net(z), pull

    found = sanity_checks(Downhill(), x, labels, Threat(0.1))
    assert says(found, "does not grow with eps") and says(found, "random signs")
    assert says(found, "stay right though")
    noisy = sanity_checks(lambda z: net(z) + 0.1 * torch.randn(len(z), 4), x, labels, Threat(0.1))
    assert says(noisy, "from one call to the next")
    checked = robust_accuracy(
        Downhill(), x, labels, partial(fgsm, threat=Threat(0.1)), sanity=Threat(0.1)
    )
    assert says(list(checked.warnings), "does not grow with eps")


class Functional(nn.Module):
    """Dropout as a function, a buffer that counts, and no layer that says so."""

    def __init__(self, p):
        super().__init__()
        self.last, self.p = nn.Linear(6, 3), p
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.last(nn.functional.dropout(x, self.p, self.training))


def test_models_in_training_mode():
    x, labels, threat = torch.rand(5, 6), torch.randint(0, 3, (5,)), Threat(0.1)
    refused = [
        (nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)), "Dropout '1' is in training mode"),
        (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), "BatchNorm1d '0'"),
        (Functional(0.5), "answers differently in it"),
    ]
    for model, words in refused:
        state = torch.get_rng_state()
        for attack in (fgsm, pgd, apgd):
            with pytest.raises(ValueError, match=rf"{words}.*model.eval\(\)"):
                attack(model, x, labels, threat)
        with pytest.raises(ValueError, match=words):
            robust_accuracy(model, x, labels, partial(fgsm, threat=threat))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(part.training for part in model.modules())
        fgsm(model.eval(), x, labels, threat)
    with pytest.raises(ValueError, match="track_running_stats"):
        coupled = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
        fgsm(coupled.eval(), x, labels, threat)
    # What does not depend on the mode passes in it, and is left in it.
    plain = [nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.0)), Functional(0.0), MLP(6, 3, width=9)]
    for model in plain:
        calls = [buffer.clone() for buffer in model.buffers()]
        checked = fgsm(model.train(), x, labels, threat)
        assert all(part.training for part in model.modules())
        if isinstance(model, Functional):
            assert float(model.calls) - float(calls[0]) == 1  # the gradient's own
        assert torch.equal(checked, fgsm(model.eval(), x, labels, threat))


def test_bad_input():
    net, x, labels = trained()
    attack = partial(fgsm, threat=Threat(0.1))
    bad = [
        (lambda: robust_accuracy(net, x, labels, attack, batch_size=0), "batch_size is 0"),
        (lambda: robust_accuracy(net, x, labels, attack, confidence=95), "between 0 and 1"),
        (lambda: robust_accuracy(net, x, labels, lambda m, x, y: x[:, :3]), "one adversarial"),
        (lambda: robust_accuracy(net, x, labels[1:], attack), "for 60 inputs"),
        (lambda: robust_accuracy(net, x + 1, labels, attack), "outside the threat's range"),
        (lambda: sanity_checks(net, x + 1, labels, Threat(0.1)), "outside the threat's range"),
    ]
    for call, words in bad:
        with pytest.raises(ValueError, match=words):
            call()
