"""`local-analysis`, tiny: what it records against the theory's own functions, and killed runs."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ntkscale import runs
from ntkscale.experiments import EXPERIMENTS, local_analysis
from ntkscale.experiments.local_analysis import claims, figures, measures, verdict
from ntkscale.experiments.local_analysis.bridge_figures import at_stages
from ntkscale.experiments.local_analysis.settings import (
    PRESETS,
    LocalAnalysisSettings,
    assumptions,
    expand,
    is_preset,
)
from ntkscale.experiments.work import save_piece
from ntkscale.theory.local_analysis import (
    MeanField,
    Population,
    balance,
    certify,
    descend,
    draw_teacher,
    early_step,
    measure,
    minimiser,
    penalty,
    second_layer,
    symmetric_start,
    tail,
)

ROOT = Path(__file__).parents[2]
TINY = LocalAnalysisSettings(
    dimension=4,
    teachers=2,
    width=12,
    lam=(0.1, 0.05),
    steps=60,
    final_steps=20,
    rate=0.1,
    horizon=40.0,
    seed=(3, 4),
    workers=1,
    wandb="disabled",
)


def test_arms_are_the_stages_done_by_hand(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="a")
    run = runs.load(local_analysis.run(settings).path)
    found = measures.descents(run)
    assert run.finished and [one.seed for one in found] == [3, 4]
    one = found[1]
    teacher, phi = draw_teacher(4, 2, 50.0, 4), tail("relu")
    exact = Population(teacher, phi)
    a0, W0 = symmetric_start(12, 4, 4)
    for arm, stepped, regularised in (
        ("schedule", True, True),
        ("no-regularisation", True, False),
        ("no-stage-1", False, True),
        ("neither", False, False),
    ):
        W = early_step(exact, a0, W0) if stepped else W0
        landed = measure(a0, W, teacher, phi).rows_capture
        assert one.at(arm, "stage=1", "rows_capture") == pytest.approx(landed, abs=1e-12)
        a, W = balance(*second_layer(exact, W, 1e-3))
        assert one.at(arm, "stage=2", "mse") == pytest.approx(float(exact.loss(a, W)), abs=1e-12)
        for place, lam in enumerate((0.1, 0.05)):
            strength = lam if regularised else 0.0
            a, W = descend(exact, a, W, strength, 60, 0.1)
            loss, own = float(exact.loss(a, W)), measure(a, W, teacher, phi)
            assert one.ends(arm, "mse")[place] == pytest.approx(loss, abs=1e-10)
            whole = loss + strength * float(penalty(a, W))
            assert one.ends(arm, "objective")[place] == pytest.approx(whole, abs=1e-10)
            assert one.ends(arm, "far_10")[place] == pytest.approx(own.far[1], abs=1e-6)
            assert one.ends(arm, "weighted_angle")[place] == pytest.approx(
                own.weighted_angle, abs=1e-5
            )
            if regularised:
                certificate = certify(exact, a, W, lam)
                assert one.certificates(arm, "largest")[place] == pytest.approx(
                    certificate.largest, abs=1e-6
                )
                law = minimiser(exact, lam)
                assert one.certificates(arm, "formula_mse")[place] == pytest.approx(law.mse)
        a, W = descend(exact, a, W, 0.0, 20, 0.1)
        assert one.final(arm, "mse") == pytest.approx(float(exact.loss(a, W)), abs=1e-10)
    assert abs(one.record["monte_carlo"]) < 5 and one.record["gradient_error"] < 1e-10
    assert list(one.lam) == [0.1, 0.05]


def test_it_is_judged_with_every_figure(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="b", gamma0=(0.1, 1.0), cost=(4, 6), width=6)
    run = runs.load(local_analysis.run(settings).path)
    found = EXPERIMENTS["local-analysis"].judge(run)
    figures = [figure for section in found.sections for figure in section.figures]
    assert {Path(str(one.png)).stem for one in figures} == {
        "laws", "stages", "neurons", "certificate", "bridge", "cost",
    }  # fmt: skip
    assert all(Path(str(one.png)).exists() for one in figures)
    titles = [table.title for table in found.tables]
    assert titles == [
        "Claims",
        "Arms by phase",
        "Claims, bridge",
        "Early, along the way, late",
        "Cost",
    ]
    # Every seed stands in its column, and nothing has a mark: these are no preset's settings.
    rows = found.tables[0].rows
    assert all(str(row["seeds 3, 4"]).count(",") == 1 for row in rows)
    assert all(row["measured"].mark is None for row in rows)  # type: ignore[union-attr]
    assert "Not judged" in found.summary and "6 neurons for 2 of the teacher" in found.summary
    # The bridge: mean-field students by hand, to the end of the flow and of the first lambda.
    own = measures.bridges(run)[0]
    teacher, phi = draw_teacher(4, 2, 50.0, 3), tail("relu")
    exact = Population(teacher, phi)
    field = MeanField(1.0, 6, 4)
    a, W = field.start(3)
    assert own.last("gamma0 = 1", "start", "mse") == pytest.approx(exact.scale)
    a, W = descend(exact, a, W, 0.0, 20, tuple(map(torch.tensor, field.rates(2.0))))  # type: ignore
    assert own.last("gamma0 = 1", "along", "mse") == pytest.approx(float(exact.loss(a, W)))
    a, W = balance(a, W)
    for lam in (0.1, 0.05):
        a, W = descend(exact, a, W, lam, 60, 0.1)
    assert own.last("gamma0 = 1", "late", "mse") == pytest.approx(float(exact.loss(a, W)))
    assert len(at_stages(own, "one large step", "capture")) == 5


def test_samples_and_other_nonlinearities(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="c", activation=("abs",), samples=(0, 12), seed=(0,),
        arms=("schedule", "no-regularisation"), final_steps=0, steps=20,
    )  # fmt: skip
    run = runs.load(local_analysis.run(settings).path)
    found = measures.descents(run)
    assert [(one.activation, one.samples) for one in found] == [("abs", 0), ("abs", 12)]
    # lambda is in units of ReLU's power: |z| has four times that.
    assert found[0].lam == pytest.approx([0.4, 0.2])
    sampled = found[1].looks("schedule")
    assert sampled["test_mse"].is_not_null().all() and sampled["mse"].is_finite().all()
    assert "monte_carlo" not in found[1].record
    table = verdict.side_by_side_table([[one] for one in found])
    assert [row["samples"] for row in table.rows] == ["exact", 12]
    assert "12 samples are fewer than d^2 = 16" in assumptions(expand(settings))[0]


def test_options_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="g", gamma0=(1.0, 0.1), arms=("no-regularisation", "schedule"),
        seed=(0,), final_steps=0, steps=30,
    )  # fmt: skip
    run = runs.load(local_analysis.run(settings).path)
    assert measures.bridges(run)[0].ways[1:] == ["gamma0 = 0.1", "gamma0 = 1"]
    (one,) = measures.descents(run)
    drawn = []
    monkeypatch.setattr(figures, "_plane", lambda ax, units, *_: drawn.append(units))
    figures.draw_neurons(run, one, expand(settings), "neurons")
    basis = draw_teacher(4, 2, 50.0, 0).basis
    for found, arm in zip(drawn[3:], (1, 0), strict=True):  # three stages, then without lambda
        W = run.weights(f"{one.cell},phase=1")["W"][arm]
        expected = ((W / W.norm(dim=1, keepdim=True)) @ basis).numpy()
        assert found == pytest.approx(expected)


def test_what_diverges_is_left_out_and_named(tmp_path: Path) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="f", rate=8.0, seed=(0,), final_steps=0, steps=100,
        arms=("schedule", "no-regularisation"),
    )  # fmt: skip
    found = local_analysis.judge(runs.load(local_analysis.run(settings).path))
    assert "Diverged, and left out: descent-relu,samples=0,seed=0." in found.summary
    assert not found.tables and not found.sections


class Killed(Exception):
    pass


@pytest.mark.parametrize("part", ["descent", "bridge"])
def test_a_killed_run_ends_with_the_same_bits(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(TINY, seed=(0,), arms=("schedule", "no-regularisation"), final_steps=0)
    if part == "bridge":
        settings = replace(settings, activation=(), gamma0=(0.3, 1.0))
    whole = local_analysis.run(replace(settings, runs=tmp_path, name="whole")).path
    place = f"ntkscale.experiments.local_analysis.{part}.save_piece"
    saves = [0]

    def kill(*arguments) -> None:
        save_piece(*arguments)
        saves[0] += 1
        if saves[0] in (1, 5, 14):
            raise Killed

    monkeypatch.setattr(place, kill)
    folder = replace(settings, runs=tmp_path, name="cut")
    for _ in range(3):
        with pytest.raises(Killed):
            local_analysis.run(folder)
    cut = local_analysis.run(folder).path
    for name in ("metrics.jsonl", "results.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    weights = sorted(path.name for path in (whole / "weights").glob("*.safetensors"))
    for name in weights:
        assert (cut / "weights" / name).read_bytes() == (whole / "weights" / name).read_bytes()


def test_what_is_violated_is_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(
        TINY, runs=tmp_path, name="d", least_angle=0.0, teachers=3, dimension=3, width=6,
        seed=(0,), steps=5, final_steps=0, samples=(8,),
    )  # fmt: skip
    said = assumptions(expand(settings))
    assert any("neurons for" in one for one in said) and any("samples" in one for one in said)
    local_analysis.run(settings)
    assert "before the run: 6 neurons for 3" in capsys.readouterr().err
    erf = replace(settings, activation=("erf",))
    assert any("second Hermite" in one for one in assumptions(erf))
    assert assumptions(expand(LocalAnalysisSettings())) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 7}, "--width 7 is odd"),
        ({"lam": (0.1, -1.0)}, "--lam -1.0"),
        ({"activation": ("sine",)}, "unknown activation"),
        ({"activation": ()}, "--gamma0"),
        ({"samples": (3,)}, "--samples 3"),
        ({"arms": ("neither",)}, "--arms needs schedule"),
        ({"least_angle": 95.0}, "--least-angle 95"),
        ({"least_angle": 85.0, "teachers": 6, "dimension": 3}, "take fewer, or a smaller angle"),
        ({"rate": 20.0}, "--rate 20 overshoots"),
        ({"device": "mps"}, "--device mps"),
        ({"seed": (0, 0)}, "--seed has a value twice"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(change: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        local_analysis.run(replace(TINY, runs=tmp_path / "runs", **change))
    assert not (tmp_path / "runs").exists()


def test_presets_are_what_they_say() -> None:
    for name in PRESETS:
        settings = expand(LocalAnalysisSettings(preset=name))  # type: ignore[arg-type]
        assert expand(settings) == settings
        assert is_preset(settings) and not is_preset(replace(settings, steps=7))
        assert local_analysis.groups(settings)
        quick = expand(LocalAnalysisSettings(preset=name, quick=True))  # type: ignore[arg-type]
        assert quick.steps == 1500 and len(quick.seed) == 2
    assert len(expand(LocalAnalysisSettings(preset="d20")).seed) == 5


def test_marks_are_on_every_seed() -> None:
    def mark(values: list[float]) -> str | None:
        found = claims._claim("w", "c", values, "below 1", lambda v: v < 1, judged=True)
        return found.found.mark

    assert mark([0.1, 0.9]) == "pass" and mark([0.1, 1.1]) == "fail"
    assert mark([0.1, float("nan")]) == "fail"
    open_ = claims._claim("w", "c", [0.1], "below 1", lambda v: v < 1, judged=False)
    assert open_.found.mark is None
    assert claims._claim("w", "c", [1e-60, 1e-50], judged=False).found.value == "1.0e-60 to 1.0e-50"


def test_help_fits_on_a_screen() -> None:
    done = subprocess.run(
        [sys.executable, "train.py", "local-analysis", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 45


def test_every_row_can_be_read_without_the_code(tmp_path: Path) -> None:
    settings = replace(TINY, runs=tmp_path, name="e", seed=(0,), steps=5, final_steps=0)
    path = local_analysis.run(settings).path
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert {row["arm"] for row in rows} == set(TINY.arms)
    assert [row["stage"] for row in rows if row["arm"] == "schedule"][:3] == [
        "start", "stage=1", "stage=2",
    ]  # fmt: skip
