import math

import numpy as np
import pytest
import torch
from scipy.special import zeta
from torch import Tensor

from ntkscale.networks import MLP
from ntkscale.theory.arc_cosine import arc_cosine, circle_eigenvalues, circle_ntk, relu_ntk


@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_expectation_by_quadrature(power: int) -> None:
    # E u_+^q v_+^q = (1 / 2 pi) J_q(a) in polar coordinates: the radius gives (2q)!! = 2^q q!.
    for a in torch.rand(5, dtype=torch.float64).mul(math.pi).tolist():
        phi = np.linspace(a - math.pi / 2, math.pi / 2, 200_001)
        integral = np.trapezoid((np.cos(phi) * np.cos(phi - a)) ** power, phi)
        expected = 2**power * math.factorial(power) * integral
        value = arc_cosine(torch.tensor(a, dtype=torch.float64), power)
        assert float(value) == pytest.approx(expected, rel=1e-8)


def empirical(net: MLP, x: Tensor) -> Tensor:
    rows = [
        torch.cat(
            [g.ravel() for g in torch.autograd.grad(net(s[None])[0, 0], list(net.parameters()))]
        )
        for s in x
    ]
    jacobian = torch.stack(rows) * net.gamma
    return jacobian @ jacobian.T


@pytest.mark.parametrize(
    ("depth", "power", "bias", "scale_input", "normalised"),
    [
        (1, 1, True, False, None),
        (1, 1, False, True, True),
        (2, 1, True, True, False),
        (3, 1, False, False, None),
        (1, 2, True, True, None),
        (2, 2, False, True, False),
        (1, 3, False, True, None),
    ],
)
def test_finite_networks_average_to_the_kernel(
    depth: int, power: int, bias: bool, scale_input: bool, normalised: bool | None
) -> None:
    options = {
        "depth": depth,
        "bias": bias,
        "scale_input": scale_input,
        "normalised": normalised,
    }
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(power))
    width, members = (60_000, 4) if depth == 1 else (900, 16)
    name = "relu" if power == 1 else f"relu{power}"
    mean = torch.stack(
        [
            empirical(
                MLP(
                    3,
                    1,
                    width=width,
                    activation=name,
                    gamma0=0.3,
                    seed=s,
                    dtype=torch.float64,
                    **options,
                ),
                x,
            )
            for s in range(members)
        ]
    ).mean(0)
    limit = relu_ntk(x, power=power, **options)
    error = float((mean - limit).norm() / limit.norm())
    assert error < 0.05 if depth == 1 else error < 0.1


def test_pairs_of_inputs() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    whole = relu_ntk(torch.cat((x, y)), depth=2, bias=True)
    torch.testing.assert_close(relu_ntk(x, y, depth=2, bias=True), whole[:5, 5:])
    torch.testing.assert_close(relu_ntk(x, depth=2, bias=True), whole[:5, :5])
    assert relu_ntk(x.float()).dtype == torch.float32


@pytest.mark.parametrize("scale_input", [True, False])
@pytest.mark.parametrize(("depth", "power", "bias"), [(1, 1, True), (3, 2, False), (2, 3, True)])
def test_circle_is_the_general_kernel(
    depth: int, power: int, bias: bool, scale_input: bool
) -> None:
    points = int(torch.randint(10, 40, ()))
    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    x = torch.stack((theta.cos(), theta.sin()), dim=-1)
    options = {"depth": depth, "power": power, "bias": bias, "scale_input": scale_input}
    kernel = relu_ntk(x, **options)
    torch.testing.assert_close(circle_ntk(points, **options), kernel[0], rtol=1e-9, atol=1e-9)
    values = torch.linalg.eigvalsh(kernel / points)
    by_mode = circle_eigenvalues(points, **options)
    pairs = by_mode[1 : (points + 1) // 2].repeat(2)
    alone = by_mode[[0, points // 2]] if points % 2 == 0 else by_mode[:1]
    torch.testing.assert_close(
        torch.cat((pairs, alone)).sort().values, values, rtol=1e-6, atol=1e-8
    )


def test_parity_without_biases() -> None:
    odd = circle_eigenvalues(512, power=1)
    assert odd[3:100:2].abs().max() < 1e-9 * odd[0]
    assert (odd[2:100:2] > 1e-6).all()
    even = circle_eigenvalues(512, power=2)
    assert even[4:60:2].abs().max() < 1e-9 * even[0]
    assert (circle_eigenvalues(512, power=1, depth=2)[1:100] > 1e-6).all()


@pytest.mark.parametrize(("power", "alpha"), [(1, 2.02), (2, 4.06), (3, 6.1)])
def test_eigenvalues_fall_as_twice_the_power(power: int, alpha: float) -> None:
    values = circle_eigenvalues(4096, power=power).numpy()
    # Without biases every other mode is zero: even ones are kept for odd powers, odd for even.
    k = np.arange(10 if power % 2 else 11, 60, 2)
    slope = -np.polyfit(np.log(k), np.log(values[k]), 1)[0]
    assert slope == pytest.approx(alpha, abs=0.1)


def lazy_slope(eigenvalues: Tensor, beta: float, points: int) -> float:
    """Slope of the exact lazy mse where modes 5 to 32 are learned, on k^-q, 2q = 1 + 2 beta."""
    modes = points // 2 - 1
    k = np.arange(1, modes + 1)
    rates = eigenvalues.numpy()[1 : modes + 1]
    tau = np.geomspace(160, 3500, 80)
    power = k ** -(1 + 2 * beta) / 2
    mse = np.exp(-2 * np.outer(tau, rates)) @ power + zeta(1 + 2 * beta, modes + 1) / 2
    return float(-np.polyfit(np.log(tau), np.log(mse), 1)[0])


@pytest.mark.parametrize(
    ("beta", "population", "on_256"),
    [
        (0.25, 0.242, 0.245),
        (0.5, 0.480, 0.486),
        (0.75, 0.7165, 0.723),
        (1.25, 1.182, 1.189),
        (1.5, 1.412, 1.419),
    ],
)
def test_lazy_slopes_of_the_circle(beta: float, population: float, on_256: float) -> None:
    fine = circle_eigenvalues(2**14, bias=True, scale_input=False)
    assert lazy_slope(fine, beta, 2**14) == pytest.approx(population, abs=0.001)
    # Modes above P / 2 fold back onto the eigenvalues of a grid of 256 and lift the slope a little.
    grid = circle_eigenvalues(256, bias=True, scale_input=False)
    assert lazy_slope(grid, beta, 256) == pytest.approx(on_256, abs=0.001)


def test_bad_options_are_one_sentence() -> None:
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match="q = 4"):
        relu_ntk(x, power=4)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        circle_ntk(8, depth=0)
    with pytest.raises(ValueError, match="points must be at least 1"):
        circle_ntk(0)
    with pytest.raises(ValueError, match="add biases"):
        relu_ntk(torch.zeros(2, 2))
    assert torch.isfinite(relu_ntk(torch.zeros(2, 2), bias=True)).all()
    with pytest.raises(ValueError, match="closed forms"):
        arc_cosine(torch.ones(1), -1)
