import math
from typing import Literal

import numpy as np
import pytest
import torch

from ntkscale.tasks import circle, circle_beta, circle_q


def test_target_is_the_sum_written_out() -> None:
    points = int(torch.randint(9, 60, ()))
    q = 0.6 + float(torch.rand(()))
    task = circle(q=q, points=points, dtype=torch.float64)
    for j in range(points):
        theta = 2 * math.pi * j / points
        expected = sum(k**-q * math.cos(k * theta) for k in range(1, points // 2))
        assert task.targets[j, 0].item() == pytest.approx(expected, abs=1e-12)
        assert task.inputs[j].tolist() == pytest.approx([math.cos(theta), math.sin(theta)])


@pytest.mark.parametrize("phases", ["aligned", "random"])
@pytest.mark.parametrize("modes", [None, 5])
def test_spectrum_of_the_target(phases: Literal["aligned", "random"], modes: int | None) -> None:
    task = circle(q=0.8, points=64, modes=modes, phases=phases, seed=3, dtype=torch.float64)
    coefficients = np.fft.rfft(task.targets[:, 0].numpy()) / 32
    expected = np.zeros(33)
    top = 31 if modes is None else modes
    expected[1 : top + 1] = np.arange(1, top + 1) ** -0.8
    np.testing.assert_allclose(np.abs(coefficients), expected, atol=1e-12)
    angles = np.angle(coefficients[1 : top + 1])
    assert np.allclose(angles, 0) == (phases == "aligned")


def test_random_phases_follow_the_seed() -> None:
    one, two, three = (
        circle(q=1.0, phases="random", seed=s, dtype=torch.float64).targets for s in (4, 4, 5)
    )
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


@pytest.mark.parametrize("modes", [None, 7])
def test_tail_completes_the_power(modes: int | None) -> None:
    q = 0.9
    task = circle(q=q, points=128, modes=modes, dtype=torch.float64)
    total = sum(k ** (-2 * q) / 2 for k in range(1, 2_000_000))
    total += 2e6 ** (1 - 2 * q) / (2 * (2 * q - 1))  # the rest of the sum, as an integral
    assert task.targets.square().mean().item() + task.tail == pytest.approx(total, rel=1e-6)


def test_beta_and_q() -> None:
    assert circle_beta(0.75) == 0.25
    assert circle_q(0.5, 2) == 1.5
    assert circle_beta(circle_q(0.7, 3), 3) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"q": 0.5}, "q must be above 1/2, got 0.5"),
        ({"q": float("nan")}, "q must be above 1/2"),
        ({"q": 1.0, "points": 3}, "points must be at least 4"),
        ({"q": 1.0, "points": 16, "modes": 8}, r"from 1 to points // 2 - 1 = 7, got 8"),
        ({"q": 1.0, "modes": 0}, "modes must be"),
        ({"q": 1.0, "phases": "other"}, "choose aligned or random"),
    ],
)
def test_bad_options_are_one_sentence(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        circle(**options)
