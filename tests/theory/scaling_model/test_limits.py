"""Finite width and data: flows, plateaus and descent in steps against full descent on (w, A)."""

import time
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from ntkscale.theory.scaling_model import Spectrum, finite_flow, plateau, power_law, simulate
from ntkscale.theory.scaling_model.features import draw, draw_unprojected
from tests.reference.solvable_model import descend

SEED = time.time_ns() % 2**32
STEPS = [0, 1, 10, 100, 1500]
ETA = 0.005


def drawn_by_hand(
    rng: np.random.Generator, outputs: int, width: int, num_data: int | None, seed: int
) -> tuple[Spectrum, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """A spectrum, and the A_0 and training set that a seed stands for."""
    k = np.arange(1, 31.0)
    target = rng.standard_normal((30, outputs)) * k[:, None] ** -0.3
    spectrum = Spectrum(k**-1.5, target, np.ones(30))
    features, _ = draw_unprojected(spectrum, width=width, num_data=num_data, noise=0.3, seed=seed)
    stream = np.random.SeedSequence(seed).spawn(3)[0]
    A_0 = np.random.default_rng(stream).standard_normal((width, 30))
    if features.samples is None or features.labels is None:
        return spectrum, A_0, None
    return spectrum, A_0, (features.samples, features.labels)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize(("width", "num_data"), [(12, None), (50, None), (15, 25), (50, 20)])
def test_descent_is_full_descent(
    outputs: int, projected: bool, width: int, num_data: int | None
) -> None:
    rng = np.random.default_rng(SEED)
    gamma, seed = float(rng.uniform(0.5, 3)), int(rng.integers(1000))
    spectrum, A_0, data = drawn_by_hand(rng, outputs, width, num_data, seed)
    full = descend(
        spectrum.eigenvalues, spectrum.target, A_0, gamma=gamma, learning_rate=ETA,
        steps=STEPS[-1], data=data, projected=projected,
    )[STEPS]  # fmt: skip
    limits = {"width": width, "num_data": num_data, "noise": 0.3}
    stepped = simulate(
        spectrum, gamma, STEPS, learning_rate=ETA, projected=projected, seeds=[seed + 1, seed],
        **limits,
    )  # fmt: skip
    assert stepped.mse[1] == pytest.approx(full, rel=1e-9), SEED
    if projected:
        flow = finite_flow(spectrum, gamma, ETA * np.array(STEPS), seed=seed, **limits)
        assert flow.mse == pytest.approx(full, rel=5e-3), SEED
        quick = simulate(
            spectrum, gamma, STEPS, learning_rate=ETA, seeds=[seed], exact=False, **limits
        )
        assert quick.mse[0] == pytest.approx(full, rel=2e-2), SEED
        if num_data is not None:
            assert stepped.train_mse is not None
            assert flow.train_mse == pytest.approx(stepped.train_mse[1], rel=1e-2)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("projected", [True, False])
def test_one_pass_batches_have_the_right_distribution(outputs: int, projected: bool) -> None:
    rng = np.random.default_rng(SEED)
    k = np.arange(1, 41.0)
    target = rng.standard_normal((40, outputs))
    spectrum = Spectrum(k**-1.5, target, np.ones(40))
    steps, draws = [3, 12, 40], 150
    full = np.stack(
        [
            descend(
                spectrum.eigenvalues, target,
                np.random.default_rng([SEED, i]).standard_normal((30, 40)),
                gamma=1.0, learning_rate=0.1, steps=40, batch_size=8, noise=0.5, seed=SEED + i,
                projected=projected,
            )[steps]
            for i in range(draws)
        ]
    )  # fmt: skip
    quick = simulate(
        spectrum, 1.0, steps, learning_rate=0.1, width=30, batch_size=8, noise=0.5,
        projected=projected, seeds=range(SEED, SEED + draws),
    ).mse  # fmt: skip
    spread = np.sqrt((full.var(0) + quick.var(0)) / draws)
    assert (np.abs(full.mean(0) - quick.mean(0)) < 4.5 * spread).all(), SEED
    assert quick.std(0) == pytest.approx(full.std(0), rel=0.5)


def test_batches_of_fixed_data_average_to_all_of_it() -> None:
    spectrum = power_law(1.5, 0.6, num_modes=40)
    common = {"learning_rate": 0.002, "num_data": 20, "noise": 0.1, "width": 30}
    steps = [0, 300, 2000]
    whole = simulate(spectrum, 1.0, steps, **common)
    parts = simulate(spectrum, 1.0, steps, batch_size=10, **common)
    assert parts.mse == pytest.approx(whole.mse, rel=0.05)
    plain = simulate(spectrum, 1.0, steps, batch_size=10, projected=False, **common)
    assert np.isfinite(plain.mse).all()


def test_a_seed_does_not_depend_on_its_neighbours() -> None:
    spectrum = power_law(1.5, 0.6, num_modes=40)
    common = {"learning_rate": 0.1, "batch_size": 4, "width": 20}
    alone = simulate(spectrum, 1.0, [0, 60], seeds=[7], **common).mse
    among = simulate(spectrum, 1.0, [0, 60], seeds=[3, 7, 5], **common).mse
    assert among[1] == pytest.approx(alone[0], rel=1e-10)


def test_instability_is_named_at_its_step() -> None:
    spectrum = power_law(1.5, 0.3, num_modes=200)
    with pytest.raises(ValueError, match=r"unstable at step [1-9]"):
        simulate(spectrum, 30.0, [5000], learning_rate=0.15)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_edge_of_stability_is_the_largest_eigenvalue(gamma: float) -> None:
    spectrum = power_law(1.5, 0.6, num_modes=40)
    features = draw(spectrum, width=20, num_data=None, noise=0.0, seed=SEED)
    edge = 2 / float(features.eigenvalues.max())
    simulate(spectrum, gamma, [0], learning_rate=0.99 * edge, width=20, seeds=[SEED])
    with pytest.raises(ValueError, match="unstable at step 0") as refused:
        simulate(spectrum, gamma, [0], learning_rate=1.01 * edge, width=20, seeds=[SEED])
    named = float(str(refused.value).split("learning rate below ")[1].split(",")[0])
    assert named == pytest.approx(edge, rel=0.06)  # two digits


@pytest.mark.parametrize(
    "limits", [{"width": 24}, {"num_data": 24, "noise": 0.2}, {"width": 24, "num_data": 48}]
)
def test_modes_beyond_the_rows_act_as_a_ridge(limits: dict) -> None:
    times = np.geomspace(1, 1e4, 5)
    mean = [
        np.mean([finite_flow(power_law(1.4, 0.6, num_modes=m), 1.0, times, seed=s, **limits).mse
                 for s in range(16)], axis=0)
        for m in (96, 1200)
    ]  # fmt: skip
    assert mean[0] == pytest.approx(mean[1], rel=0.15)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.5), (2.0, 1.5)])
@pytest.mark.parametrize(
    ("width", "num_data", "noise"),
    [(128, None, 0.0), (None, 192, 0.4), (128, 256, 0.3), (256, 128, 0.3)],
)
def test_plateau(
    alpha: float, beta: float, width: int | None, num_data: int | None, noise: float
) -> None:
    spectrum = power_law(alpha, beta, num_modes=1000)
    limits = {"width": width, "num_data": num_data, "noise": noise}
    ends = []
    for seed in range(5):
        features = draw(spectrum, seed=seed, **limits)
        ends.append(features.mse(spectrum, features.target))
    expected = plateau(spectrum, **limits)
    # 15 %, and three standard errors of five draws (label noise alone gives them 5 to 10 %).
    error = float(3 * np.std(ends) / 5**0.5 / expected.mse)
    assert np.mean(ends) == pytest.approx(expected.mse, rel=0.15 + error)
    assert expected.bias <= expected.mse


def test_the_flow_ends_on_its_plateau_whatever_gamma() -> None:
    spectrum = power_law(1.5, 0.5, num_modes=200)
    ends = [finite_flow(spectrum, g, [1e8], width=16, num_data=32).mse[0] for g in (0.0, 1.0, 30.0)]
    features = draw(spectrum, width=16, num_data=32, noise=0.0, seed=0)
    assert ends == pytest.approx([float(features.mse(spectrum, features.target))] * 3, rel=1e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.5), (2.0, 1.5), (2.0, 2.6), (3.0, 1.3)])
def test_exponents_of_plateaus(alpha: float, beta: float) -> None:
    """The total at finite width has min(1, beta); min(2, beta) is its bias, and finite data."""
    spectrum = power_law(alpha, beta, num_modes=10**7, modes_per_decade=30)
    sizes = np.array([100, 200, 400, 800])

    def slope(values: list[float]) -> float:
        return -float(np.polyfit(np.log(sizes), np.log(values), 1)[0])

    width = [plateau(spectrum, width=int(n)) for n in sizes]
    data = [plateau(spectrum, num_data=int(n)) for n in sizes]
    assert slope([p.mse for p in width]) == pytest.approx(alpha * min(1, beta), rel=0.05)
    assert slope([p.bias for p in width]) == pytest.approx(alpha * min(2, beta), rel=0.05)
    assert slope([p.mse for p in data]) == pytest.approx(alpha * min(2, beta), rel=0.05)


def test_simulated_width_plateau_has_the_corrected_exponent() -> None:
    spectrum = power_law(2.0, 1.5, num_modes=800)
    sizes, ends = np.array([16, 32, 64, 128]), []
    for n in sizes:
        found = [draw(spectrum, width=int(n), num_data=None, noise=0, seed=s) for s in range(8)]
        ends.append(np.mean([f.mse(spectrum, f.target) for f in found]))
    slope = -np.polyfit(np.log(sizes), np.log(ends), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.25)  # alpha min(1, beta), not alpha min(2, beta) = 3


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"width": 8, "num_data": 8}, "diverges"),
        ({"width": -1}, "width must be"),
        ({"num_data": 2.5}, "num_data must be"),
        ({"noise": -1.0}, "noise is"),
    ],
)
def test_plateau_refuses(limits: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plateau(power_law(1.5, 0.5, num_modes=50), **limits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": [3, 1]}, "increasing order"),
        ({"steps": []}, "increasing order"),
        ({"seeds": []}, "seeds is empty"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"projected": False, "exact": False}, "exact=True"),
        ({"projected": False, "width": None}, "needs a width"),
    ],
)
def test_simulate_refuses(change: dict, words: str) -> None:
    arguments = {"steps": [1], "learning_rate": 0.1, "width": 8} | change
    with pytest.raises(ValueError, match=words):
        simulate(power_law(1.5, 0.5, num_modes=50), 1.0, **arguments)


def test_finite_flow_needs_single_modes() -> None:
    rows = power_law(1.5, 0.5, num_modes=1000, modes_per_decade=10)
    with pytest.raises(ValueError, match="a row for every mode"):
        finite_flow(rows, 1.0, [1.0], width=8)


def test_the_mean_over_steps_is_that_of_every_step() -> None:
    spectrum = power_law(1.5, 1.2, num_modes=40)
    common = {"learning_rate": 0.2, "width": 20, "batch_size": 3, "noise": 0.4, "exact": False}
    # The first fifty steps are taken one by one: the same numbers whatever is recorded.
    every = simulate(spectrum, 0.5, list(range(51)), seeds=[SEED, SEED + 1], **common)
    some = simulate(spectrum, 0.5, [7, 20, 50], seeds=[SEED, SEED + 1], **common)
    assert every.mean_mse is not None
    assert some.mean_mse is not None
    assert every.mean_mse[:, 1:] == pytest.approx(every.mse[:, :-1])
    for at, (first, last) in enumerate(((0, 7), (7, 20), (20, 50))):
        expected = every.mse[:, first:last].mean(axis=1)
        assert some.mean_mse[:, at] == pytest.approx(expected)
    assert simulate(spectrum, 0.5, [5], learning_rate=0.2).mean_mse is None


def test_progress_goes_on_from_one_part_of_the_seeds_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spectrum = power_law(1.5, 0.6, num_modes=4)
    # Room for the metric of one seed.
    monkeypatch.setattr(import_module(simulate.__module__), "MEMORY", 4 * 4 * 8)
    told: list[tuple[int, int]] = []
    simulate(
        spectrum, 1.0, [0, 5], learning_rate=0.1, seeds=range(3), progress=lambda *n: told.append(n)
    )
    assert told == sorted(told) and len({done for done, _ in told}) >= 3
    assert told[-1][0] == told[-1][1] and {total for _, total in told} == {told[-1][1]}


def test_plateau_of_resolved_modes_is_that_of_least_squares() -> None:
    spectrum = replace(power_law(1.5, 0.5, num_modes=20), tail_trace=0.0, tail_power=0.0)
    found = plateau(spectrum, num_data=50, noise=0.3)
    assert found.mse == pytest.approx(0.09 * 20 / (50 - 20)) and found.bias == 0
    assert plateau(spectrum, num_data=20, noise=0.3).mse > 1e100
