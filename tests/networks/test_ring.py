import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale.networks import MLP
from ntkscale.theory.infinite_width import circle_eigenvalues

RING = {"bias": True, "scale_input": False, "init": "ring", "dtype": torch.float64}


def grid(points: int) -> Tensor:
    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    return torch.stack((theta.cos(), theta.sin()), dim=-1)


def tensors(net: MLP) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (N, 2), biases (N,) and read-out (N,)."""
    w, b, a = (p.detach() for p in net.parameters())
    return w, b, a[0]


def fourier_diagonal(net: MLP, points: int) -> np.ndarray:
    """lambda_k = v_k^T K v_k for the unit Fourier vectors, K from its definition, neuron sums."""
    x = grid(points)
    w, b, a = tensors(net)
    h = x @ w.T + b
    active = (h > 0).double() * a
    kernel = (h.relu() @ h.relu().T + (active @ active.T) * (x @ x.T + 1)) / net.width
    j = torch.arange(points)
    row = torch.stack([kernel[j, (j + m) % points].mean() for m in range(points)])
    return torch.fft.rfft(row).real.numpy() / points


@pytest.mark.parametrize(("width", "angles"), [(1024, 128), (96, 16), (640, 64)])
def test_layout_of_the_rings(width: int, angles: int) -> None:
    net = MLP(2, 1, width=width, angles=angles, seed=int(torch.randint(10**6, ())), **RING)
    rings = width // (2 * angles)
    weights, biases, readout = tensors(net)
    w = weights.reshape(rings, 2, angles, 2)
    b = biases.reshape(rings, 2, angles)
    a = readout.reshape(rings, 2, angles)
    assert torch.equal(w[:, 0], w[:, 1])
    assert torch.equal(a[:, 0], -a[:, 1])
    assert torch.equal(b, b[:, :1, :1].expand_as(b))
    assert torch.equal(a[:, 0], a[:, 0, :1].expand(-1, angles))
    assert (a[:, 0] > 0).all()
    angle = torch.atan2(w[:, 0, :, 1], w[:, 0, :, 0])
    step = (angle.diff(dim=1) % (2 * math.pi)) - 2 * math.pi / angles
    torch.testing.assert_close(step, torch.zeros_like(step))
    radius = w[:, 0].norm(dim=-1)
    torch.testing.assert_close(radius, radius[:, :1].expand_as(radius))
    assert a.square().mean().item() == pytest.approx(1.0, abs=1e-12)
    assert len({round(v, 9) for v in b[:, 0, 0].tolist()}) == rings


def test_quantiles_have_their_distributions() -> None:
    net = MLP(2, 1, width=2048, angles=1, seed=7, **RING)  # 1,024 rings
    w, b, a = tensors(net)
    radius = w.norm(dim=1)
    for values, moments in (
        (b, {1: 0, 2: 1, 4: 3}),
        (radius, {1: math.sqrt(math.pi / 2), 2: 2, 4: 8}),
        (a.abs(), {1: math.sqrt(2 / math.pi), 2: 1, 4: 3}),
    ):
        for order, expected in moments.items():
            assert (values**order).mean().item() == pytest.approx(expected, abs=0.02, rel=0.05)


def test_zero_at_initialisation_and_centring_costs_nothing() -> None:
    net = MLP(2, 1, width=1024, gamma0=0.01, seed=2, **RING)
    assert net(torch.randn(40, 2, dtype=torch.float64)).abs().max() < 1e-12
    assert [name for name, _ in net.named_buffers()] == ["gamma0"]
    plain = MLP(2, 1, width=1024, gamma0=0.01, seed=2, centered=False, **RING)
    with torch.no_grad():
        for p in (*net.parameters(), *plain.parameters()):
            p += 0.1
    x = grid(64)
    assert torch.equal(net(x), plain(x))


def test_kernel_by_autograd() -> None:
    net = MLP(2, 1, width=256, angles=32, gamma0=0.2, seed=9, **RING)
    x = grid(16)
    rows = [
        torch.cat(
            [g.ravel() for g in torch.autograd.grad(net(s[None])[0, 0], list(net.parameters()))]
        )
        for s in x
    ]
    jacobian = torch.stack(rows) * net.gamma
    kernel = jacobian @ jacobian.T
    j = torch.arange(16)
    row = torch.stack([kernel[j, (j + m) % 16].mean() for m in range(16)])
    expected = torch.from_numpy(fourier_diagonal(net, 16))
    torch.testing.assert_close(torch.fft.rfft(row).real / 16, expected)


def test_kernel_spectrum_is_close_to_infinite_width() -> None:
    points = 256
    limit = circle_eigenvalues(points, bias=True, scale_input=False).numpy()
    ratios = np.array(
        [
            fourier_diagonal(MLP(2, 1, width=4096, seed=s, **RING), points)[:33] / limit[:33]
            for s in range(6)
        ]
    )
    # The number of rings leaves single eigenvalues a spread of some tens of per cent; over modes
    # and seeds it averages out, and the law k^-2 is there.
    assert np.abs(ratios[:, :2] - 1).max() < 0.3
    assert abs(ratios[:, 5:].mean() - 1) < 0.1
    assert np.abs(ratios[:, 5:].mean(axis=1) - 1).max() < 0.25
    k = np.arange(5, 33)
    for ratio in ratios:
        slope = np.polyfit(np.log(k), np.log(ratio[5:] * limit[5:33]), 1)[0]
        assert abs(slope - np.polyfit(np.log(k), np.log(limit[5:33]), 1)[0]) < 0.25


def test_kernel_is_invariant_under_rotation_by_one_angle() -> None:
    x, shift = grid(64), 4  # four of 64 points are one of 16 angles

    def defect(init: str) -> float:
        net = MLP(2, 1, width=512, angles=16, seed=1, **{**RING, "init": init})
        jacobian = torch.cat(
            [
                torch.autograd.functional.jacobian(
                    lambda p, name=name: torch.func.functional_call(net, {name: p}, (x,))[:, 0],
                    value.detach(),
                ).flatten(1)
                for name, value in net.named_parameters()
            ],
            dim=1,
        )
        kernel = jacobian @ jacobian.T
        return float((kernel.roll((shift, shift), (0, 1)) - kernel).norm() / kernel.norm())

    assert defect("ring") < 1e-12
    assert defect("gaussian") > 1e-2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 1000}, "choose 1024"),
        ({"width": 128}, "choose 256"),
        ({"bias": False}, "set bias=True,"),
        ({"scale_input": True}, "set scale_input=False,"),
        ({"depth": 2}, "set depth=1,"),
        ({"parameterization": "standard"}, "mean-field"),
        ({"angles": 0}, "angles must be at least 1"),
        ({"init": "ringo"}, "unknown init"),
    ],
)
def test_bad_options_are_one_sentence(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MLP(2, 1, **{"width": 1024, **RING, **changes})
    with pytest.raises(ValueError, match="inputs=2, outputs=1"):
        MLP(3, 2, width=1024, **RING)
