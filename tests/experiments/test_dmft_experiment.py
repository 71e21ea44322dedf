"""`dmft`: theory and networks from the folder of their run, tiny, and the verdict on them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, dmft, dmft_cells
from ntkscale.experiments.dmft import DmftSettings, expand, grid

TINY = DmftSettings(
    num_train=3,
    dimension=5,
    depth=(2,),
    gamma0=(0.5, 1.0),
    width=(16, 64),
    seed=(0, 1),
    steps=6,
    learning_rate=0.3,
    samples=1024,
)
LINEAR = replace(
    TINY,
    preset="approximations",
    activation="linear",
    width=(32,),
    num_train=4,
    dimension=6,
    learning_rate=0.2,
)


def judged(settings: DmftSettings) -> tuple[runs.Run, str, int]:
    run = runs.load(dmft.run(settings).path)
    verdict = EXPERIMENTS["dmft"].judge(run)
    pictures = [picture.png for section in verdict.sections for picture in section.figures]
    assert all(isinstance(png, Path) and png.stat().st_size > 10_000 for png in pictures)
    return run, verdict.summary, len(pictures)


def test_theory_and_networks_are_judged_from_their_files(tmp_path: Path) -> None:
    run, said, pictures = judged(replace(TINY, runs=tmp_path, name="a"))
    assert run.finished
    assert "of 10 final kernels of width 64" in said
    assert pictures == 2
    assert len(list((run.path / "solutions").iterdir())) == 2 * (3 + 2 + 1)


def test_approximations(tmp_path: Path) -> None:
    run, said, pictures = judged(replace(LINEAR, runs=tmp_path, name="b"))
    assert "gradient independence" in said
    assert pictures == 3
    assert set(run.metrics["kind"].to_list()) == {"network", *dmft_cells.kinds(expand(LINEAR))}


def test_a_killed_run_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dmft.run(replace(TINY, runs=tmp_path, name="whole")).path
    networks = dmft_cells._networks

    def stopped(*arguments: Any) -> Any:
        if arguments[3] == 64:
            raise KeyboardInterrupt
        return networks(*arguments)

    settings = replace(TINY, runs=tmp_path, name="killed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dmft_cells, "_networks", stopped)
        dmft.run(settings)
    again = dmft.run(settings).path
    for name in ("metrics.jsonl", "results.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_cnn(tmp_path: Path) -> None:
    settings = DmftSettings(
        preset="cnn",
        data="digits",
        gamma0=(0.5,),
        width=(4, 6),
        num_train=40,
        steps=10,
        runs=tmp_path,
        name="c",
    )
    run, said, pictures = judged(replace(settings, depth=(2,)))
    assert "Test mse of widths 4 and 6" in said
    assert pictures == 1
    assert {"test_mse", "test_error", "alignment"} <= set(run.metrics.columns)


def test_all_depths_at_the_last_gamma0_and_all_gamma0_at_the_last_depth() -> None:
    found = grid(replace(TINY, depth=(1, 2), gamma0=(0.5, 1.0)))
    assert sorted(found) == [(1, 1.0), (2, 0.5), (2, 1.0)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma0": (0.0,)}, "--gamma0"),
        ({"num_train": 1}, "--num-train"),
        ({"activation": "cosine"}, "unknown activation"),
        ({"seed": (1, 1)}, "--seed"),
        ({"preset": "cnn", "data": "digits", "depth": (4,)}, "--depth"),
        ({"preset": "approximations", "loss": "cross-entropy"}, "--loss"),
        ({"steps": 1}, "--steps"),
    ],
)
def test_what_is_refused(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        dmft.run(replace(TINY, runs=tmp_path / "runs", **change))
    assert not list(tmp_path.iterdir())
