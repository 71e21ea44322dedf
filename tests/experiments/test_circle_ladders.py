"""Ladders of widths: phases against each other, and the compute frontier."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntkscale import runs
from ntkscale.experiments import circle
from ntkscale.experiments.circle.frontier import Ladder, frontier
from ntkscale.experiments.circle.frontier_verdict import conclusion, frontier_table
from ntkscale.experiments.circle.measures import measure
from ntkscale.experiments.circle.phases import KINDS, speed
from ntkscale.scaling import predict

SETTINGS = circle.CircleSettings(
    beta=(0.5,),
    phases=("aligned", "random"),
    width=(64, 128),
    angles=16,
    points=32,
    lazy=0.0,
    window=(2.0, 40.0),
    horizon=40.0,
    wandb="disabled",
    name="run",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    folder = circle.run(replace(SETTINGS, runs=tmp_path_factory.mktemp("runs")))
    assert folder is not None
    return runs.load(folder.path)


def test_speed_up_is_the_ratio_of_times_at_one_loss(run: runs.Run) -> None:
    for cell in measure(run, SETTINGS):
        one = speed(cell)
        base = cell.baseline
        assert one.kind == KINDS[cell.condition.phases > 0]
        # Read the loss the slower of the two has at the end, and find both times by hand.
        lazy_end = base.lazy_curve([40.0])[0] + base.tail
        level = max(lazy_end, cell.mse[-1])
        sooner = np.exp(np.interp(-np.log(level), -np.log(cell.mse[1:]), np.log(cell.times[1:])))
        clock = np.geomspace(0.01, 40, 4000)
        linear = clock[np.searchsorted(-(base.lazy_curve(clock) + base.tail), -level)]
        assert one.ratio == pytest.approx(linear / sooner, rel=0.02)


def test_a_network_as_fast_as_its_lazy_flow_has_ratio_one(run: runs.Run) -> None:
    cell = measure(run, SETTINGS)[0]
    times = np.geomspace(0.1, 40, 60)
    same = cell.baseline.lazy_curve(times) + cell.baseline.tail
    one = speed(replace(cell, times=times, mse=same))
    assert one.ratio == pytest.approx(1, rel=1e-2)
    assert one.exponent == pytest.approx(cell.baseline.lazy.exponent, rel=0.1)
    # Five times the speed is five times the speed.
    fast = cell.baseline.lazy_curve(5 * times) + cell.baseline.tail
    assert speed(replace(cell, times=times, mse=fast)).ratio == pytest.approx(5, rel=2e-2)


def test_the_verdict_compares_phases(run: runs.Run) -> None:
    verdict = circle.judge(run)
    table = verdict.tables[0]
    assert table.title.startswith("Aligned")
    assert [(row["width"], row["phases"]) for row in table.rows] == [
        (64, "aligned"),
        (64, "random"),
        (128, "aligned"),
        (128, "random"),
    ]
    assert "width 128: down to one loss" in verdict.summary
    png = verdict.sections[0].figures[0].png
    assert isinstance(png, Path) and png.exists()


def ladder(alpha: float, beta: float, widths: list[int], seeds: int, noise: float) -> Ladder:
    """Curves t^-beta + N^-(alpha beta), a hard task's, with a factor of its own for every seed."""
    rng = np.random.default_rng()
    times = np.geomspace(0.1, 1e9, 400)
    return {
        width: [
            (
                width * times,
                (times**-beta + width ** -(alpha * beta)) * np.exp(noise * rng.normal()),
            )
            for _ in range(seeds)
        ]
        for width in widths
    }


def test_the_frontier_of_a_known_law() -> None:
    rng = np.random.default_rng()
    alpha, beta = rng.uniform(1.3, 2.5), rng.uniform(0.3, 0.9)
    widths = [2**i for i in range(3, 14)]
    r = predict(alpha, beta).compute_lazy
    one = frontier(ladder(alpha, beta, widths, 5, 0.01), "lazy", beta, "N t", r)
    assert one.exponent == pytest.approx(r, abs=0.02)
    assert one.interval[0] < one.exponent < one.interval[1]
    assert one.interval[1] - one.interval[0] < 0.05
    assert one.reached
    assert one.best.min() > widths[0] and one.best.max() < widths[-1]
    assert "falls as" in conclusion([one])
    # By brute force: the least loss over widths and a fine grid of times at one compute.
    compute = one.compute[len(one.compute) // 2]
    least = min((compute / w) ** -beta + w ** -(alpha * beta) for w in widths)
    assert one.mse[len(one.compute) // 2] == pytest.approx(least, rel=0.05)


def test_a_ladder_too_short_for_a_slope_says_so() -> None:
    one = frontier(ladder(2.0, 0.5, [8, 16, 32], 3, 0.01), "lazy", 0.5, "N t", 1 / 3)
    assert not one.reached
    assert "not reached" in conclusion([one])
    assert frontier_table([one]).rows[0]["verdict"] == "not reached"
    with pytest.raises(ValueError, match="three widths"):
        frontier(ladder(2.0, 0.5, [8, 16], 3, 0.01), "lazy", 0.5, "N t", 1 / 3)


def test_widths_of_gaussian_networks_are_drawn_as_a_frontier(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        phases=("aligned",),
        init="gaussian",
        width=(4, 8, 16),
        points=64,
        seed=(0, 1),
        horizon=20.0,
        window=(1.0, 20.0),
        runs=tmp_path,
    )
    folder = circle.run(settings)
    assert folder is not None
    verdict = circle.judge(runs.load(folder.path))
    rows = verdict.tables[0].rows
    assert [(row["networks"], row["compute"]) for row in rows] == [
        ("lazy", "N t"),
        ("lazy", "multiply-adds"),
        ("gamma0 = 1", "N t"),
        ("gamma0 = 1", "multiply-adds"),
    ]
    assert verdict.sections[0].heading == "Loss against compute"
    png = verdict.sections[0].figures[0].png
    assert isinstance(png, Path) and png.exists()
