"""Kernels and their expansions against autograd through the recursion and through Jacobians."""

import pytest
import torch
from torch import nn

from ntkscale import ntk
from ntkscale.networks import MLP
from ntkscale.robustness import InfiniteWidthCNNKernel, InfiniteWidthKernel, NetworkKernel
from ntkscale.robustness import infinite_kernel as closed
from ntkscale.robustness.expansion import AutogradExpansion
from ntkscale.theory import infinite_width
from tests.reference.robustness_kernels import jacobian, ntk_fc


def problem():
    n, points, channels, side, c = (int(torch.randint(2, 7, ())) for _ in range(5))
    x = torch.rand(n, channels, side, dtype=torch.float64)
    known = torch.rand(points, channels, side, dtype=torch.float64)
    return x, known, *(torch.randn(k, c, dtype=torch.float64) for k in (points, n))


def close(found, want, tolerance=1e-9):
    torch.testing.assert_close(found, want, rtol=0, atol=tolerance * float(want.abs().max()))


OPTIONS = [
    {},
    {"depth": 2, "weight_variance": 1.3, "bias_variance": 0.4},
    {"depth": 4},
    {"depth": 3, "bias_variance": 0.0},
    {"depth": 2, "weight_variance": 1.0, "bias_variance": 1.0, "readout_bias": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_relu_kernel_and_its_expansion(options, monkeypatch):
    kernel = InfiniteWidthKernel(**options)
    x, known, alpha, cotangent = problem()
    w2, b2 = options.get("weight_variance", 2.0), options.get("bias_variance", 0.01)
    readout = b2 if options.get("readout_bias", True) else 0.0

    def f(inputs):
        theta = ntk_fc(inputs.flatten(1), known.flatten(1), kernel.depth, w2, b2, readout)
        return theta @ alpha

    moved = x.clone().requires_grad_()
    want = f(moved)
    (gradient,) = torch.autograd.grad((want * cotangent).sum(), moved)
    close(kernel(x, known) @ alpha, want.detach())
    for pairs, kept in ((2**20, 2**24), (1, 0)):  # blocks of one row, derivatives twice
        monkeypatch.setattr(closed, "_PAIRS", pairs)
        monkeypatch.setattr(closed, "_KEPT", kept)
        expansion = kernel.expansion(known, alpha)
        outputs, pull = expansion.pullback(x)
        close(outputs, want.detach())
        close(expansion(x), want.detach())
        close(pull(cotangent), gradient)
        rows = [torch.autograd.grad(f(moved)[:, c].sum(), moved)[0] for c in range(alpha.shape[1])]
        close(expansion.jacobian(x), torch.stack(rows, dim=1))
        own = torch.rand(len(x), alpha.shape[1], *x.shape[1:], dtype=torch.float64)
        each = [f(own[:, c])[:, c] for c in range(alpha.shape[1])]
        close(expansion.own(own), torch.stack(each, dim=1))
    # Through autograd, when asked for it.
    (again,) = torch.autograd.grad((expansion(moved) * cotangent).sum(), moved)
    close(again, gradient)
    # Central differences along a random direction.
    direction = torch.randn_like(x)
    step = 1e-5
    ends = [(f(x + s * step * direction) * cotangent).sum() for s in (1, -1)]
    slope = (pull(cotangent) * direction).sum()
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-6)


def test_single_precision_is_near():
    x, known, alpha, cotangent = problem()
    kernel = InfiniteWidthKernel(depth=2)
    exact = kernel.expansion(known, alpha)
    rough = exact.to(torch.float32)  # pyright: ignore[reportAttributeAccessIssue]
    assert rough(x).dtype == torch.float32
    close(rough(x).double(), exact(x), 1e-5)
    close(rough.pullback(x)[1](cotangent).double(), exact.pullback(x)[1](cotangent), 1e-4)
    close(exact(x.float()), exact(x), 1e-5)


def test_on_training_points_nothing_is_lost():
    _, known, alpha, cotangent = problem()
    for depth in (1, 3):
        kernel = InfiniteWidthKernel(depth=depth)
        expansion = kernel.expansion(known, alpha)
        outputs, pull = expansion.pullback(known)
        close(outputs, kernel(known) @ alpha, 1e-13)  # which knows that they are equal
        cotangent = torch.randn_like(outputs)
        gradient = pull(cotangent)
        assert gradient.isfinite().all()
        # The mean of the slopes on both sides of a kink, along any direction.
        direction, step = torch.randn_like(known), 1e-5
        ends = [(expansion(known + s * step * direction) * cotangent).sum() for s in (1, -1)]
        slope = (gradient * direction).sum()
        torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-3, atol=1e-3)


def test_black_images_without_biases():
    kernel = InfiniteWidthKernel(bias_variance=0.0, depth=2)
    x, known, alpha, cotangent = problem()
    x[0] = 0
    known[-1] = 0
    outputs, pull = kernel.expansion(known, alpha).pullback(x)
    close(outputs, kernel(x, known) @ alpha)
    assert pull(cotangent).isfinite().all() and (outputs[0] == 0).all()


def test_other_activations_by_autograd():
    x, known, alpha, cotangent = problem()
    for name in ("erf", "gelu", "relu2"):
        kernel = InfiniteWidthKernel(activation=name, weight_variance=1.0)
        moved = x.clone().requires_grad_()
        options = {"activation": name, "weight_variance": 1.0, "bias_variance": 0.01}
        theta = infinite_width.kernels(moved, known, depth=1, **options).ntk + 0.01
        want = theta @ alpha
        (gradient,) = torch.autograd.grad((want * cotangent).sum(), moved)
        outputs, pull = kernel.expansion(known, alpha).pullback(x)
        close(outputs, want.detach())
        close(pull(cotangent), gradient)


def test_it_is_the_limit_of_the_projects_networks():
    x = torch.rand(5, 9, dtype=torch.float64)
    for depth, bias in ((1, True), (3, True), (2, False)):
        net = MLP(
            9, 1, width=2000, depth=depth, bias=bias, parameterization="ntk", dtype=torch.float64
        )
        kernel = InfiniteWidthKernel(
            depth,
            weight_variance=1.0,
            bias_variance=float(bias),
            readout_bias=False,
            normalised=None,
        )
        close(NetworkKernel(net)(x), kernel(x), 0.15)
        alpha = torch.randn(5, 1, dtype=torch.float64)
        close(kernel.expansion(x, alpha)(x), kernel(x) @ alpha)


def test_convolutional_kernel():
    x, known = (torch.rand(n, 2, 4, 3, dtype=torch.float64) for n in (3, 4))
    alpha, cotangent = torch.randn(4, 2).double(), torch.randn(3, 2).double()
    kernel = InfiniteWidthCNNKernel(depth=1)
    moved = x.clone().requires_grad_()
    options = {"weight_variance": 2.0, "bias_variance": 0.01, "readout": "flatten"}
    want = (infinite_width.cnn_kernels(moved, known, depth=1, **options).ntk + 0.01) @ alpha
    (gradient,) = torch.autograd.grad((want * cotangent).sum(), moved)
    for expansion in (
        kernel.expansion(known, alpha),
        AutogradExpansion(kernel, known, alpha, pairs=3),  # points in pieces, too
    ):
        outputs, pull = expansion.pullback(x)
        close(outputs, want.detach())
        close(pull(cotangent), gradient)
        close(expansion.jacobian(x)[:, 1], pull(torch.tensor([[0.0, 1.0]]).double().expand(3, 2)))
        own = torch.rand(3, 2, *x.shape[1:], dtype=torch.float64)
        close(expansion.own(own)[:, 1], (kernel(own[:, 1], known) @ alpha)[:, 1])


def module(inputs, outputs):
    layers = nn.Flatten(), nn.Linear(inputs, 7), nn.ReLU(), nn.Linear(7, 5), nn.Tanh()
    return nn.Sequential(*layers, nn.Linear(5, outputs)).double()


@pytest.mark.parametrize("dropout", [False, True])
def test_network_kernel(dropout, monkeypatch):
    monkeypatch.setattr("ntkscale.robustness.network_kernel._AT_ONCE", 2)
    x, known, alpha, cotangent = problem()
    model = module(x[0].numel(), alpha.shape[1])
    if dropout:
        model.append(nn.Dropout(0.5))
        model.train()
    kernel = NetworkKernel(model)
    assert model.training == dropout or not dropout
    reference = nn.Sequential(*list(model)[:6])
    moved = x.clone().requires_grad_()
    left, right = jacobian(reference, moved), jacobian(reference, known).detach()
    want = left @ right.T @ alpha.flatten()
    (gradient,) = torch.autograd.grad(want @ cotangent.flatten(), moved)
    close(kernel(x, known), (left @ right.T).detach())
    close(kernel(known), (right @ right.T).detach())
    with torch.no_grad():
        for parameter in model.parameters():  # what happens to the model later changes nothing
            parameter.add_(1)
    expansion = kernel.expansion(known, alpha)
    outputs, pull = expansion.pullback(x)
    close(outputs, want.detach().reshape(outputs.shape))
    close(expansion(x), outputs)
    close(pull(cotangent), gradient)
    # Through the kernel itself, and through the expansion.
    theta = kernel(moved, known) @ alpha.flatten()
    close(torch.autograd.grad(theta @ cotangent.flatten(), moved)[0], gradient)
    close(torch.autograd.grad((expansion(moved) * cotangent).sum(), moved)[0], gradient)
    slopes = expansion.jacobian(x)
    close((slopes * cotangent.reshape(*cotangent.shape, 1, 1)).sum(1), gradient)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gamma_is_in_the_networks_kernel():
    net = MLP(6, 2, width=32, gamma0=0.3, bias=True, dtype=torch.float64)
    x, alpha = torch.rand(4, 6).double(), torch.randn(4, 2).double()
    plain = ntk.gram(net, x, output="full").permute(0, 2, 1, 3).reshape(8, 8)
    kernel = NetworkKernel(net)
    close(kernel(x), float(net.gamma) ** 2 * plain)
    close(kernel.expansion(x, alpha)(x).flatten(), kernel(x) @ alpha.flatten())


def test_bad_input():
    with pytest.raises(ValueError, match="depth"):
        InfiniteWidthKernel(depth=0)
    with pytest.raises(ValueError, match="activation"):
        InfiniteWidthKernel(activation="cosine")
    with pytest.raises(ValueError, match="readout"):
        InfiniteWidthCNNKernel(readout="sum")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="features a sample"):
        expansion = InfiniteWidthKernel().expansion(torch.rand(3, 5), torch.rand(3, 1).double())
        expansion(torch.rand(2, 4))
    with pytest.raises(ValueError, match="unfreeze one"):
        NetworkKernel(nn.Linear(2, 1).requires_grad_(False))
