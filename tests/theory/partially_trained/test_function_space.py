"""The flow in function space against weights, autograd and entry by entry sums."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale.theory import partially_trained as pt
from ntkscale.theory.activations import activation
from tests.reference.partially_trained import (
    descend,
    function_space_step,
    mean_slope_product,
    outputs,
    tangent_kernel,
)


def drawn(
    name: str = "tanh", n: int = 6, m: int = 10, features: int = 9, q: int = 3, **more
) -> tuple[pt.Problem, Tensor, Tensor]:
    """A problem with its weights (m, features) and features of all points (n + q, features)."""
    u = torch.randn(n + q, features, dtype=torch.float64)
    w = torch.randn(m, features, dtype=torch.float64)
    h = u @ w.T / features**0.5
    problem = pt.Problem(
        gram=u[:n] @ u[:n].T / features,
        hidden=h[:n],
        readout=torch.randn(m, dtype=torch.float64),
        targets=0.5 * torch.randn(n, dtype=torch.float64),
        activation=name,
        cross=u[n:] @ u[:n].T / features,
        cross_hidden=h[n:],
        **more,
    )
    return problem, w, u


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "relu2"])
def test_euler_is_descent_on_the_weights(name: str, twin: bool) -> None:
    m = 10
    problem, w, u = drawn(name, m=m, gamma0=m**-0.5 if twin else 1.0)
    sigma, c, y = activation(name), problem.readout, problem.targets
    power = 0.5 if twin else 1.0
    last = descend(w, u[:6], c, y, sigma.function, power, 0.5, 0.2 * (1 if twin else m), 8)
    found = pt.flow(problem, 1.6, step=0.2, at=(0.6,))
    torch.testing.assert_close(found.hidden, u[:6] @ last.T / 3, rtol=1e-9, atol=1e-11)
    expected = outputs(last, u, c, sigma.function, power, 0.5)
    end = found.snapshots[-1]
    assert end.test_outputs is not None
    both = torch.cat((end.outputs, end.test_outputs))
    torch.testing.assert_close(both, expected, rtol=1e-9, atol=1e-11)
    hidden = problem.hidden
    for _ in range(8):
        hidden = function_space_step(
            hidden, problem.gram, y, c, sigma.function, sigma.first, 0.2, twin
        )
    torch.testing.assert_close(found.hidden, hidden, rtol=1e-9, atol=1e-11)
    assert [s.step for s in found.snapshots] == [0, 3, 8]


@pytest.mark.parametrize("name", ["relu", "tanh", "erf", "gelu"])
def test_measures_and_rates_at_every_step(name: str) -> None:
    problem, _, _ = drawn(name, gamma0=0.7)
    sigma, c, y = activation(name), problem.readout, problem.targets
    found = pt.flow(problem, 3.0, step=0.5, at=np.arange(0, 3, 0.5).tolist())
    hidden, first = problem.hidden, None
    lowest = float(torch.linalg.eigvalsh(problem.gram)[0])
    threshold = float(sigma.first(problem.hidden).abs().max()) / 2
    for step, shot in enumerate(found.snapshots):
        kernel = tangent_kernel(hidden, problem.gram, c, sigma.first)
        f = (sigma(hidden) @ c) / (0.7 * 10)
        e, loss = f - y, float((f - y).square().sum() / 12)
        assert found.loss[step] == pytest.approx(loss)
        assert found.rate[step] == pytest.approx(float(e @ kernel @ e) / 36 / loss)
        least = min(float(kernel[a, a] / problem.gram[a, a]) for a in range(6))
        assert found.proven[step] == pytest.approx(2 / 6 * lowest * least)
        active = (sigma.first(hidden).abs() >= threshold).double().mean(1).min()
        assert found.active[step] == pytest.approx(float(active))
        assert pt.instantaneous_rate(problem, hidden) == pytest.approx(found.rate[step])
        assert pt.proven_rate(problem, hidden) == pytest.approx(found.proven[step])
        own = float(torch.linalg.eigvalsh(kernel)[0]) - lowest * least
        assert shot.schur_slack == pytest.approx(own, abs=1e-12) and own > -1e-12
        phi = sigma(hidden) @ sigma(hidden).T
        first = first or (kernel, phi)
        for distance, now, then in (
            (shot.tangent_distance, kernel, first[0]),
            (shot.feature_distance, phi, first[1]),
        ):
            cosine = float((now * then).sum() / now.norm() / then.norm())
            assert distance == pytest.approx(1 - cosine, abs=1e-13)
        moved = hidden - problem.hidden
        assert shot.movement == pytest.approx(float(moved.norm() / problem.hidden.norm()))
        assert shot.rms_movement == pytest.approx(float(moved.square().mean()) ** 0.5)
        v = e[:, None] * sigma.first(hidden) * c
        hidden = hidden - 0.5 * 0.7 / 6 * problem.gram @ v
    assert (found.rate >= found.proven).all()


def test_rk4_is_of_fourth_order_and_euler_of_first() -> None:
    problem, _, _ = drawn("tanh")
    exact = pt.flow(problem, 2.0, step=1 / 256, method="rk4").hidden
    for method, order in (("euler", 1), ("rk4", 4)):
        errors = [
            float((pt.flow(problem, 2.0, step=s, method=method).hidden - exact).norm())  # type: ignore[arg-type]
            for s in (0.25, 0.125)
        ]
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)


def test_the_rate_is_the_derivative_of_the_log_loss_and_bounds_it() -> None:
    problem, _, _ = drawn("gelu")
    found = pt.flow(problem, 1.0, step=1 / 64, method="rk4")
    slope = -(np.log(found.loss[2:]) - np.log(found.loss[:-2])) * 32
    np.testing.assert_allclose(slope, found.rate[1:-1], rtol=1e-3)
    assert (found.loss <= found.proven_loss * (1 + 1e-12)).all()


def test_a_centred_problem_starts_at_zero() -> None:
    centred, _, _ = drawn("relu", centered=True)
    assert float(centred.start.abs().max()) == 0
    plain = pt.Problem(**{**vars_of(centred), "centered": False})
    # Centring is a shift of the targets by the output at the start.
    shifted = pt.Problem(**{**vars_of(plain), "targets": plain.targets + plain.start})
    ends = [pt.flow(p, 20.0).snapshots[-1] for p in (centred, shifted)]
    torch.testing.assert_close(ends[0].outputs, ends[1].outputs - plain.start)
    assert ends[0].test_outputs is not None and ends[1].test_outputs is not None
    first = plain.outputs(plain.cross_hidden)  # type: ignore[arg-type]
    torch.testing.assert_close(ends[0].test_outputs, ends[1].test_outputs - first)


def vars_of(problem: pt.Problem) -> dict:
    return {name: getattr(problem, name) for name in pt.Problem.__dataclass_fields__}


def test_a_lazy_network_follows_its_limit() -> None:
    lazy, _, _ = drawn("tanh", m=400, gamma0=1e-4, centered=True)
    found = pt.flow(lazy, 40.0, step=0.05, method="rk4", at=(5.0, 20.0))
    own, test = pt.limit_flow(lazy, [s.time for s in found.snapshots])
    assert test is not None
    for row, (shot, f, g) in enumerate(zip(found.snapshots, own, test, strict=True)):
        torch.testing.assert_close(shot.outputs, f, rtol=2e-3, atol=1e-4, msg=str(row))
        torch.testing.assert_close(shot.test_outputs, g, rtol=2e-3, atol=1e-4)
    moved = pt.limit_movement(lazy, 40.0)
    gap = found.hidden - lazy.hidden - moved
    assert float(gap.norm()) < 5e-3 * float(moved.norm())
    with pytest.raises(ValueError, match="finite"):
        pt.limit_movement(lazy, float("inf"))
    end, _ = pt.limit_flow(lazy, [float("inf")])
    torch.testing.assert_close(end[0], lazy.targets, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_the_limit_is_the_linearised_network(name: str, centered: bool) -> None:
    """Weights that follow the gradient of the network linearised in them, to rounding."""
    problem, w, u = drawn(name, gamma0=0.7, centered=centered)
    sigma, time = activation(name), 7.3

    def f(weights: Tensor) -> Tensor:
        return sigma(u @ weights.T / 3) @ problem.readout / (0.7 * 10)

    slopes = torch.autograd.functional.jacobian(f, w).reshape(9, -1)
    first = torch.zeros(9).double() if centered else f(w)
    kernel = 0.49 * 10 * slopes[:6] @ slopes[:6].T
    left = torch.eye(6).double() - torch.matrix_exp(-kernel * time / 6)
    spent = torch.linalg.solve(kernel, left @ (problem.targets - first[:6]))
    moved = 0.49 * 10 * spent @ slopes[:6]
    own, test = pt.limit_flow(problem, [time])
    assert test is not None
    expected = first + slopes @ moved
    torch.testing.assert_close(torch.cat((own[0], test[0])), expected, rtol=1e-8, atol=1e-10)
    h = u[:6] @ moved.reshape(w.shape).T / 3
    torch.testing.assert_close(pt.limit_movement(problem, time), h, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_many_features_and_neurons_have_the_infinite_kernels(name: str) -> None:
    sigma = activation(name)
    x = torch.randn(4, 3, dtype=torch.float64)
    gram = pt.infinite_gram(x, depth=2, activation=name, bias=0.5)
    z = torch.randn(200_000, 3, dtype=torch.float64)
    b = 0.5 * torch.randn(200_000, dtype=torch.float64)
    u = sigma(x @ z.T / 3**0.5 + b)
    torch.testing.assert_close(gram, u @ u.T / len(z), rtol=0.03, atol=0.01)
    kernel = pt.infinite_kernel(gram, activation=name)
    for a, b_ in ((0, 1), (2, 3)):
        part = gram[[a, b_]][:, [a, b_]]
        expected = mean_slope_product(sigma.first, part) * float(gram[a, b_])
        # A step function costs a midpoint rule one of its cells.
        assert float(kernel[a, b_]) == pytest.approx(expected, rel=2e-2 if name == "relu" else 1e-6)
    cross = pt.infinite_kernel(gram[:1], gram.diagonal()[:1], gram.diagonal(), activation=name)
    torch.testing.assert_close(cross, kernel[:1])
    deep = pt.infinite_gram(x, depth=3, activation=name, bias=0.5, normalised=True)
    root = torch.linalg.cholesky(x @ x.T / 3 + 0.25)
    for _ in range(2):  # layer by layer, h ~ N(0, G + bias^2)
        h = torch.randn(100_000, len(root), dtype=torch.float64) @ root.T
        phi = sigma.normalised()(h)
        root = torch.linalg.cholesky(phi.T @ phi / len(h) + 0.25)
    torch.testing.assert_close(deep, root @ root.T - 0.25, rtol=0.05, atol=0.03)
    shallow = pt.infinite_gram(x, x[:2], depth=1)
    torch.testing.assert_close(shallow, x @ x[:2].T / 3)


def test_a_line_in_the_logarithm() -> None:
    t = np.linspace(0, 30, 200)
    exact = pt.fit_line(t, 0.3 * np.exp(-0.7 * t))
    assert exact.rate == pytest.approx(0.7) and exact.r_squared == pytest.approx(1)
    noise = np.random.default_rng().normal(size=200)
    fit = pt.fit_line(t, np.exp(-0.1 * t + noise))
    assert fit.r_squared == pytest.approx(np.corrcoef(t, -0.1 * t + noise)[0, 1] ** 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gamma0": 0.0}, "gamma0"),
        ({"hidden": torch.zeros(6, 3)}, "hidden has shape"),
        ({"cross": None}, "both or neither"),
        ({"targets": torch.full((6,), float("nan"))}, "targets"),
        ({"gram": torch.triu(torch.ones(6, 6))}, "not symmetric"),
    ],
)
def test_a_problem_refuses_what_does_not_fit(change: dict, said: str) -> None:
    problem, _, _ = drawn()
    with pytest.raises(ValueError, match=said):
        pt.Problem(**{**vars_of(problem), **change})


def test_a_flow_refuses_impossible_steps() -> None:
    problem, _, _ = drawn("relu")
    for options, said in (
        ({"horizon": 1.0, "step": 2.0}, "at most the horizon"),
        ({"horizon": 1.0, "method": "heun"}, "unknown method 'heun'"),
        ({"horizon": 1e6, "step": 1e4}, "smaller step"),
    ):
        with pytest.raises(ValueError, match=said):
            pt.flow(problem, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="three times"):
        pt.fit_line(np.arange(2.0), np.ones(2))
