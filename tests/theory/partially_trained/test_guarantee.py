"""Rates that are certain beforehand, against the runs they promise something of."""

import pytest
import torch

from ntkscale.theory import partially_trained as pt
from ntkscale.theory.activations import activation
from ntkscale.theory.partially_trained.guarantee import largest_output, largest_slope
from tests.reference.partially_trained import least_slope_by_search

NAMES = ["relu", "tanh", "erf", "gelu", "linear"]


def sphere(name: str, n: int, d: int, m: int, label: float, gamma0: float = 1.0, **more):
    x = torch.randn(n, d, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True) * d**0.5
    w = torch.randn(m // 2, d, dtype=torch.float64).repeat(2, 1)
    c = torch.randn(m // 2, dtype=torch.float64).sign()
    return pt.Problem(
        x @ x.T / d, x @ w.T / d**0.5, torch.cat((c, -c)),
        label * torch.randn(n, dtype=torch.float64).sign(), name, gamma0, **more,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("label", "gamma0"), [(0.003, 1.0), (1.0, 0.002)])
def test_a_guarantee_is_kept(name: str, label: float, gamma0: float) -> None:
    problem = sphere(name, 6, 40, 200, label, gamma0)
    said = pt.guarantee(problem)
    assert said is not None and said.rate > 0
    values = torch.linalg.eigvalsh(problem.gram)
    assert said.rate == pytest.approx(2 / 6 * float(values[0]) * said.rho)
    steepest = float(problem.sigma.first(torch.linspace(-9, 9, 100_001).double()).abs().max())
    for a, i in ((0, 0), (5, 17)):  # both constants of the movement, as the README prints them
        one = gamma0 * abs(float(problem.readout[i])) * steepest * float(problem.gram[a].norm())
        one *= (2 * 6 * problem.loss) ** 0.5 / (float(values[0]) * said.rho)
        assert float(said.movement[a, i]) == pytest.approx(one, rel=1e-6)
    found = pt.flow(problem, 60.0, step=0.25, method="rk4")
    bound = found.loss[0] * torch.exp(-said.rate * torch.from_numpy(found.times)).numpy()
    assert (found.loss <= bound * (1 + 1e-9)).all()
    assert (found.proven >= said.rate * (1 - 1e-9)).all()
    assert bool(((found.hidden - problem.hidden).abs() <= said.movement).all())
    # It closes on itself: neurons anywhere within the bound leave that much gain.
    for _ in range(20):
        where = problem.hidden + said.movement * (2 * torch.rand_like(problem.hidden) - 1)
        assert float(pt.gains(problem, where).min()) >= said.rho * (1 - 1e-9)


def test_it_is_the_largest_that_closes() -> None:
    problem = sphere("tanh", 6, 40, 200, 0.005)
    said = pt.guarantee(problem)
    assert said is not None

    def left(rho: float) -> float:
        reach = said.movement * said.rho / rho
        least = pt.least_slope(problem.sigma, problem.hidden, reach) * problem.readout
        return float(least.square().mean(1).min()) - rho

    assert left(said.rho) >= -1e-9
    top = float(pt.gains(problem, problem.hidden).min())
    assert all(left(said.rho + share * (top - said.rho)) < 0 for share in (0.01, 0.1, 0.5, 1.0))


def test_what_is_learned_already_has_its_rate_and_does_not_move() -> None:
    problem = sphere("tanh", 6, 40, 200, 0.0, centered=True)
    said = pt.guarantee(problem)
    assert problem.loss == 0 and said is not None
    lowest = float(torch.linalg.eigvalsh(problem.gram)[0])
    assert said.rho == pytest.approx(float(pt.gains(problem, problem.hidden).min()))
    assert said.rate == pytest.approx(2 / 6 * lowest * said.rho)
    assert not bool(said.movement.any())


def test_large_targets_and_singular_kernels_promise_nothing() -> None:
    assert pt.guarantee(sphere("relu", 20, 40, 100, 1.0)) is None
    assert pt.guarantee(sphere("relu", 20, 10, 100, 0.001)) is None
    assert pt.guarantee(sphere("relu2", 6, 40, 100, 0.001)) is None


@pytest.mark.parametrize("name", NAMES)
def test_slopes_of_intervals(name: str) -> None:
    sigma = activation(name)
    wide = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    assert largest_slope(sigma) == pytest.approx(float(sigma.first(wide).abs().max()), rel=1e-6)
    for _ in range(60):
        centre, radius = float(2 * torch.randn(())), float(torch.rand(()) * 2)
        pair = (torch.tensor(v, dtype=torch.float64) for v in (centre, radius))
        least = float(pt.least_slope(sigma, *pair))
        searched = least_slope_by_search(sigma.first, centre, radius)
        # The grid misses a zero of sigma' by half a cell at most.
        assert least <= searched + 1e-12 and searched - least < 2e-3
    assert largest_slope(activation("relu2")) == float("inf")
    assert largest_slope(activation("gelu").scaled(2.0)) == pytest.approx(2 * 1.1289, rel=1e-4)


def test_assumptions_are_told() -> None:
    def standing(problem: pt.Problem, step: float = 1.0) -> dict[str, str]:
        return {one.name: one.standing for one in pt.assumptions(problem, step=step)}

    fine = standing(sphere("relu", 6, 40, 200, 0.003))
    assert set(fine.values()) == {"holds"} and len(fine) == 5
    few = pt.assumptions(sphere("relu", 20, 5, 200, 0.01))[0]
    assert few.standing == "vacuous" and "rank 5" in few.said
    large = standing(sphere("tanh", 6, 40, 200, 1.5))
    assert large["targets are within reach"] == "violated"
    assert large["a rate is certain beforehand"] == "open"
    assert largest_output(sphere("tanh", 6, 40, 100, 1.0, 0.1)) == pytest.approx(10)
    assert standing(sphere("tanh", 6, 40, 200, 1.5, 0.1))["targets are within reach"] == "holds"
    assert (
        standing(sphere("relu", 6, 40, 200, 0.003), 100.0)["the step is stable at the start"]
        == "violated"
    )
    dead = pt.Problem(
        torch.eye(2), torch.tensor([[1.0, -1], [-1, -2]]), torch.ones(2), torch.ones(2), "relu"
    )
    assert standing(dead)["neurons are active on every point"] == "vacuous"
