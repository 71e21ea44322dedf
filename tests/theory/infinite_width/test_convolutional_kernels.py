import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ntkscale import ntk
from ntkscale.networks import CNN
from ntkscale.theory.infinite_width import cnn_kernels, kernels
from tests.reference import neural_tangents_values as printed


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(("name", "halve", "readout"), list(printed.CNN))
def test_values_of_neural_tangents(name: str, halve: bool, readout: Any) -> None:
    images = [
        torch.sin(torch.arange(2 * 2 * 8 * 9, dtype=torch.float64) * step + 0.3).reshape(2, 2, 8, 9)
        for step in printed.IMAGE_STEPS
    ]
    found = cnn_kernels(
        *images,
        depth=2,
        activation=name,
        weight_variance=1.5,
        bias_variance=0.3,
        halve=halve,
        readout=readout,
    )
    nngp, tangent = (
        torch.tensor(v, dtype=torch.float64) for v in printed.CNN[name, halve, readout]
    )
    torch.testing.assert_close(found.nngp, nngp, rtol=0, atol=1e-13)
    torch.testing.assert_close(found.ntk, tangent, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("name", "bias"), [("relu", True), ("gelu", False)])
def test_networks_tend_to_the_kernel(name: str, bias: bool) -> None:
    x = drawn(3, 2, 5, 4)
    limit = cnn_kernels(
        x, depth=2, activation=name, bias_variance=float(bias), halve=True, readout="flatten"
    ).ntk
    errors = []
    for width, members in ((16, 60), (128, 40)):
        stack = []
        for _ in range(members):
            net = CNN(
                2,
                (5, 4),
                1,
                width=width,
                activation=name,
                bias=bias,
                centered=False,
                seed=int(torch.randint(1 << 30, ())),
                dtype=torch.float64,
            )
            stack.append(net.gamma.detach() ** 2 * ntk.gram(net, x))
        error = torch.stack(stack) - limit
        errors.append(float(error.square().mean().sqrt()))
    assert 0.5 < errors[0] / errors[1] / 8**0.5 < 2
    spread = float((error.var(0).sum() / members).sqrt())
    assert float(error.mean(0).norm()) < 4 * spread + 0.03 * float(limit.norm())


class GlobalCNN(torch.nn.Module):
    """Three convolutions, then the mean over pixels, in the NTK parameterization."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        fan_ins = (channels, width, width)
        self.weights = torch.nn.ParameterList(drawn(width, c, 3, 3) for c in fan_ins)
        self.readout = torch.nn.Parameter(drawn(1, width))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.tanh(F.conv2d(x, weight, padding=1) / math.sqrt(9 * weight.shape[1]))
        return F.linear(x.mean((2, 3)), self.readout) / self.readout.shape[1] ** 0.5


def test_global_pooling_of_three_layers() -> None:
    x = drawn(3, 2, 4, 5)
    limit = cnn_kernels(x, depth=3, activation="tanh")
    assert limit.error < 1e-12
    errors = []
    for width, members in ((8, 60), (64, 40)):
        nets = [GlobalCNN(2, width) for _ in range(members)]
        error = torch.stack([ntk.gram(net, x) for net in nets]) - limit.ntk
        errors.append(float(error.square().mean().sqrt()))
    assert 0.5 < errors[0] / errors[1] / 8**0.5 < 2
    spread = float((error.var(0).sum() / members).sqrt())
    assert float(error.mean(0).norm()) < 4 * spread + 0.03 * float(limit.ntk.norm())


def test_two_sets_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(4, 2, 3, 4) / 2, drawn(3, 2, 3, 4) / 2
    x[1, :, 0] = 0.0  # a black border: pixels of variance zero
    for name in ("relu", "tanh"):
        monkeypatch.undo()
        whole = cnn_kernels(torch.cat((x, y)), depth=2, activation=name)
        monkeypatch.setattr(
            "ntkscale.theory.infinite_width.convolutional._PIXEL_PAIRS", 2 * (3 * 4) ** 2
        )
        seen: list[tuple[int, int]] = []
        alone = cnn_kernels(
            x, depth=2, activation=name, progress=lambda *a, seen=seen: seen.append(a)
        )
        cross = cnn_kernels(x, y, depth=2, activation=name)
        assert torch.equal(alone.ntk, alone.ntk.T)
        assert seen[-1] == (10, 10) and len(seen) >= 5
        for part, expected in (("nngp", whole.nngp), ("ntk", whole.ntk)):
            torch.testing.assert_close(getattr(alone, part), expected[:4, :4])
            torch.testing.assert_close(getattr(cross, part), expected[:4, 4:])


def test_one_pixel_is_a_fully_connected_network() -> None:
    # Of the nine weights of a filter eight meet the padding.
    x, y = drawn(4, 3, 1, 1), drawn(2, 3, 1, 1)
    found = cnn_kernels(x, y, depth=2, activation="erf", weight_variance=9.0, bias_variance=0.2)
    # The read-out is no convolution.
    dense = kernels(x, y, depth=2, activation="erf", bias_variance=0.2)
    torch.testing.assert_close(found.nngp, 9 * dense.nngp)
    torch.testing.assert_close(found.ntk, 9 * dense.ntk)


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_gradients(name: str) -> None:
    x = drawn(2, 1, 2, 3).requires_grad_()
    y = drawn(1, 1, 2, 3).requires_grad_()

    def both(*images: Tensor) -> tuple[Tensor, Tensor]:
        found = cnn_kernels(*images, depth=2, activation=name, bias_variance=0.1)
        return found.nngp, found.ntk

    assert torch.autograd.gradcheck(both, (x,))
    assert torch.autograd.gradcheck(both, (x, y))
    assert torch.autograd.gradgradcheck(both, (x, y), fast_mode=True)


def test_bad_images_are_one_sentence() -> None:
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"give images \(n, C, H, W\)"):
        cnn_kernels(x[0], depth=1)
    with pytest.raises(ValueError, match="images of one network"):
        cnn_kernels(x, torch.rand(2, 1, 4, 3), depth=1)
    with pytest.raises(ValueError, match="3 halvings need images of at least 8 x 8"):
        cnn_kernels(x, depth=3, halve=True)
    with pytest.raises(ValueError, match="choose global or flatten"):
        cnn_kernels(x, depth=1, readout="mean")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not finite"):
        cnn_kernels(x / 0 * 0, depth=1)
