from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ntkscale.theory.scaling_model import measured, power_law
from ntkscale.theory.scaling_model.chebyshev import step
from ntkscale.theory.scaling_model.linear_network import linear_network_flow
from tests.reference.two_layer_descent import two_layer_descent
from tests.reference.two_layer_moments import two_layer_moments

RNG = np.random.default_rng()


def test_infinite_width_is_the_flow_of_all_moments() -> None:
    values = np.sort(RNG.uniform(0.05, 1, 6))[::-1]
    spectrum, gamma = measured(values, RNG.standard_normal(6)), RNG.uniform(0.2, 1)

    def moments(eta: float) -> np.ndarray:
        mse, size = two_layer_moments(
            values, spectrum.target[:, 0], gamma, round(8 / eta) + 1, learning_rate=eta
        )
        return np.array([mse[:: round(1 / eta)], 1 + gamma * size[:: round(1 / eta)]])

    found = linear_network_flow(spectrum, gamma, np.arange(9.0), rtol=1e-3)
    expected = 2 * moments(0.005) - moments(0.01)  # without the error of order eta
    np.testing.assert_allclose(found.mse, expected[0], rtol=1e-2, atol=1e-4 * expected[0, 0])
    np.testing.assert_allclose(found.kernel_scale, expected[1], rtol=2e-3)


def test_finite_width_is_small_steps_of_descent() -> None:
    """The same draw of A(0), projected=False."""
    values = np.sort(RNG.uniform(0.05, 1, 10))[::-1]
    spectrum, gamma = measured(values, RNG.standard_normal(10)), RNG.uniform(0.2, 3)
    width, seed = int(RNG.integers(3, 20)), int(RNG.integers(1000))

    def descent(eta: float) -> np.ndarray:
        mse, size = two_layer_descent(
            values,
            spectrum.target[:, 0],
            gamma,
            round(6 / eta) + 1,
            learning_rate=eta,
            width=width,
            projected=False,
            seed=seed,
        )
        return np.array([mse[:: round(1 / eta)], 1 + gamma * size[:: round(1 / eta)]])

    found = linear_network_flow(spectrum, gamma, np.arange(7.0), width=width, seed=seed)
    expected = 2 * descent(0.0025) - descent(0.005)
    np.testing.assert_allclose(found.mse, expected[0], rtol=1e-2, atol=1e-4 * expected[0, 0])
    np.testing.assert_allclose(found.kernel_scale, expected[1], rtol=2e-3)


@pytest.mark.parametrize("outputs", [1, 3])
def test_finite_width_against_another_integrator(outputs: int) -> None:
    spectrum = measured(RNG.uniform(0.05, 1, 7), RNG.standard_normal((7, outputs)))
    gamma, width, seed = RNG.uniform(0.2, 5), 5, int(RNG.integers(1000))
    values, target = spectrum.eigenvalues, spectrum.target.T
    start = np.zeros((width, 7 + outputs))
    start[:, :7] = np.random.default_rng(seed).standard_normal((width, 7))

    def residual(state: np.ndarray) -> np.ndarray:
        return target - state[:, 7:].T @ state[:, :7] / width

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        state = flat.reshape(start.shape)
        g = residual(state) * values
        return np.concatenate((gamma * state[:, 7:] @ g, state[:, :7] @ g.T), axis=1).ravel()

    times = np.logspace(-1, 1.5, 9)
    path = solve_ivp(slope, (0, times[-1]), start.ravel(), "DOP853", times, rtol=1e-10, atol=1e-12)
    left = [residual(flat.reshape(start.shape)) for flat in path.y.T]
    mse = np.array([(np.square(v) @ values).sum() for v in left])
    found = linear_network_flow(spectrum, gamma, times, width=width, seed=seed)
    np.testing.assert_allclose(found.mse, mse, rtol=1e-3, atol=1e-6 * mse[0])
    np.testing.assert_allclose(found.residual, [v.T for v in left], atol=1e-3)
    assert 0 < found.error < 0.05


def test_steps_are_stable_far_beyond_an_ordinary_method_and_of_second_order() -> None:
    rates = np.linspace(0, 1000, 50)[None]

    def slope(state: np.ndarray) -> np.ndarray:
        return -rates * state

    one, _ = step(slope, np.ones((1, 50)), 1.0, 1000.0)
    assert (np.abs(one) <= 1 + 1e-12).all()
    soft = np.array([[0.3, 1.0, 2.0]])
    errors, defects = [], []
    for h in (0.1, 0.05):
        new, defect = step(lambda state: -soft * state, np.ones((1, 3)), h, 2.0)
        errors.append(np.abs(new - np.exp(-soft * h)).max())
        defects.append(np.abs(defect).max())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.25)
    assert defects[0] / defects[1] == pytest.approx(8, rel=0.25)


def test_no_bottleneck_in_the_width() -> None:
    """Far below what projected descent of this width tends to."""
    spectrum, width = replace(power_law(2.0, 0.5, num_modes=400), tail_power=0.0), 8
    values, power = spectrum.eigenvalues, spectrum.power
    kappa = brentq(lambda k: float((values / (values + k)).sum()) - width, 1e-9, 1.0)
    plateau = float((power * kappa / (values + kappa)).sum())
    late = linear_network_flow(
        spectrum, 1.0, [100.0, 1000.0], width=width, seed=int(RNG.integers(99))
    )
    assert late.mse[1] < 0.3 * plateau
    assert late.mse[1] < 0.5 * late.mse[0]


SINGLE, BINNED = (power_law(1.5, 0.5, num_modes=200, modes_per_decade=n) for n in (None, 5))


@pytest.mark.parametrize(
    ("spectrum", "changes", "words"),
    [
        (SINGLE, {"gamma": -1.0}, "gamma must"),
        (SINGLE, {"times": [2.0, 1.0]}, "increasing order"),
        (SINGLE, {"width": 0}, "None is infinite"),
        (BINNED, {"width": 4}, "a row a mode"),
    ],
)
def test_what_is_refused(spectrum: Any, changes: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"gamma": 1.0, "times": [1.0]}
    with pytest.raises(ValueError, match=words):
        linear_network_flow(spectrum, **{**options, **changes})


def test_progress_and_start() -> None:
    told: list[tuple[int, int]] = []
    found = linear_network_flow(
        SINGLE, 1.0, [0.0, 1.0], width=4, progress=lambda *done: told.append(done)
    )
    assert told == [(1, 2), (2, 2)]
    assert found.mse[0] == pytest.approx(SINGLE.total_power)
    assert found.lazy_time[1] > 1.0
