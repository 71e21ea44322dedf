"""Two-layer networks: closed form, lazy limit, networks of finite width."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ntkscale.theory import infinite_width
from ntkscale.theory.dmft.deep import solve
from ntkscale.theory.dmft.two_layer import solve_two_layer
from tests.reference.mean_field_network import train_network


def draw(num_train: int, num_test: int, dim: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_train + num_test, dim, generator=generator, dtype=torch.float64)
    y = torch.randn(num_train, generator=generator, dtype=torch.float64).sign()
    return x[:num_train], x[num_train:], y


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def mean(kernels: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(kernels).mean(0)


def closed_form(y: torch.Tensor, gamma0: float, times: torch.Tensor) -> torch.Tensor:
    """mse of a two-layer linear network on white data; ours averages over samples."""
    size, num = float(y.norm()), len(y)

    def slope(_: float, delta: np.ndarray) -> np.ndarray:
        return -2 * np.sqrt(1 + gamma0**2 * (size - delta) ** 2) * delta / num

    flow = solve_ivp(
        slope, (0, float(times[-1])), [size], t_eval=times.numpy(), rtol=1e-10, atol=1e-12
    )
    return torch.from_numpy(flow.y[0]) ** 2 / num


def test_white_data_within_the_stated_error_that_falls_as_samples() -> None:
    y = torch.randn(4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    chosen, scores, errors = [5, 15, 40], [], {}
    for samples in (1024, 16384):
        for seed in range(6):
            solution = solve_two_layer(
                None,
                y,
                kernel=torch.eye(4),
                activation="linear",
                gamma0=1.0,
                learning_rate=0.05,
                steps=40,
                flow=True,
                samples=samples,
                seed=seed,
            )
            wrong = (solution.mse - closed_form(y, 1.0, solution.times))[chosen]
            scores.append(wrong / solution.standard_error["mse"][chosen])
            errors.setdefault(samples, []).append(wrong)
    # Scores are distributed as Student's t of 7 degrees of freedom, of variance 1.4; times are not
    # independent, the 12 solutions are.
    assert 0.2 < torch.stack(scores).square().mean() < 4
    rms = {samples: float(torch.stack(e).square().mean().sqrt()) for samples, e in errors.items()}
    assert 1.6 < rms[1024] / rms[16384] < 10


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_lazy_limit_is_the_flow_of_the_kernel_at_initialisation(activation: str) -> None:
    x, x_test, y = draw(4, 2, 5, seed=3)
    solution = solve_two_layer(
        x,
        y,
        x_test=x_test,
        activation=activation,
        gamma0=0.0,
        learning_rate=0.5,
        steps=20,
        samples=60_000,
    )
    every = torch.cat((x, x_test))
    ntk = infinite_width.kernels(every, depth=1, activation=activation).ntk
    f = torch.zeros(6, dtype=torch.float64)
    for outputs in solution.outputs:
        assert torch.allclose(outputs, f, atol=0.03)
        f = f + 0.5 / 4 * ntk[:, :4] @ (y - f[:4])


@pytest.mark.parametrize(
    ("activation", "momentum", "cross_entropy"), [("tanh", 0.5, True), ("relu", 0.0, False)]
)
def test_networks_of_finite_width(activation: str, momentum: float, cross_entropy: bool) -> None:
    x, x_test, _ = draw(4, 2, 6, seed=8)
    y = torch.nn.functional.one_hot(torch.arange(4) % 2).double()
    settings = {"gamma0": 1.0, "learning_rate": 0.5, "steps": 12, "momentum": momentum}
    solution = solve_two_layer(
        x,
        y,
        x_test=x_test,
        activation=activation,
        loss="cross-entropy" if cross_entropy else "mse",
        samples=40_000,
        fields=100,
        **settings,
    )
    phi = torch.tanh if activation == "tanh" else torch.relu
    networks = [
        train_network(
            torch.cat((x, x_test)),
            y,
            phi,
            depth=1,
            width=2000,
            cross_entropy=cross_entropy,
            seed=seed,
            **settings,
        )
        for seed in range(6)
    ]
    outputs = torch.stack([network.outputs for network in networks])
    assert relative(solution.outputs, outputs.mean(0)) < 0.03
    assert relative(solution.phi[0].reshape(78, 78), mean([n.phi[0] for n in networks])) < 0.03
    assert relative(solution.g[0].reshape(156, 156), mean([n.g[0] for n in networks])) < 0.03
    assert solution.fields is not None
    assert solution.fields.z[0].shape == (13, 6, 2, 100)
    assert solution.ntk.shape == (13, 4, 4, 2, 2)


def test_the_general_solver_at_depth_one_agrees() -> None:
    x, _, y = draw(5, 0, 4, seed=2)
    settings = {"activation": "gelu", "gamma0": 2.0, "learning_rate": 0.2, "steps": 20}
    particles = solve_two_layer(x, y, samples=30_000, **settings)
    for responses in (True, False):
        march = solve(x, y, depth=1, samples=16_000, responses=responses, **settings)
        error = 4 * torch.hypot(march.standard_error["mse"], particles.standard_error["mse"])
        assert bool(((march.mse - particles.mse).abs() <= error).all())
        assert relative(march.ntk, particles.ntk) < 0.02
        assert relative(march.g[0], particles.g[0]) < 0.03


def test_steps_too_large_end_with_what_was_reached() -> None:
    x, _, y = draw(4, 0, 6, seed=1)
    solution = solve_two_layer(
        x, y, activation="relu", gamma0=1.0, learning_rate=80.0, steps=50, samples=2000
    )
    assert not solution.converged
    assert "smaller learning_rate" in solution.message
    assert 1 <= len(solution.times) == len(solution.phi[0]) < 51


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 100}, "too few for these inputs"),
        ({"fields": 99999}, "fields must be between 0 and samples"),
        ({"x": None, "kernel": -np.eye(4)}, "positive semi-definite"),
        ({"activation": "sine"}, "unknown activation"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change: dict, words: str) -> None:
    x, _, y = draw(4, 0, 6, seed=1)
    arguments = {"x": x, "y": y, "activation": "relu", **change}
    with pytest.raises(ValueError, match=words):
        solve_two_layer(gamma0=1.0, learning_rate=0.1, steps=3, **arguments)
