"""`dmft`: theory and networks from the folder of their run, tiny, and the verdict on them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, dmft
from ntkscale.experiments.dmft import cells as dmft_cells
from ntkscale.experiments.dmft import verdict as dmft_verdict
from ntkscale.experiments.dmft.cnn_verdict import judge_cnn
from ntkscale.experiments.dmft.figures import draw_errors
from ntkscale.experiments.dmft.finite_width import at_times
from ntkscale.experiments.dmft.movement import movements
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings, expand, grid
from ntkscale.theory.dmft import Solution
from tests.reference import wandb_record

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
    wandb="disabled",
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


CNN = DmftSettings(
    preset="cnn",
    data="digits",
    width=(4, 6),
    num_train=40,
    steps=10,
    seed=(0, 1),
    name="c",
    wandb="disabled",
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
    assert pictures == 5
    assert len(list((run.path / "solutions").iterdir())) == 2 * (3 + 2 + 1)


def test_approximations(tmp_path: Path) -> None:
    run, said, pictures = judged(replace(LINEAR, runs=tmp_path, name="b"))
    assert "gradient independence" in said
    assert pictures == 6
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
    # Theory of the second gamma0 is not solved, networks of the largest width are not trained.
    verdict = dmft.judge(runs.load(tmp_path / "dmft" / "killed"))
    assert "No network of width 64 is trained yet. The run is not finished" in verdict.summary
    again = dmft.run(settings).path
    for name in ("metrics.jsonl", "results.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_cnn(tmp_path: Path) -> None:
    settings = replace(CNN, gamma0=(0.5,), runs=tmp_path)
    run, said, pictures = judged(settings)
    ends = run.metrics.filter(pl.col("time") == pl.col("time").max())
    mean = {w: ends.filter(pl.col("width") == w)["test_mse"].mean() for w in (4, 6)}
    low, high = sorted(float(str(one)) for one in mean.values())
    assert f"Test mse of widths 4 and 6 differs by {high / low - 1:.1%} at gamma0 = 0.5 (" in said
    # One width has nothing to be compared with.
    alone = judged(replace(settings, width=(4,), steps=3, name="d"))[1]
    assert "differ" not in alone
    assert pictures == 1
    assert {"test_mse", "test_error", "alignment"} <= set(run.metrics.columns)


def test_cnns_that_diverge_are_counted(tmp_path: Path) -> None:
    settings = replace(CNN, learning_rate=1e6, gamma0=(0.5,), runs=tmp_path)
    run, said, _ = judged(settings)
    assert {end for r in run.results.values() for end in r["status"]} == {"diverged"}
    assert "4 of 4 networks diverged" in said and "differ" not in said


def test_width_is_compared_with_gamma0(tmp_path: Path) -> None:
    settings = replace(CNN, gamma0=(0.1, 2.0), runs=tmp_path)
    run, said, _ = judged(settings)
    ends = run.metrics.filter(pl.col("time") == pl.col("time").max())
    at = ends.filter(pl.col("width") == 6).group_by("gamma0").agg(pl.col("test_mse").mean())
    low, high = sorted(at["test_mse"].to_list())
    assert f"that of gamma0 at width 6 by {high / low - 1:.1%}: width matters" in said
    # A network that diverged is left out and counted, the others go on being compared.
    results = {name: dict(r) for name, r in run.results.items()}
    name = next(n for n, r in results.items() if (r["gamma0"], r["width"]) == (2.0, 4))
    results[name]["status"] = ["diverged", "finished"]
    changed = cast(runs.Run, SimpleNamespace(results=results))
    trained, table, said = judge_cnn(changed, expand(settings), run.metrics)
    assert len(trained) < len(run.metrics)
    assert [row["seeds"].text for row in table.rows].count("1 of 2 diverged") == 1  # pyright: ignore
    assert "1 of 8 networks diverged" in said and "differs by" in said


def with_errors(
    settings: DmftSettings, run: runs.Run, mean: float | None, single: list[float | None]
) -> tuple[Any, str]:
    """Entry of the first kernel and the summary, if networks had these errors."""
    seeds = dict(zip(settings.seed, single, strict=True))
    errors = [
        None if kernel is None else mean if seed is None else seeds[seed]
        for kernel, seed in run.metrics.select("kernel", "seed").rows()
    ]
    frame = run.metrics.with_columns(error=pl.Series(errors, dtype=pl.Float64))
    table, said = dmft_verdict._kernels(run, expand(settings), frame)
    return table.rows[0]["mean of networks"], said


def test_marks_of_kernels(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="m", gamma0=(1.0,))
    run = runs.load(dmft.run(settings).path)
    assert with_errors(settings, run, 0.02, [0.5, 0.4])[0].mark == "pass"
    # Networks on one side of theory by far more than they scatter: no excuse.
    off = float(np.random.default_rng().uniform(2, 300))
    entry, said = with_errors(settings, run, off, [off * 1.001, off * 0.999])
    assert entry.mark == "fail" and "5 by more" in said
    assert with_errors(settings, run, 0.2, [0.4, 0.4])[0].mark == "rough"
    entry, said = with_errors(settings, run, None, [None, 0.4])
    assert entry.mark == "fail" and entry.value == "diverged: 1 of 2"
    alone = replace(settings, seed=(0,), name="n")
    run = runs.load(dmft.run(alone).path)
    assert with_errors(alone, run, 50.0, [50.0])[0].mark == "rough"


def test_an_approximation_that_is_missing_fails_and_the_full_theory_is_not_judged(
    tmp_path: Path,
) -> None:
    settings = expand(replace(LINEAR, runs=tmp_path, name="a"))
    run = runs.load(dmft.run(settings).path)
    kind = "gradient independence"
    for change in (
        pl.when(pl.col("kind") == kind).then(None).otherwise(pl.col("error")),
        # One kernel that is not finite is enough.
        pl.when((pl.col("kind") == kind) & (pl.col("kernel") == "g1"))
        .then(None)
        .otherwise(pl.col("error")),
    ):
        table, said = dmft_verdict._approximations(run.metrics.with_columns(error=change), settings)
        assert f"{kind} from 0.5 on" in said
        rows: dict[str, Any] = {str(row["theory"]): row for row in table.rows}
        assert rows[kind]["gamma0 = 1"].value == "none"
        assert rows[kind]["gamma0 = 1"].mark == "fail"
        assert rows[FULL]["gamma0 = 1"].mark is None
    gone, _ = dmft_verdict._approximations(run.metrics.filter(pl.col("kind") != kind), settings)
    rows = {str(row["theory"]): row for row in gone.rows}
    assert rows[kind]["gamma0 = 1"].mark == "fail"


def test_theories_are_compared_up_to_where_the_full_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve = dmft_cells._solution

    def early(settings: DmftSettings, kind: str, *rest: Any) -> Solution:
        found = solve(settings, kind, *rest)
        ends = {FULL: 4, "gradient independence": 2}
        last = ends.get(kind, settings.steps)
        return at_times(found, last + 1, until=float(found.times[last]))

    monkeypatch.setattr(dmft_cells, "_solution", early)
    settings = replace(LINEAR, gamma0=(1.0,), runs=tmp_path, name="e")
    run, said, _ = judged(settings)
    errors = run.metrics.filter(pl.col("kernel").is_not_null())
    # What ends later is cut, what ends earlier is not compared at wrong times.
    expected = set(dmft_cells.kinds(settings)) - {"gradient independence"}
    assert set(errors["kind"].to_list()) == expected
    static = Solution.load(dmft_cells.kept(run.path, "static NTK", 2, 1.0))
    full = Solution.load(dmft_cells.kept(run.path, FULL, 2, 1.0))
    assert static.times.tolist() == full.times.tolist() and len(full.times) == 5
    assert "gradient independence from 1 on" in said


def test_cross_entropy_is_drawn_as_the_loss(tmp_path: Path) -> None:
    settings = replace(TINY, loss="cross-entropy", gamma0=(1.0,), runs=tmp_path, name="x")
    verdict = dmft.judge(runs.load(dmft.run(settings).path))
    assert "Training loss" in verdict.sections[0].figures[0].alt


def test_a_finished_cell_is_never_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = dmft_cells._networks

    def broken(*arguments: Any) -> Any:
        if arguments[3] == 64:
            raise np.linalg.LinAlgError("no convergence")
        return networks(*arguments)

    monkeypatch.setattr(dmft_cells, "_networks", broken)
    with pytest.raises(np.linalg.LinAlgError):
        dmft.run(replace(TINY, runs=tmp_path, name="kept"))
    assert len(runs.load(tmp_path / "dmft" / "kept").results) == 2


def test_errors_of_networks_that_all_diverged_are_drawn_as_none(tmp_path: Path) -> None:
    alike = {"depth": TINY.depth[-1], "gamma0": TINY.gamma0[-1], "kind": FULL, "part": "all"}
    rows = [
        {**alike, "kernel": "phi1", "width": width, "seed": 0, "error": None, "alignment": None}
        for width in TINY.width
    ]
    kinds = {"error": pl.Float64, "alignment": pl.Float64}
    found = draw_errors(pl.DataFrame(rows, schema_overrides=kinds), TINY, tmp_path)
    assert isinstance(found.png, Path) and found.png.exists()


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
        ({"device": "mps"}, "--device"),
    ],
)
def test_what_is_refused(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        dmft.run(replace(TINY, runs=tmp_path / "runs", **change))
    assert not list(tmp_path.iterdir())


def test_theory_and_networks_are_recorded_under_the_names_of_the_schema(tmp_path: Path) -> None:
    settings = replace(TINY, gamma0=(1.0,), wandb="offline", runs=tmp_path, name="w")
    run = runs.load(dmft.run(settings).path)
    theory = Solution.load(dmft_cells.kept(run.path, FULL, 2, 1.0))
    records = list((run.path / "wandb").glob("offline-run-*"))
    assert len(records) == 3  # theory, and two widths
    history = [entries for record in records for entries in wandb_record.history(record)]
    rows = run.metrics.filter(pl.col("kernel_distance").is_not_null())
    for kind in (FULL, "network"):
        own = rows.filter(
            (pl.col("kind") == kind) & (pl.col("width").is_null() | (pl.col("width") == 64))
        )
        mean = own.group_by("time").agg(pl.col("kernel_distance", "mse").mean()).sort("time")
        assert mean["time"].to_list() == theory.times.tolist()
        for name in ("kernel_distance", "mse"):
            # The curve of theory has a name of its own beside those of networks.
            key = "theory_mse" if (kind, name) == (FULL, "mse") else name
            logged = [entries[key] for entries in history if key in entries]
            assert set(mean[name].to_list()) <= set(logged)
    solved = rows.filter(pl.col("kind") == FULL)["kernel_distance"].to_list()
    for distance, kernel in zip(solved, theory.ntk, strict=True):
        start = theory.ntk[0]
        cosine = float((start * kernel).sum() / (start.norm() * kernel.norm()))
        assert distance == pytest.approx(1 - cosine, abs=1e-12)


def test_a_rich_network_is_answered_against_the_lazy_limit(tmp_path: Path) -> None:
    settings = replace(TINY, gamma0=(0.2, 1.0), runs=tmp_path, name="a")
    run = runs.load(dmft.run(settings).path)
    (answer,) = dmft.judge(run).answers
    lazy, rich = (
        Solution.load(dmft_cells.kept(run.path, kind, 2, 1.0)) for kind in ("static NTK", FULL)
    )
    assert list(answer.ratios) == [pytest.approx(float(rich.mse[-1] / lazy.mse[-1]))]
    assert answer.equal_time == pytest.approx(float(rich.times[-1]))
    moved, trained = movements(run.path, expand(settings))[2, 1.0]
    assert trained is not None
    cosines = [
        float((phi[0, :, 0] * phi[-1, :, -1]).sum() / (phi[0, :, 0].norm() * phi[-1, :, -1].norm()))
        for phi in rich.phi
    ]
    assert moved == pytest.approx(sum(cosines) / 2)
    assert abs(moved - trained) < 0.1
