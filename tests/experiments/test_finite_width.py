"""Networks beside theory: training against autograd, errors and slopes on what is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from ntkscale import ntk
from ntkscale.experiments.dmft.finite_width import (
    at_times,
    compare,
    errors,
    final,
    same_times,
    slopes,
    standard_error_of_mean,
)
from ntkscale.experiments.dmft.wide_networks import Descent, average, train_networks
from ntkscale.networks import MLP
from ntkscale.theory.activations import activation
from ntkscale.theory.dmft import solve, solve_linear, static_ntk
from ntkscale.theory.dmft.problem import Loss


def draw(num: int, dim: int, outputs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    return x, torch.randn(num, outputs, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("depth", "name", "outputs", "momentum", "loss", "normalised"),
    [
        (1, "relu", 1, 0.0, "mse", False),
        (3, "tanh", 1, 0.6, "mse", True),
        (2, "gelu", 3, 0.0, "cross-entropy", False),
    ],
)
def test_networks_are_those_of_the_library(
    depth: int, name: str, outputs: int, momentum: float, loss: Loss, normalised: bool
) -> None:
    """Against the module itself, torch's optimiser and the kernel engine."""
    x, y = draw(6, 4, outputs, seed=depth)
    y = torch.softmax(y, 1) if loss == "cross-entropy" else y
    targets = y[:, 0] if outputs == 1 else y
    descent = Descent(
        x[:4], targets[:4], depth, name, 0.7, 0.3, momentum, loss, x[4:], targets[4:], normalised
    )  # fmt: skip
    looks, width = [0, 2, 5], 12
    found = list(train_networks(descent, width=width, seeds=(5, 8), looks=looks, fields=2))
    net = MLP(
        4, outputs, width=width, depth=depth, activation=name, gamma0=0.7, normalised=normalised,
        seed=8, dtype=torch.float64,
    )  # fmt: skip
    gamma2 = float(net.gamma) ** 2
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3 * gamma2, momentum=momentum)
    seen = 0
    for step in range(6):
        f = net(x)
        if step in looks:
            own = found[1]
            assert torch.allclose(own.outputs[seen].reshape(6, outputs), f, atol=1e-9)
            kernel = gamma2 * ntk.gram(net, x[:4], output="full")
            assert torch.allclose(own.ntk[seen].reshape(kernel.shape), kernel, rtol=1e-8)
            hidden = net.preactivations(x)[f"hidden{depth}"]
            phi = net.activation(hidden) * (net.activation.scale if normalised else 1.0)
            assert torch.allclose(own.phi[-1][seen, :, seen], phi @ phi.T / width)
            assert own.fields is not None
            assert torch.allclose(own.fields.h[-1][seen], hidden)
            # g = c phi'(h) z in every layer.
            nonlinearity = activation(name)
            nonlinearity = nonlinearity.normalised() if normalised else nonlinearity
            for h, z, g in zip(own.fields.h, own.fields.z, own.g, strict=True):
                signal = nonlinearity.first(h[seen])[:, None] * z[seen].reshape(6, outputs, width)
                gram = torch.einsum("ncN,mdN->ncmd", signal, signal) / width
                now = g.reshape(3, 6, outputs, 3, 6, outputs)[seen, :, :, seen]
                assert torch.allclose(now, gram)
            seen += 1
        if loss == "mse":
            objective = (y[:4] - f[:4]).square().sum(1).mean() / 2
        else:
            objective = -(y[:4] * f[:4].log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        objective.backward()
        optimiser.step()


def test_wide_linear_networks_are_near_theory_and_nearer_the_wider() -> None:
    x, y = draw(4, 6, 1, seed=2)
    descent = Descent(x, y[:, 0], 2, "linear", 1.0, 0.2)
    theory = solve_linear(x, y[:, 0], depth=2, gamma0=1.0, learning_rate=0.2, steps=12)
    found = compare(at_times(theory, 5), descent, widths=(32, 128, 512), seeds=range(8))
    mean = found.errors.filter(pl.col("seed").is_null() & (pl.col("width") == 512))
    assert float(mean["error"].max()) < 0.06  # pyright: ignore[reportArgumentType]
    assert float(mean["alignment"].min()) > 0.997  # pyright: ignore[reportArgumentType]
    assert set(found.means) == {32, 128, 512}
    for slope in found.slopes():
        # Three widths, eight seeds: intervals are about .25 wide to either side.
        assert slope.interval[0] - 0.1 < 0.5 < slope.interval[1] + 0.1
    with pytest.raises(ValueError, match="no multiples of learning_rate"):
        compare(theory, replace(descent, learning_rate=0.3), widths=(8,), seeds=(0,))
    with pytest.raises(ValueError, match="layers"):
        compare(theory, replace(descent, depth=3), widths=(8,), seeds=(0,))
    with pytest.raises(ValueError, match=r"gamma0 = 1, networks 0\.5"):
        compare(theory, replace(descent, gamma0=0.5), widths=(8,), seeds=(0,))
    for empty in ({"widths": (), "seeds": (0,)}, {"widths": (8,), "seeds": ()}):
        with pytest.raises(ValueError, match="at least one of each"):
            compare(theory, descent, **empty)
    lazy = replace(theory, gamma0=0.0)
    assert compare(lazy, descent, widths=(8,), seeds=(0,)).errors.height
    with pytest.raises(ValueError, match="limit of no network"):
        compare(lazy, replace(descent, gamma0=0.0), widths=(8,), seeds=(0,))


def test_momentum_is_that_of_theory() -> None:
    x, y = draw(3, 5, 1, seed=5)
    settings: dict[str, Any] = {"gamma0": 1.0, "learning_rate": 0.1, "momentum": 0.5}
    theory = solve(x, y[:, 0], depth=2, activation="tanh", steps=10, samples=4096, **settings)
    descent = Descent(x, y[:, 0], 2, "tanh", **settings)
    found = compare(at_times(theory, 3), descent, widths=(512,), seeds=range(6))
    mean = found.errors.filter(pl.col("seed").is_null())
    assert float(mean["error"].max()) < 0.08  # pyright: ignore[reportArgumentType]


def test_a_solution_at_some_of_its_times() -> None:
    x, y = draw(3, 5, 2, seed=4)
    theory = static_ntk(x, y, depth=2, activation="relu", learning_rate=0.3, steps=8)
    few = at_times(theory, 3)
    kept = [0, 4, 8]
    assert few.times.tolist() == theory.times[kept].tolist()
    assert torch.equal(few.phi[1], theory.phi[1][kept][:, :, kept])
    assert torch.equal(few.g[0], theory.g[0][kept][:, :, :, kept])
    assert torch.equal(final(few.g[0]), theory.g[0][-1, :, :, -1])
    assert len(at_times(theory, 100).times) == 9
    early = at_times(theory, 3, until=float(theory.times[4]))
    assert early.times.tolist() == theory.times[[0, 2, 4]].tolist()
    assert same_times(few, few) and not same_times(few, early)
    for row in errors(few, few):
        assert row["error"] == 0
        assert row["alignment"] == pytest.approx(1)


def test_the_mean_of_networks() -> None:
    x, y = draw(3, 4, 1, seed=7)
    descent = Descent(x, y[:, 0], 1, "erf", 1.0, 0.5)
    found = list(train_networks(descent, width=6, seeds=(1, 2, 3), looks=(1, 3), fields=2))
    assert [one.fields is not None for one in found] == [True, True, False]
    mean = average(found)
    assert torch.allclose(mean.phi[0], sum(one.phi[0] for one in found) / 3)  # pyright: ignore
    assert torch.allclose(mean.ntk, sum(one.ntk for one in found) / 3)  # pyright: ignore


def test_slopes_of_errors_that_follow_a_law() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {
            "width": width,
            "seed": seed,
            "kernel": kernel,
            "part": "all",
            "error": width**-power * np.exp(0.1 * rng.normal()),
        }
        for kernel, power in (("phi1", 0.5), ("g1", 1.0))
        for width in (16, 64, 256, 1024, 4096)
        for seed in range(6)
    ]
    for slope, power in zip(slopes(pl.DataFrame(rows)), (0.5, 1.0), strict=True):
        assert slope.interval[0] <= power <= slope.interval[1]
        assert slope.exponent == pytest.approx(power, abs=0.05)
        assert slope.r_squared > 0.98
        assert slope.widths == (16, 4096)
    alone = slopes(pl.DataFrame([row for row in rows if row["seed"] == 2]))
    assert alone[0].exponent == pytest.approx(0.5, abs=0.1)
    short = [row for row in rows if row["seed"] == 2 and row["width"] < 300]
    assert slopes(pl.DataFrame(short))[0].reason
    assert all(slope.reason == "" for slope in slopes(pl.DataFrame(rows)))


def test_what_is_no_law() -> None:
    rng = np.random.default_rng()
    table = [
        {"width": w, "seed": s, "kernel": "phi1", "part": "all", "error": w**-0.5}
        for w in (16, 64, 256, 1024)
        for s in range(4)
    ]
    two = pl.DataFrame([row for row in table if row["width"] < 100])
    assert slopes(two)[0].reason == "fewer than 3 widths"
    # A plateau, with a ripple: a line explains little of it.
    ripple = {16: 1.0, 64: 1.1, 256: 1.0, 1024: 1.1}
    flat = [row | {"error": ripple[row["width"]]} for row in table]
    assert slopes(pl.DataFrame(flat))[0].reason.startswith("r^2")
    # Means that fall, seeds that do not agree on it.
    power = dict(enumerate(rng.permutation([2.0, -0.5, 0.1, -0.2])))
    wild = [row | {"error": row["width"] ** -power[row["seed"]]} for row in table]
    assert slopes(pl.DataFrame(wild))[0].reason


def test_the_error_of_a_mean_is_read_off_distances_to_anything() -> None:
    rng = np.random.default_rng()
    count = int(rng.integers(2, 9))
    networks = rng.normal(size=(count, 30)) + rng.normal(size=30)
    theory = networks.mean(0) + rng.uniform(0, 100) * rng.normal(size=30)
    size = np.linalg.norm(theory)
    single = np.linalg.norm(networks - theory, axis=1) / size
    mean = np.linalg.norm(networks.mean(0) - theory) / size
    direct = np.sqrt(networks.var(0, ddof=1).sum() / count) / size
    found = standard_error_of_mean(single.tolist(), float(mean))
    assert found == pytest.approx(direct, rel=1e-4)
    assert np.isnan(standard_error_of_mean([0.3], 0.3))
