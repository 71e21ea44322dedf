"""FGSM, PGD and the control: known optima, loops over single samples, and what stays untouched."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ntkscale.robustness import Threat, apgd, fgsm, loss_gradient, pgd, random_signs
from tests.reference import robustness as reference

ATTACKS: list[Any] = [fgsm, pgd, apgd]
CASES = [(1, "margin"), (1, "cross-entropy"), (1, "mse"), (4, "margin"), (4, "cross-entropy")]
CASES += [(4, "dlr"), (4, "mse")]


def smooth(inputs: int, outputs: int):
    """A random function with curvature, and float64 samples of shape (n, 2, inputs / 2)."""
    first = torch.randn(inputs, 9, dtype=torch.float64)
    last = torch.randn(9, outputs, dtype=torch.float64)
    x = torch.rand(7, 2, inputs // 2, dtype=torch.float64)
    labels = torch.randint(0, max(2, outputs), (7,))
    return (lambda z: torch.tanh(z.flatten(1) @ first) @ last), x, labels


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_optimum_of_a_linear_model(attack, norm, dtype):
    dim, n, eps = int(torch.randint(2, 30, (1,))), 8, float(torch.rand(1)) + 0.01
    w, b = torch.randn(dim, dtype=dtype), torch.randn((), dtype=dtype)
    x, labels = torch.randn(n, dim, dtype=dtype), torch.randint(0, 2, (n,))
    threat = Threat(eps, norm, low=None, high=None)
    y = 2 * labels - 1
    moved = attack(lambda z: z @ w + b, x, labels, threat)  # (n,) is one output
    dual = w.abs().sum() if norm == "linf" else w.norm()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    if attack is apgd and norm == "l2":
        tolerance = max(tolerance, 1e-4)  # walks along the sphere; never quite arrives
    torch.testing.assert_close(
        y * (moved @ w + b), y * (x @ w + b) - eps * dual, rtol=tolerance, atol=tolerance
    )
    # Two outputs: the margin of the two rows' difference, where cross-entropy would saturate.
    rows = torch.randn(2, dim, dtype=dtype)
    moved = attack(lambda z: z @ rows.T, x, labels, threat, loss="margin")
    difference = rows[1] - rows[0]
    dual = difference.abs().sum() if norm == "linf" else difference.norm()
    want = y * (x @ difference) - eps * dual
    torch.testing.assert_close(y * (moved @ difference), want, rtol=tolerance, atol=tolerance)


def test_a_linear_model_where_the_range_binds():
    # Each pixel by itself goes as far as ball and range allow.
    w, x = torch.randn(20, dtype=torch.float64), torch.rand(5, 20, dtype=torch.float64)
    labels = torch.ones(5, dtype=torch.int64)
    for attack in (fgsm, pgd):
        moved = attack(lambda z: z @ w, x, labels, Threat(0.4))
        want = (x - 0.4 * w.sign()).clamp(0, 1)
        torch.testing.assert_close(moved, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("outputs", "loss"), CASES)
def test_against_single_samples(norm, outputs, loss):
    model, x, labels = smooth(6, outputs)
    eps, steps, size = 0.2, int(torch.randint(2, 9, (1,))), float(torch.rand(1)) * 0.1 + 0.01
    threat, ball = Threat(eps, norm), (eps, norm, 0.0, 1.0)
    rows, gradient = loss_gradient(model, x, labels, loss)
    torch.testing.assert_close(rows, model(x))
    one = fgsm(model, x, labels, threat, loss=loss)
    many = pgd(model, x, labels, threat, steps=steps, step_size=size, loss=loss)
    usual = pgd(model, x, labels, threat, steps=steps, loss=loss)
    for i in range(len(x)):
        label = int(labels[i])
        _, want = reference.loss_at(model, x[i], label, loss)
        torch.testing.assert_close(gradient[i], want, rtol=1e-9, atol=1e-12)
        for found, count, each in (
            (one, 1, eps),
            (many, steps, size),
            (usual, steps, 2.5 * eps / steps),
        ):
            want = reference.descend(model, x[i], label, ball, count, each, loss)
            torch.testing.assert_close(found[i], want, rtol=0, atol=1e-9)
    assert torch.equal(
        pgd(model, x, labels, threat, steps=1, step_size=eps, loss=loss),
        fgsm(model, x, labels, threat, loss=loss),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_radius_changes_no_bit(dtype, norm):
    model, x, labels = smooth(6, 4)
    x = x.to(dtype)
    x[0, 0, 0] = -0.0
    threat = Threat(0.0, norm)
    bits = torch.int32 if dtype == torch.float32 else torch.int64
    for attack in ATTACKS:
        moved = attack(lambda z: model(z.double()), x, labels, threat)
        assert torch.equal(moved.view(bits), x.view(bits)) and moved is not x
    assert torch.equal(random_signs(x, threat).view(bits), x.view(bits))


def test_a_sample_without_gradient_stays():
    x = torch.rand(3, 5)

    def model(z):
        return (z * torch.tensor([[0.0], [1.0], [torch.inf]])).sum(1)

    labels = torch.tensor([1, 0, 0])
    for attack in (fgsm, pgd):
        for norm in ("linf", "l2"):
            moved = attack(model, x, labels, Threat(0.1, norm))
            assert torch.equal(moved[[0, 2]], x[[0, 2]]) and (moved[1] >= x[1]).all()


def test_nothing_is_left_behind():
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    model[1].train()  # an odd one, which does not matter
    x = torch.rand(9, 2, 3, requires_grad=True)
    labels = torch.randint(0, 3, (9,))
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for attack in ATTACKS:
        for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with context():
                moved = attack(model, x, labels, Threat(0.1))
            assert not moved.requires_grad and not torch.equal(moved, x)
    random_signs(x, Threat(0.1))
    pgd(model, x, labels, Threat(0.1), random_start=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.grad is None and x.requires_grad
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_closed_form_is_used_where_offered():
    class Cubes:
        """f_c = sum_j w_cj x_j^3, whose call cannot be differentiated."""

        def __init__(self):
            self.w = torch.randn(3, 4, dtype=torch.float64)
            self.calls = 0

        def __call__(self, x):
            return (x.detach().double() ** 3) @ self.w.T

        def pullback(self, x):
            self.calls += 1
            assert not torch.is_grad_enabled()
            return self(x), lambda cotangent: 3 * x.double() ** 2 * (cotangent @ self.w)

    model, labels = Cubes(), torch.randint(0, 3, (6,))
    x = torch.rand(6, 4)
    rows, gradient = loss_gradient(model, x, labels, "cross-entropy")
    leaf = x.double().requires_grad_()
    F.cross_entropy((leaf**3) @ model.w.T, labels, reduction="sum").backward()
    assert rows.dtype == torch.float64
    torch.testing.assert_close(gradient, leaf.grad)
    moved = fgsm(model, x, labels, Threat(0.1))
    assert moved.dtype == torch.float32 and leaf.grad is not None
    assert torch.equal(moved, Threat(0.1).project(x + 0.1 * leaf.grad.float().sign(), x))
    model.calls = 0
    pgd(model, x, labels, Threat(0.1), steps=4)
    assert model.calls == 4


def test_the_control_is_of_equal_size_and_knows_its_seed():
    x = torch.full((40, 1, 8, 8), 0.5, dtype=torch.float64)
    sizes: list[tuple[Any, float]] = [("linf", 0.1), ("l2", 0.1 / 8)]
    for norm, each in sizes:
        noise = random_signs(x, Threat(0.1, norm), seed=5) - x
        torch.testing.assert_close(noise.abs(), torch.full_like(x, each))
        assert abs(float(noise.sign().mean())) < 5 / 2560**0.5
        again = random_signs(x.float(), Threat(0.1, norm), seed=5) - 0.5
        assert torch.equal(again.sign().double(), noise.sign())
        assert not torch.equal(random_signs(x, Threat(0.1, norm), seed=6) - x, noise)


def test_random_starts_by_seed():
    model, x, labels = smooth(6, 4)
    threat = Threat(0.1)

    def run(seed):
        return pgd(model, x, labels, threat, steps=1, step_size=0.01, random_start=True, seed=seed)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_bad_input():
    model, x, labels = smooth(6, 4)
    single, *_ = smooth(6, 1)
    threat = Threat(0.1)
    bad = [
        (lambda: fgsm(model, x * 2, labels, threat), "outside the threat's range of 0 to 1"),
        (lambda: fgsm(model, x - 1, labels, Threat(0.1, high=None)), "range of 0 to inf"),
        (lambda: fgsm(model, x * torch.nan, labels, threat), "nan or inf"),
        (lambda: fgsm(model, x[:0], labels[:0], threat), "samples along the first"),
        (lambda: fgsm(model, (255 * x).long(), labels, threat), "pass floats"),
        (lambda: fgsm(model, x, labels[1:], threat), "for 7 inputs"),
        (lambda: fgsm(model, x, labels.double(), threat), "one class index a sample"),
        (lambda: fgsm(model, x, labels + 4, threat), "number them from 0"),
        (lambda: fgsm(single, x, 2 * (labels % 2) - 1, threat), "run from -1 to 1|-1 to -1|1 to 1"),
        (lambda: fgsm(single, x, labels % 2, threat, loss="dlr"), "three classes"),
        (lambda: fgsm(model, x, labels, threat, loss=F.cross_entropy), "a value a sample"),
        (lambda: fgsm(lambda z: z, x, labels, threat), "one row of outputs"),
        (lambda: fgsm(lambda z: model(z).detach(), x, labels, threat), "no derivative"),
        (lambda: pgd(model, x, labels, threat, steps=0), "steps is 0"),
        (lambda: pgd(model, x, labels, threat, step_size=0.0), "step_size is 0.0"),
        (lambda: apgd(model, x, labels, threat, restarts=0), "restarts 0"),
        (lambda: random_signs(x * 2, threat), "scale them to it"),
    ]
    for call, says in bad:
        with pytest.raises(ValueError, match=says):
            call()
    options: list[dict[str, Any]] = [{"loss": "hinge"}]
    for option in options:
        with pytest.raises(ValueError, match="unknown loss 'hinge'"):
            fgsm(model, x, labels, threat, **option)
