"""Size of kernel and output, centring and gamma0 in every architecture and parameterization."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ntkscale.networks import CNN, MLP, Network, ResNet

BUILD: dict[str, Callable[..., Network]] = {
    "mlp1": lambda **kw: MLP(7, 1, **kw),
    "mlp2": lambda **kw: MLP(7, 1, depth=2, bias=True, **kw),
    "mlp4": lambda **kw: MLP(7, 1, depth=4, activation="tanh", **kw),
    "relu2": lambda **kw: MLP(7, 1, activation="relu2", **kw),
    "cnn": lambda **kw: CNN(2, 4, 1, **kw),
    "resnet": lambda **kw: ResNet(2, 1, blocks=1, bias=True, **kw),
}


def samples(name: str, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    shape = (7,) if "mlp" in name or "relu" in name else (2, 4, 4)
    x = torch.randn(count, *shape, dtype=dtype)
    return x * (x[0].numel() ** 0.5 / x.flatten(1).norm(dim=1)).reshape(-1, *[1] * len(shape))


def kernel_diagonal(net: Network, x: Tensor) -> Tensor:
    values = []
    for sample in x:
        gradients = torch.autograd.grad(net(sample[None]).sum(), list(net.parameters()))
        values.append(sum(g.square().sum() for g in gradients))
    return net.gamma**2 * torch.stack(values)


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize(("gamma0", "parameterization"), [(0.3, "mean-field"), (1.0, "ntk")])
def test_kernel_is_order_one_at_any_width(name: str, gamma0: float, parameterization: str) -> None:
    x = samples(name, 2)
    size = {}
    for width in (16, 128):
        members = [
            BUILD[name](
                width=width,
                gamma0=gamma0,
                parameterization=parameterization,
                seed=s,
                dtype=torch.float64,
            )
            for s in range(12)
        ]
        size[width] = torch.stack([kernel_diagonal(net, x) for net in members]).median()
    assert 0.02 < size[128] < 30
    # Seeds and a small width move this by tens of per cent; a wrong sqrt(N) would by 2.8 or more.
    assert 0.45 < size[128] / size[16] < 2.2


@pytest.mark.parametrize("name", BUILD)
def test_kernel_does_not_depend_on_richness(name: str) -> None:
    x = samples(name, 3)
    lazy, rich = (
        kernel_diagonal(BUILD[name](width=16, gamma0=g, dtype=torch.float64), x) for g in (0.01, 5)
    )
    torch.testing.assert_close(lazy, rich)


@pytest.mark.parametrize("name", BUILD)
def test_output_is_one_over_gamma(name: str) -> None:
    x = samples(name, 8)
    nets = [
        BUILD[name](width=32, gamma0=0.5, centered=False, seed=s, dtype=torch.float64)
        for s in range(20)
    ]
    scaled = torch.stack([(net(x) * net.gamma).square().mean().sqrt() for net in nets]).mean()
    assert 0.1 < scaled < 6


@pytest.mark.parametrize("name", BUILD)
def test_centring_subtracts_the_initial_function(name: str) -> None:
    x = samples(name, 5).requires_grad_()
    net = BUILD[name](width=16, seed=3, dtype=torch.float64)
    plain = BUILD[name](width=16, seed=3, centered=False, dtype=torch.float64)
    assert torch.count_nonzero(net(x)) == 0
    initial = copy.deepcopy(plain)
    with torch.no_grad():
        for a, b in zip(net.parameters(), plain.parameters(), strict=True):
            change = torch.randn_like(a)
            a += change
            b += change
    torch.testing.assert_close(net(x), plain(x) - initial(x))
    # Also in x: attacks and kernels of gradients go through the subtracted copy.
    (moved,) = torch.autograd.grad(net(x).sum(), x)
    (expected,) = torch.autograd.grad((plain(x) - initial(x)).sum(), x)
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("name", BUILD)
def test_same_numbers_in_every_dtype_and_saved_state(name: str) -> None:
    double = BUILD[name](width=16, seed=11, dtype=torch.float64)
    single = BUILD[name](width=16, seed=11, dtype=torch.float32)
    for key, value in double.state_dict().items():
        assert torch.equal(value.float(), single.state_dict()[key]), key
    other = BUILD[name](width=16, seed=12, dtype=torch.float32)
    x = samples(name, 3, torch.float32)
    with torch.no_grad():
        for parameter in single.parameters():
            parameter += 0.1
    assert not torch.equal(single(x), other(x))
    other.load_state_dict(single.state_dict())
    assert torch.equal(single(x), other(x))


def test_no_global_generator_is_touched() -> None:
    before = torch.get_rng_state()
    MLP(2, 1, width=256, bias=True, scale_input=False, init="ring")
    CNN(1, 8, 2, width=4)
    assert torch.equal(before, torch.get_rng_state())


def test_gamma() -> None:
    assert float(MLP(3, 1, width=64, gamma0=0.25).gamma) == 2.0
    cnn = CNN(1, (8, 12), 3, width=5, gamma0=2.0)
    assert cnn.readout_fan_in == 5 * 2 * 3
    assert float(cnn.gamma) == pytest.approx(2.0 * 30**0.5)
    ntk = MLP(3, 1, width=64, parameterization="ntk")
    assert (float(ntk.gamma), float(ntk.gamma0)) == (1.0, 0.125)
    standard = ResNet(3, 2, width=4, parameterization="standard")
    assert float(standard.gamma) == 1.0


def test_standard_parameterization_is_he() -> None:
    net = MLP(
        50, 3, width=400, depth=2, bias=True, parameterization="standard", dtype=torch.float64
    )
    tensors = dict(net.named_parameters())
    assert tensors["hidden1"].var().item() == pytest.approx(2 / 50, rel=0.1)
    assert tensors["hidden2"].var().item() == pytest.approx(2 / 400, rel=0.05)
    assert tensors["readout"].var().item() == pytest.approx(1 / 400, rel=0.2)
    assert torch.count_nonzero(tensors["bias2"]) == 0
    x = torch.randn(4, 50, dtype=torch.float64)
    h1 = x @ tensors["hidden1"].T
    h2 = h1.relu() @ tensors["hidden2"].T
    torch.testing.assert_close(net.features(x, tensors)[1], h2.relu() @ tensors["readout"].T)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma0": 0.0}, "gamma0 must be positive"),
        ({"gamma0": -1.0}, "gamma0 must be positive"),
        ({"gamma0": float("nan")}, "gamma0 must be positive"),
        ({"gamma0": 0.5, "parameterization": "ntk"}, "fixes gamma0"),
        ({"gamma0": 0.5, "parameterization": "standard"}, "has no gamma0"),
        ({"normalised": True, "parameterization": "standard"}, "normalised=True contradicts"),
        ({"parameterization": "mup"}, "unknown parameterization"),
        ({"activation": "nope"}, "unknown activation"),
        ({"width": -4}, "width must be a positive"),
    ],
)
@pytest.mark.parametrize("name", ["mlp1", "cnn", "resnet"])
def test_bad_options_are_one_sentence(name: str, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        BUILD[name](**{"width": 8, **options})
    assert "\n" not in str(caught.value)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(n, 3\) inputs, got \(5, 4\)"):
        MLP(3, 1, width=8)(torch.randn(5, 4))
    with pytest.raises(ValueError, match=r"\(n, 1, 8, 8\) inputs"):
        CNN(1, 8, 1, width=8)(torch.randn(5, 1, 8, 9))
    with pytest.raises(ValueError, match=r"\(n, 3, h, w\) inputs"):
        ResNet(3, 1, width=8)(torch.randn(5, 1, 8, 8))
    with pytest.raises(ValueError, match="at least 4 x 4"):
        CNN(1, 3, 1, width=8)
