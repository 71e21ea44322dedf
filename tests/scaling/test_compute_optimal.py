"""The best width against a search of its own, and against what theory says late."""

from typing import Any

import numpy as np
import pytest

from ntkscale import scaling
from ntkscale.scaling import compute_optimal
from ntkscale.scaling.compute_optimal import mean_mse, mean_spectrum
from ntkscale.theory import scaling_model


@pytest.mark.parametrize("gamma", [0.0, 0.75])
def test_the_best_width_is_that_of_draws(gamma: float) -> None:
    alpha, beta, budget = 2.0, 0.5, 2e3 if gamma else 1e3
    found = compute_optimal(alpha, beta, gamma, budget)
    assert found.width * found.time == pytest.approx(budget)

    def drawn(width: int) -> float:
        spectrum = scaling_model.power_law(alpha, beta, num_modes=6 * width)
        return float(
            np.mean(
                [
                    scaling_model.flow(
                        scaling_model.at_width(spectrum, width, seed=seed), gamma, [budget / width]
                    ).mse
                    for seed in range(40)
                ]
            )
        )

    assert drawn(round(found.width)) == pytest.approx(found.mse, rel=0.1)
    for factor in (1 / 3, 3):
        assert drawn(round(factor * found.width)) > 0.98 * found.mse
    says = scaling.predict(alpha, beta)
    assert found.predicted == (says.compute_rich if gamma else says.compute_lazy)
    low, high = found.slope_interval
    assert low <= found.slope <= high
    assert found.slope == pytest.approx(found.predicted, abs=0.05)


def test_batches_and_what_is_refused() -> None:
    found = compute_optimal(1.5, 2.2, 0.0, 2e4, batch_size=4, learning_rate=0.2)
    flow = compute_optimal(1.5, 2.2, 0.0, 2e4)
    assert found.mse > flow.mse
    assert found.slope < flow.slope
    refused: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 4}, "belong together"),
        ({"batch_size": 4, "learning_rate": 0.1, "gamma": 1.0}, "no averaged solution"),
        ({"budget": 1e30}, "lies outside"),
        ({"budget": 0.0}, "positive number"),
        ({"alpha": 0.9}, "alpha must be above 1"),
    ]
    for bad, words in refused:
        options: dict[str, Any] = {"alpha": 1.5, "beta": 2.2, "gamma": 0.0, "budget": 1e3, **bad}
        with pytest.raises(ValueError, match=words):
            compute_optimal(**options)


def test_between_whole_steps_the_loss_is_interpolated() -> None:
    rate, batch = 0.2, 4
    own = mean_spectrum(1.5, 2.2, 32)
    steps = np.array([2.0, 3.0, 7.0])
    mse = scaling_model.lazy_sgd(own, steps, learning_rate=rate, batch_size=batch)
    times = rate * np.array([2.5, 7.0])
    found = mean_mse(1.5, 2.2, 0.0, 32, times, batch, rate)
    assert found == pytest.approx([np.sqrt(mse[0] * mse[1]), mse[2]], rel=1e-9)
