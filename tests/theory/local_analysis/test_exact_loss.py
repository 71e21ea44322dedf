"""The exact loss, its gradient and its sampled twin against quadrature, samples and differences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import erf

from ntkscale.networks import MLP
from ntkscale.theory.local_analysis import (
    MeanField,
    Population,
    Teacher,
    descend,
    draw_samples,
    draw_teacher,
    tail,
)
from tests.reference import local_analysis as slow

PHI: dict[str, Callable] = {
    "relu": lambda z: np.maximum(z, 0),
    "abs": np.abs,
    "relu2": lambda z: np.maximum(z, 0) ** 2,
    "relu3": lambda z: np.maximum(z, 0) ** 3,
    "gelu": lambda z: z * (1 + erf(z / math.sqrt(2))) / 2,
    "erf": erf,
    "tanh": np.tanh,
    "square": np.square,
}
SYMMETRY = {
    "relu": 1,
    "abs": 1,
    "relu2": 0,
    "relu3": 0,
    "gelu": 1,
    "erf": -1,
    "tanh": -1,
    "square": 1,
}


def fresh() -> tuple[np.random.Generator, int, int, int]:
    """Generator, d, k, m."""
    rng = np.random.default_rng()
    return rng, int(rng.integers(3, 8)), int(rng.integers(1, 4)), int(rng.integers(2, 9))


def problem(name: str) -> tuple[Population, torch.Tensor, torch.Tensor]:
    rng, d, k, m = fresh()
    teacher = draw_teacher(d, k, 20.0, int(rng.integers(1000)))
    teacher = Teacher(teacher.directions, torch.from_numpy(rng.uniform(-2, 2, k)))
    a, W = torch.from_numpy(rng.standard_normal(m)), torch.from_numpy(rng.standard_normal((m, d)))
    return Population(teacher, tail(name)), a, W


@pytest.mark.parametrize("name", PHI)
def test_kappa_is_that_of_quadrature(name: str) -> None:
    phi = tail(name)
    rhos = np.random.default_rng().uniform(-0.99, 0.99, 6)
    value, slope = phi.pair(torch.from_numpy(rhos))
    expected = [slow.kappa(PHI[name], rho) for rho in rhos]
    assert np.allclose(value, expected, rtol=1e-7, atol=1e-9)
    step = 1e-5
    both = [np.array([slow.kappa(PHI[name], r + s) for r in rhos]) for s in (step, -step)]
    assert np.allclose(slope, (both[0] - both[1]) / (2 * step), rtol=1e-4, atol=1e-6)
    assert phi.symmetry == SYMMETRY[name]
    assert phi.power == pytest.approx(slow.kappa(PHI[name], 1.0), rel=1e-7)
    ends = phi.kappa(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert np.allclose(ends, [slow.kappa(PHI[name], one) for one in (-1.0, 1.0)], atol=1e-8)
    small = 1e-2
    second = (slow.kappa(PHI[name], small) + slow.kappa(PHI[name], -small)) / (2 * small**2)
    assert phi.second == pytest.approx(second, rel=1e-2, abs=2e-3)


def test_relu_is_as_printed_and_abs_is_twice_it_but_for_a_line() -> None:
    rho = torch.linspace(-1, 1, 41, dtype=torch.float64)
    relu, absolute = tail("relu"), tail("abs")
    assert np.allclose(relu.kappa(rho), [slow.relu_kappa(float(r)) for r in rho], atol=1e-15)
    assert relu.power == pytest.approx(1 / 4 - 1 / (2 * math.pi), abs=1e-14)
    assert torch.allclose(absolute.kappa(rho), 4 * relu.kappa(rho), atol=1e-14)
    # With and without a graph two formulas are used.
    graph = relu.pair(rho.clone().requires_grad_())
    for one, other in zip(graph, relu.pair(rho), strict=True):
        assert torch.allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("name", ["relu", "relu2", "erf", "gelu"])
def test_loss_and_gradients(name: str) -> None:
    exact, a, W = problem(name)
    own, weights = exact.teacher.directions.numpy(), exact.teacher.weights.numpy()
    quadrature = {}

    def kappa(rho: float) -> float:
        if name == "relu":
            return slow.relu_kappa(rho)
        key = round(rho, 14)
        if key not in quadrature:
            quadrature[key] = slow.kappa(PHI[name], min(rho, 1 - 1e-12))
        return quadrature[key]

    assert float(exact.loss(a, W)) == pytest.approx(
        slow.loss(a.numpy(), W.numpy(), own, weights, kappa), abs=1e-6
    )
    assert torch.autograd.gradcheck(
        exact.loss, (a.clone().requires_grad_(), W.clone().requires_grad_()), atol=1e-6
    )
    by_a, by_w, value = exact.gradients(a, W)
    leaves = a.clone().requires_grad_(), W.clone().requires_grad_()
    loss = exact.loss(*leaves)
    for one, other in zip((by_a, by_w), torch.autograd.grad(loss, leaves), strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)
    loss = loss.detach()
    assert float(value) == pytest.approx(float(loss), abs=1e-12)
    # Students side by side are as they are alone.
    pair = exact.gradients(torch.stack((a, 2 * a)), torch.stack((W, -W)))
    for one, other in zip(pair, exact.gradients(2 * a, -W), strict=True):
        assert torch.allclose(one[1], other, rtol=1e-10, atol=1e-12)
    gram, target = exact.normal_equations(W)
    quadratic = a @ gram @ a - 2 * target @ a + exact.scale
    assert float(quadratic) == pytest.approx(float(loss), abs=1e-10)


def test_gradient_at_coinciding_and_opposite_neurons() -> None:
    exact, a, W = problem("relu")
    W[0], W[1] = 2 * exact.teacher.directions[0], -3 * exact.teacher.directions[0]
    by_a, by_w, _ = exact.gradients(a, W)
    assert bool(by_w.isfinite().all())
    flat = np.concatenate([a.numpy(), W.numpy().ravel()])

    def function(at: np.ndarray) -> float:
        parts = torch.from_numpy(at[: len(a)]), torch.from_numpy(at[len(a) :]).reshape(W.shape)
        return float(exact.loss(*parts))

    expected = slow.numerical_gradient(function, flat)
    found = torch.cat((by_a, by_w.flatten())).numpy()
    assert np.allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("name", ["relu", "erf", "relu2"])
def test_samples_are_within_four_standard_errors(name: str) -> None:
    exact, a, W = problem(name)
    n = 200_000
    sample = draw_samples(exact.teacher, exact.phi, n, int(np.random.default_rng().integers(10**6)))
    norms = W.norm(dim=1)
    f = exact.phi.function(sample.inputs @ (W / norms[:, None]).T) @ (a * norms)
    left = f - sample.targets
    left = left - sample.basis @ (sample.basis.T @ left)
    error = float(left.square().std()) / math.sqrt(n)
    assert abs(float(left.square().mean() - exact.loss(a, W))) < 4 * error
    assert float(sample.loss(a, W)) == pytest.approx(float(left.square().mean()))


@pytest.mark.parametrize("name", ["relu", "gelu", "abs", "square"])
def test_sampled_loss_and_gradient(name: str) -> None:
    exact, a, W = problem(name)
    count = 60
    sample = draw_samples(exact.teacher, exact.phi, count, 3)
    x = sample.inputs.numpy()
    y = PHI[name](x @ exact.teacher.directions.numpy().T) @ exact.teacher.weights.numpy()
    expected = slow.sampled_loss(a.numpy(), W.numpy(), x, y, PHI[name])
    assert float(sample.loss(a, W)) == pytest.approx(expected, rel=1e-9)
    by_a, by_w, value = sample.gradients(a, W)
    assert float(value) == pytest.approx(expected, rel=1e-9)
    leaves = a.clone().requires_grad_(), W.clone().requires_grad_()
    slopes = torch.autograd.grad(sample.loss(*leaves), leaves)
    for one, other in zip((by_a, by_w), slopes, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)
    gram, target = sample.normal_equations(W)
    quadratic = a @ gram @ a - 2 * target @ a + sample.targets.square().mean()
    assert float(quadratic) == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="give more than"):
        draw_samples(exact.teacher, exact.phi, x.shape[1] + 1, 0)


def test_mean_field_students_move_as_the_networks_of_the_house_do() -> None:
    """One step of a networks.MLP on samples, its constant and linear part fitted."""
    rng, d, _, _ = fresh()
    gamma0, width, step = float(rng.uniform(0.1, 2)), 6, 0.3
    exact = Population(draw_teacher(d, 2, 20.0, 1), tail("relu"))
    sample = draw_samples(exact.teacher, exact.phi, 50, 4)
    field = MeanField(gamma0, width, d)
    A, V = field.start(int(rng.integers(100)))
    network = MLP(d, 1, width=width, gamma0=gamma0, centered=False, dtype=torch.float64)
    with torch.no_grad():
        network.get_parameter("hidden1").copy_(V * d**0.5)
        network.get_parameter("readout").copy_((A * gamma0 * width)[None])
    left = network(sample.inputs)[:, 0] - sample.targets
    left = left - sample.basis @ (sample.basis.T @ left)
    (left.square().mean() / 2).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter -= step * gamma0**2 * width * parameter.grad
    moved = descend(sample, A, V, 0.0, 1, tuple(map(torch.tensor, field.rates(step))))  # type: ignore
    assert torch.allclose(moved[1] * d**0.5, network.get_parameter("hidden1"), rtol=1e-9)
    with pytest.raises(ValueError, match="even"):
        MeanField(gamma0, 5, d).start(0)
    readout = network.get_parameter("readout").flatten()
    assert torch.allclose(moved[0] * gamma0 * width, readout, rtol=1e-6, atol=1e-9)


def test_names_that_are_none() -> None:
    with pytest.raises(ValueError, match="linear has nothing"):
        tail("linear")
    with pytest.raises(ValueError, match="unknown activation"):
        tail("sine")
