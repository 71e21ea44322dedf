from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ntkscale.theory.scaling_model import Spectrum, measured, power_law
from ntkscale.theory.scaling_model.mean_field import mean_field
from tests.reference.mean_field_fixed_point import mean_field_fixed_point
from tests.reference.two_layer_descent import two_layer_descent
from tests.reference.two_layer_moments import two_layer_moments

RNG = np.random.default_rng()


def cut(alpha: float, beta: float, modes: int) -> Spectrum:
    """A power law that ends after `modes`, as a simulation's does."""
    return replace(power_law(alpha, beta, num_modes=modes), tail_power=0.0, tail_trace=0.0)


def few_modes(rows: int) -> Spectrum:
    eigenvalues = RNG.uniform(0.01, 1, rows)
    return measured(eigenvalues, RNG.standard_normal(rows))


@pytest.mark.parametrize(
    ("gamma", "limits", "expected"),
    [
        (2, {"width": 60}, (0.4841, 0.1911, 0.1113)),
        (2, {"width": 1000, "batch_size": 16}, (0.4623, 0.1556, 0.0668)),
        (2, {"width": 60, "batch_size": 16, "noise": 0.5}, (0.5025, 0.2184, 0.1442)),
        (1, {"width": 80, "num_data": 60, "noise": 0.3}, (0.5627, 0.2451, 0.1653)),
        (0, {"width": 80, "num_data": 60, "noise": 0.3}, (0.6699, 0.3337, 0.2155)),
        (2, {"width": 40, "projected": False}, (0.4741, 0.1630, 0.0722)),
    ],
)
def test_values_printed_elsewhere(
    gamma: float, limits: dict[str, Any], expected: tuple[float, ...]
) -> None:
    found = mean_field(cut(1.5, 0.6, 200), gamma, 60, learning_rate=0.2, **limits)
    np.testing.assert_allclose(found.mse[[5, 20, 59]], expected, rtol=1e-3)


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ["width"],
        ["batch_size", "noise"],
        ["num_data"],
        ["num_data", "noise"],
        ["width", "batch_size", "noise"],
        ["width", "num_data", "noise"],
    ],
)
def test_march_is_the_fixed_point(names: list[str], projected: bool) -> None:
    spectrum = few_modes(int(RNG.integers(2, 8)))
    limits: dict[str, Any] = {name: float(RNG.uniform(10, 40)) for name in names}
    if "noise" in limits:
        limits["noise"] /= 50
    gamma, steps, eta = RNG.uniform(0, 2), int(RNG.integers(9, 21)), RNG.uniform(0.02, 0.05)
    found = mean_field(spectrum, gamma, steps, learning_rate=eta, projected=projected, **limits)
    expected = mean_field_fixed_point(
        spectrum.eigenvalues,
        spectrum.target[:, 0],
        gamma,
        steps,
        learning_rate=eta,
        projected=projected,
        **limits,
    )
    np.testing.assert_allclose(found.mse, expected.mse, rtol=1e-10)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-10)
    np.testing.assert_allclose(found.weight_covariance, expected.weight_covariance, atol=1e-10)
    size = expected.weight_covariance.diagonal()
    np.testing.assert_allclose(found.kernel_scale, 1 + gamma * size, rtol=1e-10)
    np.testing.assert_allclose(found.times, eta * np.arange(steps))
    if "num_data" in limits:
        assert found.train_mse is not None
        np.testing.assert_allclose(found.train_mse, expected.train_mse, rtol=1e-9)
    else:
        assert found.train_mse is None


@pytest.mark.parametrize("projected", [True, False])
def test_without_limits_it_is_descent_at_infinite_width(projected: bool) -> None:
    spectrum = few_modes(9)
    gamma, eta = RNG.uniform(0, 2), 0.03
    found = mean_field(spectrum, gamma, 40, learning_rate=eta, projected=projected)
    mse, size = two_layer_moments(
        spectrum.eigenvalues, spectrum.target[:, 0], gamma, 40, learning_rate=eta
    )
    np.testing.assert_allclose(found.mse, mse, rtol=1e-10)
    np.testing.assert_allclose(found.bias, mse, rtol=1e-10)
    np.testing.assert_allclose(found.weight_covariance.diagonal(), size, rtol=1e-10, atol=1e-12)


SIMULATED: list[tuple[float, float, float, dict[str, Any]]] = [
    (1.5, 0.6, 2, {"width": 60}),
    (1.5, 0.6, 2, {"width": 400, "batch_size": 16}),
    (1.5, 0.6, 2, {"width": 60, "batch_size": 16, "noise": 0.5}),
    (1.5, 0.6, 1, {"width": 80, "num_data": 60, "noise": 0.3}),
    (1.25, 0.4, 1, {"width": 100, "num_data": 150, "noise": 0.1}),
    (1.5, 0.6, 2, {"width": 40, "projected": False}),
    (1.5, 0.6, 1, {"width": 60, "batch_size": 32, "noise": 0.2, "projected": False}),
]


@pytest.mark.parametrize(("alpha", "beta", "gamma", "limits"), SIMULATED)
def test_mean_of_simulations(
    alpha: float, beta: float, gamma: float, limits: dict[str, Any]
) -> None:
    # Fresh seeds in every run: four standard errors, since one case in a few hundred exceeds three.
    spectrum, steps, runs = cut(alpha, beta, 150), 70, 60
    seeds = RNG.integers(2**32, size=runs)
    curves = np.array(
        [
            two_layer_descent(
                spectrum.eigenvalues,
                spectrum.target[:, 0],
                gamma,
                steps,
                learning_rate=0.1,
                seed=int(seed),
                **limits,
            )
            for seed in seeds
        ]
    )[:, 0]
    theory = mean_field(spectrum, gamma, steps, learning_rate=0.1, **limits).mse
    error = curves.std(axis=0, ddof=1) / runs**0.5
    late = np.abs(curves.mean(axis=0) - theory) - 4 * error
    assert (late[20:] <= 0.02 * theory[20:]).all()
    assert (late[:20] <= 0.15 * theory[:20]).all()


def test_rows_that_stand_for_alike_modes() -> None:
    spectrum = few_modes(5)
    rows = np.repeat(np.arange(5), 3)
    apart = replace(
        spectrum,
        eigenvalues=spectrum.eigenvalues[rows],
        target=spectrum.target[rows],
        count=np.ones(15),
    )
    together = replace(spectrum, count=np.full(5, 3.0))
    limits: dict[str, Any] = {"learning_rate": 0.05, "width": 20.0, "num_data": 30.0, "noise": 0.1}
    one, other = (mean_field(s, 1.0, 25, **limits) for s in (apart, together))
    np.testing.assert_allclose(one.mse, other.mse, rtol=1e-10)


@pytest.mark.parametrize(
    "limits",
    [
        {"width": 60, "batch_size": 16, "noise": 0.3},
        {"width": 60, "num_data": 100, "noise": 0.1},
        {"width": 60, "projected": False},
    ],
)
def test_bins_and_tails_stand_for_their_modes(limits: dict[str, Any]) -> None:
    alpha, beta, modes = 1.5, RNG.uniform(0.4, 2.0), 1000
    single = mean_field(power_law(alpha, beta, num_modes=modes), 1, 60, learning_rate=0.1, **limits)
    binned = power_law(alpha, beta, num_modes=modes, modes_per_decade=10)
    assert len(binned.count) < 100
    found = mean_field(binned, 1, 60, learning_rate=0.1, **limits)
    np.testing.assert_allclose(found.mse, single.mse, rtol=1e-3)
    # Modes beyond 200 are not learned by then; as a tail they still act on finite samples.
    tail = mean_field(power_law(alpha, beta, num_modes=200), 1, 60, learning_rate=0.1, **limits)
    np.testing.assert_allclose(tail.mse, single.mse, rtol=5e-3)


def test_a_linear_network_has_no_bottleneck_in_its_width() -> None:
    spectrum = cut(1.5, 0.6, 60)

    def curve(width: float | None, projected: bool) -> np.ndarray:
        return mean_field(
            spectrum, 1.0, 250, learning_rate=0.15, width=width, projected=projected
        ).mse

    stuck, free = curve(8, True), curve(8, False)
    assert stuck[-1] > 0.9 * stuck[120]
    assert free[-1] < 0.6 * free[120]
    np.testing.assert_allclose(curve(None, True), curve(None, False), rtol=1e-12)


def test_progress_and_cost() -> None:
    told: list[tuple[int, int]] = []
    found = mean_field(
        few_modes(3), 1.0, 8, learning_rate=0.05, progress=lambda *done: told.append(done)
    )
    assert told == [(t + 1, 8) for t in range(8)]
    assert found.multiply_adds > 0


OUTPUTS = measured([1.0, 0.5], [[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spectrum": OUTPUTS}, "one output"),
        ({"gamma": -1.0}, "gamma must be"),
        ({"steps": 0}, "steps must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"width": 0}, "None is infinite"),
        ({"num_data": 10, "batch_size": 5}, "drop one"),
        ({"noise": -0.1}, "standard deviation"),
        ({"noise": 0.1}, "num_data or batch_size"),
        ({"width": 10, "memory": 1000}, "modes_per_decade"),
        ({"learning_rate": 2.0}, "unstable at step 0"),
        ({"learning_rate": 0.7, "gamma": 9.0, "steps": 50}, "unstable at step [1-9]"),
        ({"learning_rate": 0.5, "batch_size": 0.05, "steps": 50}, "mse is"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {
        "spectrum": cut(1.5, 0.6, 20),
        "gamma": 1.0,
        "steps": 5,
        "learning_rate": 0.1,
    }
    with pytest.raises(ValueError, match=words):
        mean_field(**{**options, **changes})
