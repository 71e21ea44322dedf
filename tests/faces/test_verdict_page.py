"""`analyze.py RUN … --report FILE`: one page whose first section answers for every run."""

from pathlib import Path

import pytest

from ntkscale.experiments.answer import COLUMNS
from ntkscale.faces import analyze, train

IMAGES = (
    "images --size 100 --test-size 20 --width 16 --gamma0 0.05 1 --batch-size 0 --steps 30 "
    "--probe 10 --spectrum 60 --wandb disabled"
)
CHECK = "coordinate-check --width 8 16 32 --seed 0 1 --points 16"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert train.main(f"{IMAGES} --runs {folder} --name run".split()) == 0
    return folder / "images" / "run"


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert train.main(f"{CHECK} --runs {folder} --name widths".split()) == 0
    return folder / "coordinate-check" / "widths"


def sections(page: str) -> list[str]:
    return [part.split("<")[0] for part in page.split("<h2>")[1:]]


def test_runs_of_any_experiment_on_one_page(
    images: Path, check: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.html"
    assert analyze.main([str(images), str(check), "--report", str(target)]) == 0
    page, said = target.read_text(), capsys.readouterr().out
    assert sections(page)[0] == "Verdict"
    first = page.split("<section")[1]
    for column in COLUMNS:
        assert column in first and all(word in said for word in column.split())
    assert "digits, mlp of width 16, gamma0 = 1 against 0.05" in first
    assert "<td>images/run</td>" in first and "<td>coordinate-check/widths</td>" in first
    assert "yes, by one seed" in first or "no, by one seed" in first
    # An experiment that asks none of the questions has its row all the same.
    assert "cannot be told: this command does not ask" in first
    assert "images/run\n" in said and "coordinate-check/widths\n" in said
    assert any(heading.startswith("Images: run: ") for heading in sections(page))


def test_where_the_page_goes(check: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert analyze.main(["--report", str(target), str(check)]) == 0
    assert target.exists()
    for words in (["--report", str(check), str(check)], [str(check), "--report"], [str(check)]):
        (check / "report.html").unlink()
        assert analyze.main(words) == 0
        assert (check / "report.html").exists()


def test_a_misspelled_run_is_no_page(
    check: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze.main(["--report", str(tmp_path / "typo"), str(check)]) == 2
    assert "typo is no folder" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_run_that_asks_nothing_has_no_empty_table(check: Path) -> None:
    assert analyze.main([str(check)]) == 0
    page = (check / "report.html").read_text()
    assert "does not ask" not in page
    assert sections(page)[0] == "In numbers"


@pytest.mark.parametrize("command", [["analyze"], ["train", "images"]])
def test_help_fits_a_screen(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main = {"analyze": analyze.main, "train": train.main}[command[0]]
    with pytest.raises(SystemExit) as stop:
        main([*command[1:], "--help"])
    assert stop.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) <= 45
