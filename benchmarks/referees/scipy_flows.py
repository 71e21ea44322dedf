"""scipy on flows: what is solved in closed form or by a scheme of one's own, by `solve_ivp`."""

from typing import Any

import numpy as np
import scipy
import torch
from numpy.random import Generator
from scipy.integrate import solve_ivp
from scipy.special import zeta

from benchmarks.referees.ruling import Ruling, deviation
from ntkscale.theory import dmft, partially_trained
from ntkscale.theory.infinite_width import lazy_flow as lazy_ensemble
from ntkscale.theory.scaling_model import lazy_sgd, power_law, solve
from ntkscale.training import lazy_flow

ERRORS: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-13}


def rule(seed: int, cases: int) -> list[Ruling]:
    """Every flow on its own random cases."""
    referee = f"scipy {scipy.__version__}"
    generator = np.random.default_rng(seed)
    rows = (
        ("lazy flow: residuals, several outputs", _lazy, 1e-9),
        ("lazy descent: residuals, step by step", _descent, 1e-10),
        ("lazy ensemble: mean and variance", _ensemble, 1e-9),
        ("solvable model: mse, lazy and rich", _solvable, 1e-5),
        ("solvable model: lazy one-pass descent, moments", _moments, 1e-10),
        ("one trained layer: loss (RK4)", _partially_trained, 1e-8),
        ("mean field: two-layer linear flow, mse", _mean_field, 1e-5),
    )
    return [
        Ruling(title, referee, cases, max(one(generator) for _ in range(cases)), bound)
        for title, one, bound in rows
    ]


def _kernel(generator: Generator, size: int) -> np.ndarray:
    j = generator.standard_normal((size, 2 * size)) / np.sqrt(2 * size)
    return j @ j.T


def _lazy(generator: Generator) -> float:
    points, outputs = int(generator.integers(3, 9)), int(generator.integers(1, 4))
    flat = _kernel(generator, points * outputs)
    y = generator.standard_normal((points, outputs))
    times = np.sort(generator.uniform(0, 20 * points, 5))
    full = torch.from_numpy(flat).view(points, outputs, points, outputs).permute(0, 2, 1, 3)
    found = lazy_flow(full, torch.from_numpy(y), times.tolist(), residuals=True).residuals
    theirs = solve_ivp(
        lambda t, r: -flat @ r / points, (0, times[-1]), y.ravel(), "DOP853", times, **ERRORS
    ).y.T
    assert found is not None
    return deviation(found, theirs.reshape(-1, points, outputs))


def _descent(generator: Generator) -> float:
    points = int(generator.integers(3, 9))
    kernel, y = _kernel(generator, points), generator.standard_normal((points, 1))
    rate, steps = generator.uniform(0.1, 0.5), int(generator.integers(10, 200))
    found = lazy_flow(
        torch.from_numpy(kernel),
        torch.from_numpy(y),
        [rate * steps],
        learning_rate=rate,
        residuals=True,
    ).residuals
    assert found is not None
    for _ in range(steps):
        y = y - rate * kernel @ y / points
    return deviation(found[0], y)


def _ensemble(generator: Generator) -> float:
    """f(t) = G f(0) + (1 - G) y on all points at once; f(0) is Gaussian, y counts where trained."""
    points, more = int(generator.integers(3, 9)), 4
    size, own = points + more, slice(points)
    kernel, start = _kernel(generator, size), _kernel(generator, size)
    y, times = generator.standard_normal(points), np.sort(generator.uniform(0, 20 * points, 5))
    found = lazy_ensemble(
        kernel[own, own],
        y,
        times,
        cross=kernel[points:, own],
        nngp=(start[own, own], start[points:, own], start.diagonal()[points:]),
    )
    flows = solve_ivp(
        lambda t, g: (-kernel[:, own] @ g.reshape(size, size)[own] / points).ravel(),
        (0, times[-1]),
        np.eye(size).ravel(),
        "DOP853",
        times,
        **ERRORS,
    ).y.T.reshape(-1, size, size)
    mean = -flows[:, points:, own] @ y
    variance = np.einsum("tij,jk,tik->ti", flows, start, flows)[:, points:]
    return max(deviation(found.mean, mean), deviation(found.variance, variance))


def _solvable(generator: Generator) -> float:
    """The equations in c = w* - v, not in the variables that `flow` integrates."""
    alpha, beta = generator.uniform(1.3, 2.5), generator.uniform(0.3, 1.8)
    gamma = float(generator.choice([0.0, 0.3, 1.0, 5.0]))
    modes, times = 800, np.geomspace(0.5, 30, 6)
    found = solve(alpha, beta, gamma, times, num_modes=modes)
    k = np.arange(1, modes + 1)
    values = k**-alpha
    target = np.sqrt(k ** -(alpha * beta + 1) / values)

    def slope(_: float, c: np.ndarray) -> np.ndarray:
        g = values * (target - c)
        squared = float(c @ c)
        # z (1 + gamma z) = |c|^2
        z = 2 * squared / (1 + np.sqrt(1 + 4 * gamma * squared))
        return (1 + gamma * z) * g + gamma / (1 + gamma * z) * float(c @ g) * c

    path = solve_ivp(slope, (0, times[-1]), np.zeros(modes), "DOP853", times, **ERRORS).y
    theirs = values @ np.square(target[:, None] - path) + zeta(alpha * beta + 1, modes + 1)
    return float(np.abs(found / theirs - 1).max())


def _moments(generator: Generator) -> float:
    spectrum = power_law(generator.uniform(1.3, 2.5), generator.uniform(0.3, 1.8), num_modes=60)
    rate, batch = generator.uniform(0.05, 0.3), int(generator.integers(2, 20))
    noise, steps = generator.uniform(0, 0.3), [1, 10, 100, 500]
    found = lazy_sgd(spectrum, steps, learning_rate=rate, batch_size=batch, noise=noise)
    values, second = spectrum.eigenvalues, np.square(spectrum.target[:, 0])
    extra, theirs = noise**2 + spectrum.tail_power, []
    for step in range(steps[-1] + 1):
        loss = float(values @ second)
        if step in steps:
            theirs.append(loss + spectrum.tail_power)
        decay = 1 - 2 * rate * values + (rate * values) ** 2 * (1 + 1 / batch)
        second = decay * second + rate**2 / batch * values * (loss + extra)
    return deviation(found, theirs)


def _partially_trained(generator: Generator) -> float:
    points, neurons, gamma0 = 6, 20, generator.uniform(0.3, 1.5)
    gram = _kernel(generator, points)
    hidden = np.linalg.cholesky(gram) @ generator.standard_normal((points, neurons))
    readout, y = generator.standard_normal(neurons), generator.standard_normal(points)
    problem = partially_trained.Problem(
        torch.from_numpy(gram),
        torch.from_numpy(hidden),
        torch.from_numpy(readout),
        torch.from_numpy(y),
        "tanh",
        gamma0,
    )
    found = partially_trained.flow(problem, 20.0, step=0.05, method="rk4").loss[[100, 400]]

    def error(h: np.ndarray) -> np.ndarray:
        return np.tanh(h) @ readout / (gamma0 * neurons) - y

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        h = flat.reshape(points, neurons)
        pull = error(h)[:, None] * (1 - np.tanh(h) ** 2) * readout
        return (-gamma0 / points * gram @ pull).ravel()

    path = solve_ivp(slope, (0, 20), hidden.ravel(), "DOP853", [5.0, 20.0], **ERRORS).y.T
    theirs = [float(np.square(error(h.reshape(points, neurons))).mean()) / 2 for h in path]
    return deviation(found, theirs)


def _mean_field(generator: Generator) -> float:
    """One point with K^x = 1: d Delta / dt = -2 sqrt(1 + gamma0^2 (y - Delta)^2) Delta."""
    gamma0, y = generator.uniform(0.2, 1.0), generator.uniform(0.5, 1.5)
    steps, rate = 300, 0.005  # third order: eight times as far off at twice the step
    found = dmft.solve_linear(
        None,
        torch.tensor([y], dtype=torch.float64),
        kernel=torch.ones(1, 1),
        depth=1,
        gamma0=gamma0,
        learning_rate=rate,
        steps=steps,
        flow=True,
    )
    theirs = solve_ivp(
        lambda t, d: -2 * np.sqrt(1 + gamma0**2 * (y - d) ** 2) * d,
        (0, steps * rate),
        [y],
        "DOP853",
        found.times.numpy().clip(0, steps * rate),
        **ERRORS,
    ).y[0]
    return deviation(found.mse, theirs**2)
