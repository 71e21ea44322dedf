import math

import numpy as np
import pytest
import torch
from scipy.special import zeta
from torch import Tensor

from ntkscale.theory.infinite_width import circle_eigenvalues, circle_ntk, kernels


@pytest.mark.parametrize("scale_input", [True, False])
@pytest.mark.parametrize(("depth", "power", "bias"), [(1, 1, True), (3, 2, False), (2, 3, True)])
def test_circle_is_the_general_kernel(
    depth: int, power: int, bias: bool, scale_input: bool
) -> None:
    points = int(torch.randint(10, 40, ()))
    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    x = torch.stack((theta.cos(), theta.sin()), dim=-1)
    kernel = kernels(
        x,
        depth=depth,
        activation=f"relu{power}",
        bias_variance=float(bias),
        scale_input=scale_input,
        normalised=None,
    ).ntk
    options = {"depth": depth, "power": power, "bias": bias, "scale_input": scale_input}
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
    with pytest.raises(ValueError, match="q = 10"):
        circle_ntk(8, power=10)
    with pytest.raises(ValueError, match="depth must be a whole number, at least 1"):
        circle_ntk(8, depth=0)
    with pytest.raises(ValueError, match="points must be a whole number, at least 1"):
        circle_ntk(0)
    with pytest.raises(ValueError, match="points must be a whole number"):
        circle_ntk(8.5)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(circle_eigenvalues(8, power=2), circle_eigenvalues(8.0, power=2.0))  # pyright: ignore[reportArgumentType]
