from pathlib import Path

import pytest

from ntkscale.faces import train
from tests.reference import wandb_record


def test_figures_are_recorded_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["adversarial-kernel", "--preset", "digits", "--parts", "features", "--size", "30"]
    command += ["--test-size", "20", "--attacked", "5", "--top", "5", "--name", "a", "--seed", "0"]
    command += ["--runs", str(tmp_path)]
    folder = tmp_path / "adversarial-kernel" / "a"
    for _ in range(2):
        assert train.main(command) == 0
        (history,) = wandb_record.history(folder / "wandb")
        drawn = {path.stem for path in (folder / "figures").glob("*.png")}
        assert drawn and {f"figures/{stem}.path" for stem in drawn} <= history.keys()
    capsys.readouterr()
