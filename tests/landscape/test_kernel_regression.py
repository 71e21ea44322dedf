"""Kernel regression against ridge regression on the Jacobian's own columns, in float64."""

import pytest
import torch
from torch import nn

from ntkscale import ntk
from ntkscale.landscape import error_rate, kernel_regression
from ntkscale.tasks import centred_one_hot
from tests.reference.landscape import primal_ridge


def rows(model, x):
    """(n, C, D) Jacobian, one output of one sample at a time."""
    found = []
    for sample in x:
        for output in model(sample[None])[0]:
            grads = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
            found.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(found).reshape(len(x), -1, len(found[0]))


def problem():
    n, m, d, c = (int(torch.randint(low, low + 4, ())) for low in (6, 3, 2, 2))
    # Two hidden layers: with one, K_cd(x, x') = K_dc(x, x').
    layers = nn.Linear(d, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, c)
    model = nn.Sequential(*layers).double()
    x, new = torch.randn(n, d, dtype=torch.float64), torch.randn(m, d, dtype=torch.float64)
    return model, x, new, torch.randint(0, c, (n,)), c


@pytest.mark.parametrize("ridge", [1e-4, 0.3])
def test_full_kernel(ridge):
    model, x, new, labels, c = problem()
    k, cross = (ntk.gram(model, x, output="full"), ntk.gram(model, new, x, output="full"))
    before = k.clone()
    found = kernel_regression(k, labels, cross, classes=c, ridge=ridge)
    assert torch.equal(k, before)
    train, test = rows(model, x).flatten(0, 1), rows(model, new).flatten(0, 1)
    epsilon = ridge * float(train.square().sum()) / len(train)
    targets = centred_one_hot(labels, c).flatten()
    want = primal_ridge(train, targets, test, epsilon).reshape(len(new), c)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_summed_kernel(dtype):
    model, x, new, labels, c = problem()
    model, x, new = model.to(dtype), x.to(dtype), new.to(dtype)
    k, cross = ntk.gram(model, x), ntk.gram(model, new, x)
    before = k.clone()
    found = kernel_regression(k, labels, cross, classes=c, ridge=0.1)
    assert torch.equal(k, before) and found.dtype == torch.float64
    train, test = rows(model, x).flatten(1).double(), rows(model, new).flatten(1).double()
    epsilon = 0.1 * float(train.square().sum()) / len(train)
    want = primal_ridge(train, centred_one_hot(labels, c), test, epsilon)
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-5)


def test_without_a_ridge_it_interpolates():
    n, c = 12, 3
    root = torch.randn(n, 2 * n, dtype=torch.float64)
    k, labels = root @ root.T, torch.randint(0, c, (n,))
    outputs = kernel_regression(k, labels, k, classes=c, ridge=0)
    torch.testing.assert_close(outputs, centred_one_hot(labels, c), rtol=1e-6, atol=1e-6)
    assert error_rate(outputs, labels) == 0
    # The scale of the kernel does not matter.
    scaled = kernel_regression(1e4 * k, labels, 1e4 * k, classes=c, ridge=0.2)
    torch.testing.assert_close(scaled, kernel_regression(k, labels, k, classes=c, ridge=0.2))


EYE, LABELS = torch.eye(4), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((EYE[:3], LABELS, EYE), {}, r"train_kernel has shape \(3, 4\)"),
        ((EYE, LABELS, EYE[:, :3]), {}, "cross_kernel has shape"),
        ((torch.zeros(4, 4, 2, 2), LABELS, torch.zeros(1, 4, 2, 2)), {}, "n, n, C, C"),
        ((EYE * torch.nan, LABELS, EYE), {}, "train_kernel holds nan"),
        ((EYE, LABELS, EYE / 0), {}, "cross_kernel holds nan"),
        ((EYE, LABELS + 1, EYE), {}, "outside"),
        ((EYE, LABELS, EYE), {"ridge": -1.0}, "pass 0 or a share"),
        ((torch.ones(4, 4), LABELS, EYE), {"ridge": 0.0}, "raise ridge"),
        ((EYE + EYE.roll(1, 0), LABELS, EYE), {}, "not symmetric"),
    ],
)
def test_bad_input(arguments, options, says):
    with pytest.raises(ValueError, match=says):
        kernel_regression(*arguments, classes=3, **options)
