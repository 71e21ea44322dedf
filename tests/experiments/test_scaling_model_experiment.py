"""`scaling-model`: every part from its run folder, on what is quick to solve."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, scaling_model
from ntkscale.experiments.scaling_model.cells import cells
from ntkscale.experiments.scaling_model.measures import (
    Curves,
    Exponent,
    data_exponents,
    expected,
    pick,
)
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings
from ntkscale.experiments.scaling_model.verdict import _words
from ntkscale.scaling import predict

SMALL = ScalingModelSettings(
    quick=True,
    beta=(0.5,),
    gamma=(0.0, 0.5),
    width=(16, 32),
    batch_size=(4,),
    num_data=(16, 32, 64),
    horizon=200.0,
    seed=(3, 4),
    parts=("exponents", "curves", "sgd", "data"),
)


def test_every_part_is_judged_from_its_files(tmp_path: Path) -> None:
    folder = scaling_model.run(replace(SMALL, runs=tmp_path, name="small"))
    run = runs.load(folder.path)
    assert run.finished
    first = EXPERIMENTS["scaling-model"].judge(run)
    pictures = [picture.png for section in first.sections for picture in section.figures]
    assert len(pictures) == 4
    assert all(isinstance(png, Path) and png.stat().st_size > 10_000 for png in pictures)
    # What theory says of time is seen: both kinds of training, hard and super-easy.
    rows = {float(str(row["beta"])): row for row in first.tables[0].rows}
    for beta, says in ((0.5, predict(1.5, 0.5)), (2.0, predict(1.5, 2.0))):
        for name, theory in (("gamma = 0", says.time_lazy), ("gamma = 0.5", says.time_rich)):
            assert rows[beta][name].value == pytest.approx(theory, abs=0.02)  # pyright: ignore
    # Taken up again it is done.
    again = scaling_model.run(replace(SMALL, runs=tmp_path, name="small"))
    assert again.finished
    assert runs.load(again.path).metrics.equals(run.metrics)


def test_a_point_of_the_phase_diagram() -> None:
    settings = replace(SMALL, parts=("phases",))
    cell = next(one for one in cells(settings) if one.key == {"alpha": 1.5, "beta": 0.3})
    found = cell.solve().numbers
    for name in ("lazy", "rich"):
        shares = [found[f"{name}_{term}"] for term in ("time", "batch", "model", "transient")]
        assert np.sum(np.array(shares, dtype=float)) == pytest.approx(1)
        theory = expected({**cell.key, **found}, name)
        assert found[name] == pytest.approx(theory, abs=0.03)


def test_exponents_of_data_are_those_of_the_curves() -> None:
    p, s, rng = 0.8, 0.5, np.random.default_rng()
    settings = replace(SMALL, beta=(0.5,), num_data=(10, 40, 160, 640), seed=tuple(range(6)))
    rows = []
    for gamma in (0.0, 0.5):
        for noise in (0.0, settings.noise):
            for seed in settings.seed:
                for count in settings.num_data:
                    best, when = count**-p * np.exp(0.02 * rng.normal()), count**s
                    for time in (0.1 * when, when, 10 * when):
                        mse = best * (1 if time == when else 3)
                        keys = {"part": "data", "beta": 0.5, "num_data": count, "gamma": gamma}
                        rows.append(
                            {**keys, "noise": noise, "seed": seed, "time": time, "mse": mse}
                        )
    found = data_exponents(pl.DataFrame(rows), settings)
    assert len(found) == 6
    for one in found:
        assert one.measured == pytest.approx(s if one.what["of"] == "time to stop" else p, abs=0.03)
        assert one.interval[0] <= one.measured <= one.interval[1]


def test_curves_are_picked_by_their_keys() -> None:
    frame = pl.DataFrame(
        {"gamma": [0.0, 0.0, 1.0], "seed": [1, 2, 1], "time": [1.0] * 3, "mse": [1.0, 3.0, 5.0]}
    )
    own = pick(frame, gamma=0.0)
    assert own is not None
    assert own.mean == pytest.approx([2.0])
    assert Curves(own.times, own.mse).band[0] <= own.mean
    assert pick(frame, gamma=7.0) is None
    assert pick(frame, width=3) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": (0.5, 1.0)}, "--gamma needs 0"),
        ({"alpha": 1.0}, "--alpha"),
        ({"seed": ()}, "--seed"),
        ({"noise": 0.0}, "--noise"),
        ({"alpha": float("inf")}, "--alpha"),
        ({"gamma": (0.0, float("inf"))}, "--gamma"),
        ({"seed": (-1,)}, "--seed"),
        ({"num_data": (16, 32)}, "--num-data"),
        ({"learning_rate": 1.5}, "--learning-rate"),
        ({"circle": (Path("nowhere"),)}, "--circle"),
        ({"parts": ()}, "--parts"),
    ],
)
def test_what_is_refused(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        scaling_model.run(replace(SMALL, runs=tmp_path, **change))
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    settings = replace(SMALL, runs=tmp_path, name="part", parts=("exponents",))
    run = runs.load(scaling_model.run(settings).path)
    half = replace(run, finished=False, metrics=run.metrics.filter(pl.col("beta") < 1))
    verdict = scaling_model.judge(half)
    assert "not finished" in verdict.summary
    assert len(verdict.tables) == 1


def test_what_is_not_reached_is_named_with_its_numbers() -> None:
    one = Exponent({"beta": 0.5, "B": 2, "what": "rich"}, 0.35, (0.3, 0.4), 0.67, (1, 9), "")
    assert "not reached: beta = 0.5, B = 2, rich: 0.35 for 0.67" in _words("SGD", [one])
