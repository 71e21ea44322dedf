"""CNN and ResNet against sums over pixels written out."""

import pytest
import torch
from torch import Tensor

from ntkscale.networks import CNN, ResNet


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, divide: bool = True) -> Tensor:
    n, _, height, breadth = x.shape
    out = torch.zeros(n, len(w), height, breadth, dtype=x.dtype)
    for i in range(height):
        for j in range(breadth):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < height and 0 <= j + dj < breadth:
                        out[:, :, i, j] += x[:, :, i + di, j + dj] @ w[:, :, di + 1, dj + 1].T
    out = out / (9 * x.shape[1]) ** 0.5 if divide else out
    return out if bias is None else out + bias[:, None, None]


def halve(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def test_cnn_is_the_definition() -> None:
    seed = int(torch.randint(10**6, ()))
    options = {"width": 5, "gamma0": 0.6, "seed": seed, "dtype": torch.float64}
    net = CNN(2, (6, 9), 3, bias=True, centered=False, **options)
    x = torch.randn(3, 2, 6, 9, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}
    h = halve(convolve(x, p["conv1"], p["bias1"]).relu())
    h = halve(convolve(h, p["conv2"], p["bias2"]).relu())
    features = 5 * 1 * 2
    expected = h.reshape(3, features) @ p["readout"].T / (0.6 * features)
    torch.testing.assert_close(net(x), expected)

    squared = CNN(2, (6, 9), 3, activation="relu2", centered=False, **options)
    p = {name: value.detach() for name, value in squared.named_parameters()}
    h = halve((2 / 3) ** 0.5 * convolve(x, p["conv1"], None).relu() ** 2)
    h = halve((2 / 3) ** 0.5 * convolve(h, p["conv2"], None).relu() ** 2)
    expected = h.reshape(3, features) @ p["readout"].T / (0.6 * features)
    torch.testing.assert_close(squared(x), expected)


def test_a_cnn_may_average_over_pixels() -> None:
    seed = int(torch.randint(10**6, ()))
    options = {"width": 6, "gamma0": 0.6, "centered": False, "seed": seed, "dtype": torch.float64}
    net = CNN(1, 9, 2, readout="global", **options)  # pyright: ignore[reportArgumentType]
    x = torch.randn(3, 1, 9, 9, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}
    h = halve(convolve(x, p["conv1"], None).relu())
    h = halve(convolve(h, p["conv2"], None).relu()).mean((2, 3))
    torch.testing.assert_close(net.last_features(x), h)
    torch.testing.assert_close(net(x), h @ p["readout"].T / (0.6 * 6))
    with pytest.raises(ValueError, match="unknown readout"):
        CNN(1, 9, 2, width=3, readout="max")  # pyright: ignore[reportArgumentType]


def test_resnet_is_the_definition() -> None:
    net = ResNet(
        3,
        2,
        width=4,
        blocks=4,
        bias=True,
        gamma0=1.5,
        centered=False,
        seed=int(torch.randint(10**6, ())),
        dtype=torch.float64,
    )
    x = torch.randn(2, 3, 8, 7, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}
    c = 2**0.5  # nine hidden layers: normalised
    h = convolve(x, p["stem"], p["stem_bias"])
    for block in (1, 2, 3, 4):
        inner = convolve(c * h.relu(), p[f"block{block}a"], p[f"block{block}a_bias"])
        h = h + convolve(c * inner.relu(), p[f"block{block}b"], p[f"block{block}b_bias"]) / 2
        h = halve(h) if block in (2, 3) else h  # after one and two thirds of four blocks
    expected = c * h.relu().mean((2, 3)) @ p["readout"].T / (1.5 * 4)
    torch.testing.assert_close(net(x), expected)


def test_residual_stream_keeps_its_size_with_depth() -> None:
    x = torch.randn(4, 3, 8, 8)
    sizes = []
    for blocks in (1, 2, 16):
        h = ResNet(3, 1, width=128, blocks=blocks, seed=blocks).preactivations(x)
        inner = [v for name, v in h.items() if name.endswith("a")]
        sizes.append(inner[-1].std().item())
    assert max(sizes) < 3 * min(sizes)


def test_standard_networks_have_no_multipliers() -> None:
    net = CNN(2, 8, 2, width=3, parameterization="standard", centered=False, dtype=torch.float64)
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    p = {name: value.detach() for name, value in net.named_parameters()}
    h = halve(convolve(x, p["conv1"], None, divide=False).relu())
    h = halve(convolve(h, p["conv2"], None, divide=False).relu())
    torch.testing.assert_close(net(x), h.flatten(1) @ p["readout"].T)


def test_a_network_says_what_its_readout_sums() -> None:
    for readout in ("flatten", "global"):
        assert f"readout={readout}" in repr(CNN(1, 8, 1, width=3, readout=readout))
