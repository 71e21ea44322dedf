"""The verdict of a finished run is one W&B run, told from those of its cells."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ntkscale.experiments import Answer, Experiment, Recorded, Verdict
from ntkscale.faces import train
from ntkscale.faces.verdict_log import log_verdict
from ntkscale.reporting import Entry, Picture, Section, Table
from ntkscale.reporting.workspace_charts import ANSWER_COLUMNS, NUMBER_COLUMNS
from ntkscale.runs import Run, RunFolder, open_run
from ntkscale.scaling import source_capacity
from tests.reference import wandb_record


@dataclass(frozen=True)
class Settings(Recorded):
    """Of an experiment that draws one figure."""


def test_a_command_records_its_verdict_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(settings: Settings) -> RunFolder:
        with open_run(settings.runs / "a", {"experiment": "drawn", "seed": [0]}) as folder:
            if not folder.finished:
                folder.append({"cell": "one", "step": 0, "mse": 1.0})
                folder.finish()
        return folder

    def judge(run: Run) -> Verdict:
        file = run.path / "figures" / "shares.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(file)
        return Verdict("t", "Found.", [], [Section("s", figures=[Picture(file, "shares", "")])])

    monkeypatch.setattr(
        train, "EXPERIMENTS", {"drawn": Experiment(Settings, lambda asked: asked, work, judge)}
    )
    for _ in range(2):
        train._train(Settings(runs=tmp_path))
        (row,) = wandb_record.history(tmp_path / "a")  # finds one record alone
        assert row["figures.caption"] == "shares"
        description = wandb_record.run(tmp_path / "a")
        assert (description.display_name, description.job_type) == ("verdict", "verdict")
        assert description.run_group == "drawn/a"
    capsys.readouterr()


def answer(task: str, **known: Any) -> Answer:
    k = np.arange(1.0, 501.0)
    edges = np.append(k, 501.0) ** -0.75
    start = source_capacity(k**-1.5, edges[:-1] - edges[1:], tail=float(edges[-1]))
    return Answer(task, starts=[start], **known)


def record(folder: Path, answers: list[Answer], tables: list[Table]) -> Path:
    Image.new("RGB", (4, 3)).save(folder / "exponents.png")
    figure = Picture(folder / "exponents.png", "exponents", "")
    metrics = pl.DataFrame(
        {
            "cell": ["one"] * 9 + ["two"],
            "time": [float(t) for t in range(9)] + [None],
            "kernel_eigenvalues": [[2.0 + t, 1.0] for t in range(9)] + [[3.0, 1.0]],
        }
    )
    run = SimpleNamespace(
        path=folder / "name", config={"experiment": "circle", "width": [8]}, metrics=metrics
    )
    verdict = Verdict("t", "Found.", tables, [Section("s", figures=[figure])], answers)
    log_verdict("offline", cast(Run, run), verdict)
    return folder / "name"


def rows(folder: Path, key: str) -> list[dict[str, Any]]:
    (file,) = folder.rglob(f"{key}_*.table.json")
    table = json.loads(file.read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def test_the_summary_says_regime_exponents_and_claims(tmp_path: Path) -> None:
    table = Table(
        "Exponents",
        ["gamma0", "seed", "found", "note"],
        [
            {"gamma0": "1", "seed": 3, "found": Entry(0.5, (0.4, 0.7), "pass"), "note": "-"},
            {"gamma0": "2", "seed": 3, "found": Entry(0.9, mark="fail"), "note": ""},
            {"gamma0": "4", "seed": 3, "found": Entry(None, mark="rough")},
        ],
    )
    tasks = [answer("circle", gains=[0.1, 0.2, 0.3], ratios=[0.5, 0.6, 0.55], equal_time=9.0)]
    folder = record(tmp_path, tasks, [table])
    said = wandb_record.summary(folder)
    assert said["verdict"] == "1 of 3 claims hold, 1 too rough to judge"
    assert (said["claims_pass"], said["claims_fail"], said["claims_rough"]) == (1, 1, 1)
    assert said["said"] == "Found." and said["regime"] == "hard" and said["task"] == "circle"
    assert said["alpha"] == pytest.approx(1.5, rel=0.02)
    assert said["beta_low"] <= said["beta"] <= said["beta_high"]
    assert said["exponent_gain"] == pytest.approx(0.2)
    assert said["exponent_gain_low"] < 0.2 < said["exponent_gain_high"]
    assert said["mse_ratio_low"] < 0.55 < said["mse_ratio_high"]

    # What `wandb sync` needs of the tables lies with the run.
    assert list((folder / "wandb" / "tables").rglob("tmp*"))
    numbers = rows(folder, "verdict_numbers")
    assert list(numbers[0]) == list(NUMBER_COLUMNS)
    found = [row for row in numbers if row["quantity"] == "found"]
    assert [(row["value"], row["low"], row["high"], row["mark"]) for row in found] == [
        (0.5, 0.4, 0.7, "pass"),
        (0.9, None, None, "fail"),
    ]
    assert found[1]["row"] == "gamma0 2, seed 3" and found[1]["run"] == "circle/name"
    (own,) = rows(folder, "verdict_answers")
    assert list(own) == list(ANSWER_COLUMNS) and own["helps"] == "yes, by 3 seeds"
    spectra = rows(folder, "verdict_spectra")
    assert {row["time"] for row in spectra} == {0.0, 2.0, 4.0, 6.0, 8.0}
    assert [row["eigenvalue"] for row in spectra if row["time"] == 4.0] == [6.0, 1.0]
    assert {row["cell"] for row in spectra} == {"one"}


def test_several_tasks_are_numbered_and_nothing_is_judged_without_marks(tmp_path: Path) -> None:
    by_epoch = Table(
        "By spawn time", ["spawn [epochs]", "barrier"], [{"spawn [epochs]": "2", "barrier": 0.25}]
    )
    folder = record(tmp_path, [answer("a"), Answer("b", given=(1.5, 1.5))], [by_epoch])
    said = wandb_record.summary(folder)
    assert said["verdict"] == "nothing is judged"
    assert (said["regime_01"], said["regime_02"], said["task_02"]) == ("hard", "super-easy", "b")
    assert said["regime"] == "hard; super-easy" and "alpha" not in said and "beta_01" in said
    (number,) = [r for r in rows(folder, "verdict_numbers") if r["quantity"] == "barrier"]
    assert (number["spawn"], number["value"]) == (2.0, 0.25)
