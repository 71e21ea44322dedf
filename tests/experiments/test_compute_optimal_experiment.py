"""`compute-optimal`: small ladders from the folder of their run, and the verdict on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, compute_optimal
from ntkscale.experiments.compute_optimal.experiment import ComputeOptimalSettings
from ntkscale.experiments.compute_optimal.verdict import Ladder, _answers, conclusion, ladders_of
from ntkscale.scaling import predict

SMALL = ComputeOptimalSettings(
    beta=(0.5, 2.2),
    width=(16, 32, 64, 128),
    seed=(1, 2, 3),
    repeats=6,
    largest=512,
    gamma=(0.0, 0.75),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    settings = replace(SMALL, runs=tmp_path_factory.mktemp("runs"), name="small")
    return runs.load(compute_optimal.run(settings).path)


def test_hard_frontiers_have_the_slope_of_theory(finished: runs.Run) -> None:
    verdict = EXPERIMENTS["compute-optimal"].judge(finished)
    says = predict(SMALL.alpha, 0.5)
    for own in ladders_of(finished.metrics, SMALL):
        if own.beta == 0.5 and own.kind == "mean":
            assert own.reached
            last = own.decade(0)
            assert last is not None
            theory = says.compute_lazy if own.gamma == 0 else says.compute_rich
            assert last.exponent == pytest.approx(theory, abs=0.03)
    assert all(f"beta = {beta:g}" in verdict.summary for beta in SMALL.beta)
    pictures = [picture.png for section in verdict.sections for picture in section.figures]
    assert len(pictures) == 2


def test_draws_and_their_mean_agree(finished: runs.Run) -> None:
    hard = [own for own in ladders_of(finished.metrics, SMALL) if own.beta == 0.5]
    kinds = {(own.gamma, own.kind): own for own in hard}
    for gamma in SMALL.gamma:
        drawn, mean = kinds[gamma, "draws"].curves[64], kinds[gamma, "mean"].curves[64]
        assert drawn[1].shape[0] == 3
        assert drawn[1].mean(axis=0)[-1] == pytest.approx(mean[1][0, -1], rel=0.25)


def test_rich_sgd_is_simulated_on_draws_and_on_their_average(finished: runs.Run) -> None:
    found = {(own.beta, own.gamma, own.kind): own for own in ladders_of(finished.metrics, SMALL)}
    drawn, mean = found[2.2, 0.75, "draws"], found[2.2, 0.75, "mean"]
    assert drawn.batches
    assert not found[0.5, 0.75, "draws"].batches
    assert mean.sampled
    assert not found[2.2, 0.0, "mean"].sampled
    assert list(mean.curves) == list(SMALL.width)
    for width, (times, mse) in mean.curves.items():
        other = drawn.curves[width]
        assert mse.shape == (SMALL.repeats, len(times))
        assert times == pytest.approx(other[0])
        # Three draws and six of batches: their means agree within the scatter of either.
        logs = [np.log(one[:, -20:].mean(axis=1)) for one in (other[1], mse)]
        scatter = np.sqrt(sum(one.var(ddof=1) / len(one) for one in logs))
        assert abs(logs[0].mean() - logs[1].mean()) < 4 * scatter


def test_a_ladder_that_is_too_short_is_not_reached(finished: runs.Run) -> None:
    few = finished.metrics.filter((pl.col("beta") == 0.5) & (pl.col("kind") == "draws"))
    said = conclusion(list(ladders_of(few, SMALL)), SMALL)
    assert said.count("not reached") == 2
    none = finished.metrics.filter(pl.col("width") <= 32)
    assert "not reached" in conclusion(list(ladders_of(none, SMALL)), SMALL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": 0.9}, "--alpha"),
        ({"width": (64, 128)}, "--width"),
        ({"gamma": (-1.0,)}, "--gamma"),
        ({"largest": 100}, "--largest"),
        ({"seed": (1, 1)}, "--seed"),
        ({"beta": (0.0,)}, "--beta"),
        ({"seed": (-1,)}, "--seed"),
        ({"repeats": 0}, "--repeats"),
        ({"learning_rate": 3.0}, "--learning-rate"),
        ({"beta": (2.2,), "gamma": (30.0,)}, "unstable at step"),
    ],
)
def test_what_is_refused(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        compute_optimal.run(replace(SMALL, runs=tmp_path / "runs", **change))
    assert not list(tmp_path.iterdir())


def test_answers_compare_draws_at_the_largest_width_that_both_have() -> None:
    rng = np.random.default_rng()
    prefactors, power = rng.uniform(0.2, 0.8, 3), float(rng.uniform(0.1, 0.3))
    times, longer = np.linspace(0, 100, 51), np.linspace(0, 400, 51)

    def ladder(gamma: float, kind: str, curves: dict) -> Ladder:
        return Ladder(2.2, gamma, kind, True, predict(1.5, 2.2), curves, None)

    lazy = np.tile((1 + longer) ** -0.5, (3, 1))
    rich = prefactors[:, None] * (1 + times) ** (-0.5 - power)
    ladders = [
        ladder(0.0, "draws", {64: (longer, lazy), 128: (longer, lazy), 256: (longer, lazy)}),
        ladder(0.3, "draws", {128: (times, 5 * rich)}),
        ladder(0.75, "draws", {64: (times, 9 * rich), 128: (times, rich)}),
        ladder(0.75, "mean", {128: (times, 7 * rich)}),
    ]
    (said,) = _answers(ladders, 1.5)
    assert "N = 128, gamma = 0.75 against 0" in said.task
    assert said.equal_time == 100
    assert said.ratios == pytest.approx(prefactors * 101**-power, rel=1e-3)
    assert said.given == (1.5, 2.2) and said.one_pass
    # Without lazy draws, or without rich ones, there is nothing to say.
    assert not list(_answers(ladders[1:], 1.5)) and not list(_answers(ladders[:1], 1.5))
