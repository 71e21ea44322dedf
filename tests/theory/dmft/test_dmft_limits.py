"""Closed forms and limits: white data, lazy training, leading order, quadrature."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from torch import Tensor

from ntkscale.theory import infinite_width
from ntkscale.theory.dmft import (
    Solution,
    leading_order,
    memory_weights,
    pose,
    solve_linear,
    static_ntk,
    white_data,
)
from ntkscale.theory.dmft.solution import Cost

RNG = np.random.default_rng()


def data(num: int) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(RNG.standard_normal((num, 2 * num)))
    return x, torch.from_numpy(RNG.standard_normal(num))


def largest(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("gamma0", [0.0, 1e-9, 0.3, 1.0, 5.0])
def test_white_data_solves_its_differential_equation(gamma0: float) -> None:
    y = torch.from_numpy(RNG.standard_normal(int(RNG.integers(1, 6))))
    size, num = float(y.norm()), len(y)
    found = white_data(y, gamma0=gamma0, times=np.linspace(0, 3, 31))
    flow = solve_ivp(
        lambda _, f: 2 * np.sqrt(1 + (gamma0 * f) ** 2) * (size - f) / num,
        (0, 3),
        [0.0],
        t_eval=found.times.numpy(),
        rtol=1e-11,
        atol=1e-13,
    )
    along = found.outputs @ y / size
    np.testing.assert_allclose(along, flow.y[0], rtol=1e-8, atol=1e-9)
    strength = np.sqrt(1 + (gamma0 * flow.y[0]) ** 2)
    grown = torch.einsum("m,tmtn,n->t", y, found.phi[0], y) / size**2
    np.testing.assert_allclose(grown, strength, rtol=1e-8)
    np.testing.assert_allclose(found.g[0].diagonal(dim1=0, dim2=2)[0, 0], strength, rtol=1e-8)


@pytest.mark.parametrize("gamma0", [0.3, 1.0])
def test_flow_on_white_data(gamma0: float) -> None:
    y = torch.from_numpy(RNG.standard_normal(3))
    y *= 2 / y.norm()
    errors: list[tuple[float, float]] = []
    for steps in (75, 150, 300):
        call: dict[str, Any] = {"depth": 1, "learning_rate": 3 / steps, "steps": steps}
        found = solve_linear(None, y, kernel=torch.eye(3), gamma0=gamma0, flow=True, **call)
        exact = white_data(y, gamma0=gamma0, times=found.times)
        kernels = [
            largest(a, b) for a, b in zip(found.phi + found.g, exact.phi + exact.g, strict=True)
        ]
        errors.append((largest(found.mse, exact.mse), max(kernels)))
    assert errors[-1][0] < 1e-5
    assert errors[-1][1] < 1e-4
    for coarse, fine in pairwise(errors):
        assert fine[0] < coarse[0] / 6  # third order
        assert fine[1] < coarse[1] / 3.5  # second, from the first step


@pytest.mark.parametrize("depth", [2, 3])
def test_white_data_is_a_problem_of_one_point(depth: int) -> None:
    y = torch.from_numpy(RNG.standard_normal(4))
    size = y.norm()
    call: dict[str, Any] = {"depth": depth, "gamma0": 1.0, "steps": 20}
    found = solve_linear(None, y, kernel=torch.eye(4), learning_rate=0.2, **call)
    scalar = solve_linear(None, size[None], kernel=torch.ones(1, 1), learning_rate=0.05, **call)
    torch.testing.assert_close(found.outputs, scalar.outputs * y / size)
    direction = torch.outer(y, y) / size**2
    still = (torch.eye(4) - direction)[None, :, None]
    expected = still + scalar.phi[-1] * direction[:, None]
    torch.testing.assert_close(found.phi[-1], expected)


@pytest.mark.parametrize("flow", [False, True])
def test_small_gamma0_is_lazy(flow: bool) -> None:
    x, y = data(3)
    call: dict[str, Any] = {"depth": 3, "learning_rate": 0.02, "steps": 60, "x_test": x[:1] + 1}
    call |= {"flow": flow}
    lazy = static_ntk(x, y, activation="linear", **call)
    for gamma0, bound in ((0.0, 1e-12), (1e-4, 1e-6)):
        found = solve_linear(x, y, gamma0=gamma0, **call)
        assert largest(found.outputs, lazy.outputs) < bound
        assert largest(found.ntk, lazy.ntk) < bound
        assert max(largest(a, b) for a, b in zip(found.phi, lazy.phi, strict=True)) < bound
    # Against the matrix exponential, or powers.
    values, vectors = torch.linalg.eigh(4 * x @ x.T / x.shape[1])
    time = lazy.times[:, None]
    left = (
        torch.exp(-values / 3 * time)
        if flow
        else (1 - 0.02 * values / 3) ** torch.arange(61)[:, None]
    )
    expected = y - (left * (vectors.T @ y)) @ vectors.T
    # The rule's own error: the square of what a step moves the fastest mode by.
    step = 0.02 * float(values[-1]) / 3
    assert largest(lazy.outputs[:, :3], expected) < (step**2 if flow else 1e-12)


def test_lazy_kernels_of_other_activations() -> None:
    x, _ = data(4)
    y = torch.from_numpy(RNG.standard_normal((4, 2)))
    found = static_ntk(x, y, depth=2, activation="relu", learning_rate=0.1, steps=5)
    kernels = infinite_width.kernels(x, depth=2, activation="relu", per_layer=True)
    assert kernels.phi is not None
    torch.testing.assert_close(found.phi[1][5, :, 0], kernels.phi[1])
    torch.testing.assert_close(found.ntk[3, :, :, 1, 1], kernels.ntk)
    assert not found.ntk[..., 0, 1].any()
    assert found.g[0].shape == (6, 4, 2, 6, 4, 2)
    assert not found.g[0][:, :, 0, :, :, 1].any()
    step = found.outputs[1]
    torch.testing.assert_close(step, 0.1 / 4 * kernels.ntk @ y)


def test_lazy_kernels_state_what_a_series_leaves_out() -> None:
    x, y = data(4)
    x *= 4 * (x.shape[1] / x.square().sum(1, keepdim=True)).sqrt()  # fields of deviation 4
    call: dict[str, Any] = {"depth": 2, "learning_rate": 0.1, "steps": 5}
    exact = static_ntk(x, y, activation="erf", **call)
    assert not exact.standard_error["phi"].any() and not exact.standard_error["mse"].any()

    # The same function by its series, which converges slowly for large fields.
    found = static_ntk(x, y, activation=lambda h: torch.erf(h), **call)
    error = found.standard_error
    assert 0 < float(error["phi"][0]) < float(error["phi"][1])
    assert bool(error["mse"][1:].gt(0).all()) and not error["mse"][0]
    for layer in range(2):
        for name in ("phi", "g"):
            a, b = getattr(found, name)[layer][0, :, 0], getattr(exact, name)[layer][0, :, 0]
            assert float((a - b).norm() / b.norm()) <= float(error[name][layer]) + 1e-12


def test_white_data_checks_its_input() -> None:
    y = np.ones(3)
    for targets, times, words in [
        (y * np.nan, [1.0], "y has entries that are not finite"),
        (y, [0.0, np.nan], "times has entries that are not finite"),
        (y, [0.0, -1.0], "none below 0"),
        (y, 1.0, "must be a list"),
        (y[:, None], [1.0], "y must be"),
        (1.0, [1.0], "y must be"),
    ]:
        with pytest.raises(ValueError, match=words):
            white_data(targets, gamma0=1.0, times=times)
    with pytest.raises(ValueError, match="gamma0"):
        white_data(y, gamma0=-1.0, times=[1.0])


@pytest.mark.parametrize("more", [{}, {"momentum": 0.5}, {"flow": True}])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_leading_order_is_the_derivative(depth: int, more: dict[str, Any]) -> None:
    x, y = data(3)
    call: dict[str, Any] = {"depth": depth, "learning_rate": 0.05, "steps": 12, "x_test": x[:1] + 1}
    call |= more
    lazy = solve_linear(x, y, gamma0=0.0, **call)
    small = 0.002

    def slopes(found: Solution) -> list[Tensor]:
        pairs = zip((*found.phi, *found.g, found.ntk), (*lazy.phi, *lazy.g, lazy.ntk), strict=True)
        return [(a - b) / small**2 for a, b in pairs]

    for corrected in (True, False):
        # The printed coefficients are those without responses.
        solved = solve_linear(x, y, gamma0=small, responses=corrected, **call)
        expanded = leading_order(x, y, gamma0=small, corrected=corrected, **call)
        for a, b in zip(slopes(expanded), slopes(solved), strict=True):
            assert float((a - b).norm()) < 1e-3 * float(b.norm())
        if depth > 1 and corrected:
            printed = leading_order(x, y, gamma0=small, corrected=False, **call)
            wrong = slopes(printed)[0] - slopes(solved)[0]
            assert float(wrong.norm()) > 0.1 * float(slopes(solved)[0].norm())


def test_leading_order_of_outputs_in_flow() -> None:
    x, y = data(3)
    call: dict[str, Any] = {"depth": 2, "learning_rate": 0.01, "steps": 100, "flow": True}
    lazy = solve_linear(x, y, gamma0=0.0, **call)
    solved = solve_linear(x, y, gamma0=0.02, **call).outputs - lazy.outputs
    expanded = leading_order(x, y, gamma0=0.02, **call).outputs - lazy.outputs
    assert float((solved - expanded).norm()) < 0.02 * float(solved.norm())


def test_leading_order_takes_one_output() -> None:
    x, y = data(3)
    with pytest.raises(ValueError, match="one output"):
        leading_order(x, y[:, None], depth=2, gamma0=0.1, learning_rate=0.1, steps=3)


def test_memory_of_momentum_is_what_the_optimiser_does() -> None:
    momentum, eta, steps = 0.8, 0.3, 9
    gradients = torch.from_numpy(RNG.standard_normal(steps + 1))
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=eta, momentum=momentum)
    moved = memory_weights(steps, eta, momentum=momentum) @ gradients
    for t in range(steps + 1):
        assert abs(float(moved[t]) - parameter.item()) < 1e-12
        parameter.grad = -gradients[t : t + 1]
        optimiser.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 40])
def test_memory_of_flow_integrates(steps: int) -> None:
    phase = RNG.uniform(0, 1)
    times = torch.arange(steps + 1) * 0.05
    found = memory_weights(steps, 0.05, flow=True) @ torch.cos(times.double() + phase)
    for t, value in zip(times, found, strict=True):
        bound = 2e-4 if t > 0.07 else 2e-3  # the first step has one value to go by
        assert abs(float(value) - quad(lambda s: np.cos(s + phase), 0, float(t))[0]) < bound
    weights = memory_weights(steps, 0.05, flow=True)
    assert not weights.triu().any()
    problem = pose(
        np.eye(2), [1, -1], depth=1, gamma0=1, learning_rate=0.05, steps=steps, flow=True
    )
    assert torch.equal(problem.weights, weights)


def test_what_a_solver_does_not_count_is_zero() -> None:
    assert Cost() == Cost(seconds=0.0, samples=0, peak_bytes=0)
