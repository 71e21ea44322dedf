"""Ball and range hold exactly, in both dtypes, whatever is thrown at them."""

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ntkscale.robustness import Threat, apgd, fgsm, pgd, random_signs
from tests.reference import robustness as reference

DTYPES = (torch.float32, torch.float64)
ENDS = [(0.0, 1.0), (None, None), (-0.3, 0.1), (None, 7.7), (-1e3, 1e3)]


@st.composite
def problems(draw: Any) -> tuple[Threat, torch.Tensor, torch.Generator]:
    """A threat, inputs inside its range, many of them at its ends, and random numbers."""
    low, high = draw(st.sampled_from(ENDS))
    eps = draw(
        st.one_of(st.sampled_from([8 / 255, 0.1, 1e-9, 1e-40, 3.0]), st.floats(0, 1e4, width=64))
    )
    threat = Threat(eps, draw(st.sampled_from(["linf", "l2"])), low, high)
    shape = draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = 10.0 ** draw(st.integers(-6, 6))
    x = scale * torch.randn(shape, generator=generator, dtype=dtype)
    return threat, x.clamp(low, high) if low is not None or high is not None else x, generator


def assert_within(threat: Threat, result: torch.Tensor, start: torch.Tensor) -> None:
    assert result.dtype == start.dtype and result.shape == start.shape
    change = (result - start).flatten(1)
    assert change.isfinite().all()
    if threat.norm == "linf":
        length = change.abs().amax(1)
    else:
        length = torch.linalg.vector_norm(change, dim=1)
    assert all(value <= threat.eps for value in length.tolist())
    assert (length <= threat.eps).all()
    assert threat.low is None or (result >= threat.low).all()
    assert threat.high is None or (result <= threat.high).all()


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(-8, 8))
def test_projection_is_inside_and_keeps_what_is(problem, size):
    threat, start, generator = problem
    moved = start + 10.0**size * torch.randn(
        start.shape, generator=generator, dtype=torch.float64
    ).to(start)
    result = threat.project(moved, start)
    assert_within(threat, result, start)
    # What the plain formula in float64 says, within rounding of the inputs.
    low = -math.inf if threat.low is None else threat.low
    high = math.inf if threat.high is None else threat.high
    ball = (threat.eps, threat.norm, low, high)
    rounding = 8 * torch.finfo(start.dtype).eps * float(start.abs().max() + threat.eps)
    rounding += 1e-43  # below the normal numbers of float32, steps are of equal size
    for own, goal, x in zip(result, moved, start, strict=True):
        want = reference.clip(goal.double(), x.double(), ball)
        if threat.norm == "l2" and rounding > 1e-3 * threat.eps:
            continue  # too coarse to be anywhere near the surface
        assert float((own.double() - want).abs().max()) <= rounding + 1e-6 * threat.eps
    again = threat.project(result, start)
    assert_within(threat, again, start)
    if threat.norm == "linf":
        assert torch.equal(again, result)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_attacks_and_controls_stay_inside(problem):
    threat, x, generator = problem
    weights = torch.randn(x[0].numel(), 3, generator=generator, dtype=torch.float64).to(x)
    labels = torch.randint(0, 3, (len(x),), generator=generator)

    def model(z):
        return torch.tanh(z.flatten(1) @ weights)

    seed = int(torch.randint(1 << 30, (1,), generator=generator))
    random = torch.Generator().manual_seed(seed)
    for result in (
        fgsm(model, x, labels, threat),
        pgd(model, x, labels, threat, steps=3, random_start=True, seed=seed),
        apgd(model, x, labels, threat, steps=7, restarts=2, seed=seed),
        random_signs(x, threat, seed=seed),
        threat.draw(x, random),
        threat.draw(x, random, surface=True),
    ):
        assert_within(threat, result, x)
        if threat.eps == 0:
            assert torch.equal(result, x)


def test_rounding_that_goes_beyond_does_occur():
    # Else the test above shows nothing: x + eps overshoots for some x.
    x, eps = 2 * torch.rand(10_000) - 1, 0.1 * torch.rand(10_000)
    assert ((x + eps) - x > eps).any() and ((x - eps) - x < -eps).any()


def test_steepest_direction_and_its_absence():
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0], [torch.nan, 1.0], [3e-45, 0.0], [2e38, 2e38]])
    signs = Threat(0.1).steepest(gradient)
    assert signs.tolist() == [[1, -1], [0, 0], [0, 0], [1, 0], [1, 1]]
    unit = Threat(0.1, "l2").steepest(gradient)
    half = math.sqrt(0.5)
    want = torch.tensor([[0.6, -0.8], [0, 0], [0, 0], [1, 0], [half, half]])
    torch.testing.assert_close(unit, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_starts_fill_the_ball(dtype):
    x = torch.full((4000, 3), 0.5, dtype=dtype)
    seed = int(torch.randint(1 << 30, (1,)))
    for norm in ("linf", "l2"):
        threat = Threat(0.25, norm)
        inside = threat.draw(x, torch.Generator().manual_seed(seed)) - x
        order = math.inf if norm == "linf" else 2
        radii = torch.linalg.vector_norm(inside, ord=order, dim=1) / threat.eps
        # P(radius < r) = r^3 in three dimensions, within five standard deviations.
        share = float((radii < 0.7).double().mean())
        assert share == pytest.approx(0.7**3, abs=5 * (0.343 * 0.657 / 4000) ** 0.5)
        edge = threat.draw(x, torch.Generator().manual_seed(seed), surface=True) - x
        lengths = torch.linalg.vector_norm(edge, ord=order, dim=1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, threat.eps), rtol=1e-5, atol=0)
        other = threat.draw(x.double(), torch.Generator().manual_seed(seed)) - x.double()
        torch.testing.assert_close(inside.double(), other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": math.nan}, "eps is nan"),
        ({"eps": math.inf}, "finite radius"),
        ({"eps": 0.1, "norm": "l1"}, "choose 'linf' or 'l2'"),
        ({"eps": 0.1, "low": 1.0}, "low is 1.0 and high is 1.0"),
        ({"eps": 0.1, "low": 2.0, "high": -1.0}, "between a lower"),
        ({"eps": 0.1, "high": math.nan}, "high is nan"),
    ],
)
def test_threats_that_are_none(options, says):
    with pytest.raises(ValueError, match=says):
        Threat(**options)
