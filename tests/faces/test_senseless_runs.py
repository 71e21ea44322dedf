"""Runs whose files are sound and whose numbers make no sense: an answer, or one sentence."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from ntkscale.faces import analyze, train

COMMANDS = {
    "circle": "circle --beta 0.5 --width 32 --angles 8 --points 32 --window 1 5 --steps 80 "
    "--wandb disabled --workers 1",
    "coordinate-check": "coordinate-check --width 16 32 64 --depth 2 --seed 0 1 --points 16",
}


@dataclass
class Content:
    """What the files of a run say, to be changed and written again without a seal.

    Attributes:
        config, results: of the JSON files; results by cell.
        rows, timings: of the files of JSON lines.
        kernels: what becomes of every kept kernel's tensors.
    """

    config: dict[str, Any]
    results: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    kernels: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=lambda kept: kept)

    @classmethod
    def of(cls, run: Path) -> "Content":
        def lines(name: str) -> list[dict[str, Any]]:
            return [json.loads(line) for line in (run / name).read_text().splitlines()]

        config, results = (
            json.loads((run / name).read_text()) for name in ("config.json", "results.json")
        )
        return cls(config, results["results"], lines("metrics.jsonl"), lines("timing.jsonl"))

    def write(self, run: Path, *, finished: bool = True) -> None:
        results = {"version": 1, "finished": finished, "results": self.results}
        for name, content in (("config.json", self.config), ("results.json", results)):
            (run / name).write_text(json.dumps(content))
        for name, lines in (("metrics.jsonl", self.rows), ("timing.jsonl", self.timings)):
            (run / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        manifest = run / "kernels" / "manifest.json"
        listed = json.loads(manifest.read_text()) if manifest.exists() else {"files": {}}
        for key, entry in listed["files"].items():
            path = manifest.parent / key
            save_file({k: v.clone() for k, v in self.kernels(load_file(path)).items()}, path)
            raw = path.read_bytes()
            entry |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            manifest.write_text(json.dumps(listed))

    def floats(self, change: Callable[[float], float | None]) -> None:
        """Change every recorded number but times and what names a cell."""
        named = {"time", *(key for record in self.results.values() for key in record)}
        for row in self.rows:
            for key, value in row.items():
                if isinstance(value, float) and key not in named:
                    row[key] = change(value)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    for words in COMMANDS.values():
        assert train.main([*words.split(), "--runs", str(home), "--name", "run"]) == 0
    return home


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copied(experiment: str) -> Path:
        kept = shutil.ignore_patterns("figures", "report.html")
        shutil.copytree(runs / experiment / "run", tmp_path / "run", ignore=kept)
        return tmp_path / "run"

    return copied


def negative(run: Content) -> None:
    run.floats(lambda value: -abs(value))


def no_steps(run: Content) -> None:
    run.rows = [row for row in run.rows if row["step"] == 0]


def times_backwards(run: Content) -> None:
    run.rows = run.rows[::-1]


def times_missing(run: Content) -> None:
    run.rows = [{**row, "time": None} for row in run.rows]


def cell_without_rows(run: Content) -> None:
    run.rows = [row for row in run.rows if row["cell"] != run.rows[-1]["cell"]]


def cells_without_names(run: Content) -> None:
    del run.rows[-1]["cell"]


def quantity_missing(run: Content) -> None:
    run.rows = [
        {k: v for k, v in row.items() if k not in ("mse", "rms_change")} for row in run.rows
    ]


def lists_empty(run: Content) -> None:
    run.rows = [{k: [] if isinstance(v, list) else v for k, v in row.items()} for row in run.rows]


def lists_of_nothing(run: Content) -> None:
    run.rows = [
        {k: [None] * len(v) if isinstance(v, list) else v for k, v in row.items()}
        for row in run.rows
    ]


def summary_bare(run: Content) -> None:
    run.results = {cell: {} for cell in run.results}


def kernels_not_finite(run: Content) -> None:
    run.kernels = lambda kept: {k: v / 0 for k, v in kept.items()}


def kernels_uneven(run: Content) -> None:
    run.kernels = lambda kept: {k: v[:-1] for k, v in kept.items()}


def kernels_negative(run: Content) -> None:
    run.kernels = lambda kept: {k: -v for k, v in kept.items()}


def settings_out_of_range(run: Content) -> None:
    run.config["beta"] = [-1.0]


def of_another_command(run: Content) -> None:
    run.config["experiment"] = "compute-optimal"


def changed(run: Path, change: Callable[[Content], None], *, finished: bool = True) -> Path:
    """The same run with other content."""
    content = Content.of(run)
    change(content)
    content.write(run, finished=finished)
    return run


@pytest.mark.parametrize(
    ("experiment", "change"),
    [
        *(("circle", change) for change in (
            no_steps, times_backwards, times_missing, cell_without_rows, cells_without_names,
            quantity_missing, lists_empty, lists_of_nothing, summary_bare, kernels_not_finite,
            kernels_uneven, kernels_negative, settings_out_of_range, of_another_command,
        )),
        ("coordinate-check", quantity_missing),
        ("coordinate-check", summary_bare),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    experiment: str,
    change: Callable[[Content], None],
    copied: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = changed(copied(experiment), change)
    assert analyze.main([str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(".\n"), said
    assert str(run) in said and "; restore it from a copy" in said, said
    assert not (run / "report.html").exists()


def losses_lost(run: Content) -> None:
    """As of a network that diverges at its first step."""
    begun = {row["cell"]: dict(row) for row in reversed(run.rows)}
    run.floats(lambda _: None)
    run.rows = [begun.pop(row["cell"], row) for row in run.rows]


def as_if_being_written(run: Content) -> None:
    """A kernel is there before its row; wall times of an earlier version beside it."""
    run.rows = run.rows[:-1]
    run.timings = [{"seconds": "long"}, {}]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("experiment", "change", "answer", "note"),
    [
        ("circle", losses_lost, "the richest network did not get through the window", ""),
        ("circle", as_if_being_written, "tracker was not recorded", ""),
        ("coordinate-check", losses_lost, "width", ""),
        ("coordinate-check", negative, "width", "not everything could be worked out"),
    ],
)
def test_what_may_happen_to_a_run_has_an_answer(
    experiment: str,
    change: Callable[[Content], None],
    answer: str,
    note: str,
    copied: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = changed(copied(experiment), change, finished=False)
    code = analyze.main([str(run)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert answer in captured.out
    assert captured.err.count("\n") == bool(note) and note in captured.err, captured.err
    assert (run / "report.html").exists()
