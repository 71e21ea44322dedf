"""Bad input is one sentence and exit code 2, and leaves nothing half-written."""

import json
from pathlib import Path

import numpy as np
import pytest

from ntkscale.faces import analyze, train

TINY = "circle --beta 0.5 --lazy 0 --width 32 --angles 8 --points 32 --steps 30 --wandb disabled"


def refused(main, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence on stderr, after checking that there is one, and the exit code."""
    try:
        code = main(words.split())
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("circle --wdth 3", ["unknown option --wdth", "did you mean --width"]),
        ("circle --width -5", ["--width -5", "above 0"]),
        ("circle --width 100", ["width", "256"]),
        ("circle --q 0.5", ["--q 0.5", "above 1/2"]),
        ("circle --beta -0.5", ["--beta -0.5", "above 0"]),
        ("circle --gamma0 0", ["--gamma0 0", "above 0"]),
        ("circle --seed", ["--seed is empty"]),
        ("circle --window 10 5", ["--window 10.0 5.0"]),
        ("circle --step-fraction 1.5", ["--step-fraction 1.5", "edge of stability"]),
        ("circle --width many", ["--width", "many"]),
        ("circle --workers -1", ["--workers -1"]),
        ("circle --seed 0 0", ["--seed", "twice"]),
        ("circle --q 0.8 --beta 0.3", ["--q", "--beta"]),
        ("circle --no-bias --init gaussian", ["--window", "odd modes"]),
        ("circle --points 16", ["--points 16", "32"]),
        ("circle --lazy nan", ["--lazy nan"]),
        ("circle --power 4", ["--power 4", "1, 2 or 3"]),
        ("circle --depth 1 2", ["--init ring", "--init gaussian"]),
        ("circle --width 256 256", ["--width", "twice"]),
        ("circle --phases aligned wrong", ["wrong"]),
        (
            "scaling-model --parts foo",
            ["'foo'", "('exponents', 'phases', 'curves', 'sgd', 'data');"],
        ),
        ("dmft --device mps", ["--device mps", "leave it out"]),
        ("dmft --name ../x", ["--name ../x", "--runs"]),
        ("kernel-evolution --probe 5000", ["--probe 5000", "lower it"]),
        ("kernel-evolution --spacing 20", ["--spacing 20", "lower it"]),
        ("kernel-evolution --children 1", ["--children 1", "0 for none"]),
        ("circle --draws 0", ["--draws 0"]),
        ("circle --horizon -1", ["--horizon -1"]),
        ("circle --preset activations --beta 0.3", ["--preset activations", "--q"]),
        ("images --batch-size -3", ["--batch-size -3"]),
        ("images --parameterization ntk --gamma0 2 3", ["--parameterization ntk", "--gamma0"]),
        ("circle --device cuda:x", ["--device"]),
        ("images --data nowhere", ["--data nowhere", "fashion-mnist"]),
        ("images --data cifar10 --data-dir NOWHERE", ["cifar10", "--data-dir", "--download"]),
        ("images --data fashion-mnist --data-dir NOWHERE", ["apt install", "--download"]),
        ("images --data NOWHERE/mine.npz", ["mine.npz"]),
        ("images --classes 3", ["--classes"]),
        ("images --activation sine", ["sine"]),
        ("images --model cnn --size 100 --width 0", ["--width 0"]),
        ("images --steps 10 --warmup 20", ["warmup"]),
        ("coordinate-check --width 64 128", ["--width", "three"]),
        ("squares", ["squares is no experiment", "circle"]),
        ("", ["no experiment was named"]),
    ],
)
def test_train_refuses(
    words: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words.replace("NOWHERE", str(tmp_path / "nowhere"))
    if words.count(" ") and words.split()[0] in ("circle", "images", "coordinate-check"):
        words += f" --runs {tmp_path / 'runs'}"
    sentence = refused(train.main, words, capsys)
    for part in said:
        assert part in sentence
    assert not (tmp_path / "runs").exists()


def test_nan_in_ones_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.ones((20, 3))
    x[7, 2] = np.nan
    np.savez(tmp_path / "mine.npz", inputs=x, targets=np.ones(20))
    words = f"images --data {tmp_path / 'mine.npz'} --runs {tmp_path / 'runs'}"
    assert "nan at index [7, 2]" in refused(train.main, words, capsys)
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    sentence = refused(train.main, f"{TINY} --runs {tmp_path / 'file'}", capsys)
    assert "is a file, not a folder" in sentence


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert train.main(f"{TINY} --runs {runs} --name run".split()) == 0
    return runs / "circle" / "run"


def test_a_folder_of_another_configuration(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(finished.rglob("*"))
    words = f"{TINY.replace('--steps 30', '--steps 40')} --runs {finished.parents[1]} --name run"
    sentence = refused(train.main, words, capsys)
    assert "steps" in sentence
    assert "30 -> 40" in sentence
    assert sorted(finished.rglob("*")) == before


def test_the_report_is_there_and_the_verdict_can_be_had_again(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (finished / "report.html").exists()
    assert analyze.main([str(finished), str(finished), "--report", str(tmp_path / "r.html")]) == 0
    said = capsys.readouterr().out
    assert "Exponents in time" in said
    assert str(tmp_path / "r.html") in said
    assert "<img" in (tmp_path / "r.html").read_text()


def test_analyze_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no folder" in refused(analyze.main, str(tmp_path / "none"), capsys)
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused(analyze.main, str(tmp_path / "empty"), capsys)
    assert "no run was named" in refused(analyze.main, "", capsys)


@pytest.mark.parametrize("damage", ["metrics", "kernel", "config", "unknown"])
def test_analyze_refuses_a_damaged_run(
    damage: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    if damage == "metrics":
        lines = (copy / "metrics.jsonl").read_text().splitlines()
        lines[1] = lines[1][:20]
        (copy / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    elif damage == "kernel":
        path = next((copy / "kernels").rglob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-8] + b"damaged!")
    elif damage == "config":
        (copy / "config.json").write_text('{"experiment": "cir')
    else:
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, "experiment": "squares"}))
    sentence = refused(analyze.main, str(copy), capsys)
    assert str(copy) in sentence
