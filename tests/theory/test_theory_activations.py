import math

import pytest
import torch
from torch import Tensor

from ntkscale.networks.activations import activation as of_networks
from ntkscale.theory.activations import activation

NAMES = ["linear", "relu", "relu2", "relu3", "relu5", "erf", "tanh", "gelu"]


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_and_names_are_those_of_the_networks(name: str) -> None:
    phi, theirs = activation(name), of_networks(name)
    h = 2 * torch.randn(200, dtype=torch.float64)
    torch.testing.assert_close(phi(h), theirs(h))
    assert phi.second_moment() == pytest.approx(theirs.second_moment, rel=1e-13)
    assert phi.power == theirs.power
    step = 1e-5
    slope = (phi(h + step) - phi(h - step)) / (2 * step)
    away = h.abs() > step
    torch.testing.assert_close(phi.first(h)[away], slope[away], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_kinks_are_the_jumps_of_the_first_derivative(name: str) -> None:
    phi = activation(name)
    assert [position for position, _ in phi.kinks] == ([0.0] if name == "relu" else [])
    for position, jump in phi.kinks:
        sides = torch.tensor([position - 1e-12, position + 1e-12], dtype=torch.float64)
        below, above = phi.first(sides).tolist()
        assert above - below == pytest.approx(jump)


def test_functions_are_differentiated() -> None:
    def softplus(h: Tensor) -> Tensor:
        return torch.nn.functional.softplus(h)

    phi = activation(softplus)
    h = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(phi.first(h), torch.sigmoid(h))
    assert phi.name == "softplus" and activation(phi) is phi
    assert not phi.first(h).requires_grad
    assert torch.autograd.gradcheck(phi.first, h.requires_grad_())
    line = activation(lambda h: 3 * h)
    torch.testing.assert_close(line.first(h), torch.full_like(h, 3.0))


def test_normalised_has_second_moment_one() -> None:
    for name in ("relu", "relu3", "tanh"):
        phi = activation(name).normalised()
        g = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
        density = torch.exp(-g.square() / 2) / math.sqrt(2 * math.pi)
        moment = float(torch.trapezoid(phi(g).square() * density, g))
        assert moment == pytest.approx(1.0, rel=1e-6)
    assert activation("relu").scaled(3.0).kinks == ((0.0, 3.0),)


def test_bad_names_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="unknown activation 'sine': choose"):
        activation("sine")
    with pytest.raises(TypeError, match="name or a function"):
        activation(3)  # pyright: ignore[reportArgumentType]
