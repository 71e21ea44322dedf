"""Losses against formulas in numpy, one row at a time."""

import numpy as np
import pytest
import torch

from ntkscale.robustness import correct, per_sample_loss

RNG = np.random.default_rng()


def by_hand(loss: str, z: np.ndarray, label: int) -> float:
    c = len(z)
    y = 2 * label - 1
    others = z[np.arange(c) != label]
    ranked = np.sort(z)[::-1]
    target = np.eye(c)[label % c] - 1 / c if c > 1 else np.array([y])
    values = {
        "mse": lambda: ((z - target) ** 2).sum(),
        "margin": lambda: -y * z[0] if c == 1 else others.max() - z[label],
        "cross-entropy": lambda: (
            np.log1p(np.exp(-y * z[0])) if c == 1 else -np.log(np.exp(z[label]) / np.exp(z).sum())
        ),
        "dlr": lambda: -(z[label] - others.max()) / (ranked[0] - ranked[2]),
    }
    return float(values[loss]())


@pytest.mark.parametrize("outputs", [1, 2, 3, 7])
def test_values(outputs):
    z = RNG.normal(size=(30, outputs)) * 3
    labels = RNG.integers(0, max(2, outputs), 30)
    for loss in ("margin", "cross-entropy", "mse", "dlr"):
        if loss == "dlr" and outputs < 3:
            continue
        found = per_sample_loss(torch.from_numpy(z), torch.from_numpy(labels), loss)
        want = [by_hand(loss, row, label) for row, label in zip(z, labels, strict=True)]
        np.testing.assert_allclose(found, want, rtol=1e-8, atol=1e-12)
    auto = per_sample_loss(torch.from_numpy(z), torch.from_numpy(labels))
    name = "margin" if outputs == 1 else "cross-entropy"
    assert torch.equal(auto, per_sample_loss(torch.from_numpy(z), torch.from_numpy(labels), name))
    chosen = z.argmax(1) if outputs > 1 else z[:, 0] > 0
    want = chosen == labels
    assert correct(torch.from_numpy(z), torch.from_numpy(labels)).tolist() == want.tolist()


def test_dlr_does_not_see_shift_and_scale():
    z = torch.randn(9, 5, dtype=torch.float64)
    labels = torch.randint(0, 5, (9,))
    torch.testing.assert_close(
        per_sample_loss(z, labels, "dlr"), per_sample_loss(1e4 * z + 7, labels, "dlr")
    )
    flat = torch.zeros(1, 3, requires_grad=True)
    per_sample_loss(flat, torch.tensor([0]), "dlr").sum().backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


def test_ties_and_nan_are_wrong():
    assert not correct(torch.zeros(2, 1), torch.tensor([0, 1])).any()
    rows = torch.tensor([[1.0, 1.0, 0.0], [2.0, 1.0, torch.nan], [2.0, 1.0, 1.0]])
    assert correct(rows, torch.zeros(3, dtype=torch.int64)).tolist() == [False, False, True]
    assert not correct(torch.full((1, 1), torch.nan), torch.tensor([1])).any()


def test_a_loss_of_ones_own():
    z, targets = torch.randn(4, 2), torch.randn(4, 2)
    found = per_sample_loss(z, targets, lambda f, y: (f - y).abs().sum(1))
    assert torch.equal(found, (z - targets).abs().sum(1))
