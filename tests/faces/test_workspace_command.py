"""`python -m ntkscale.faces.workspace`: what it writes, and what it refuses in one sentence."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import wandb
import yaml

from ntkscale.faces import workspace
from ntkscale.reporting import workspace as saving
from ntkscale.reporting.workspace_charts import CHARTS

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed"
)


@needs_library
def test_the_definition_is_written_without_an_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dashboard.json"
    words = ["--entity", "me", "--project", "mine", "--json", str(file)]
    assert workspace.main(words) == 0
    said = json.loads(file.read_text())
    assert (said["entity"], said["project"]) == ("me", "mine") and said["spec"] and said["charts"]
    captured = capsys.readouterr()
    assert str(file) in captured.out and captured.err == ""


def test_a_sweep_goes_to_a_file_or_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.yaml"
    assert workspace.main(["--sweep", "circle-gamma0"]) == 0
    shown = capsys.readouterr().out
    assert workspace.main(["--sweep", "circle-gamma0", "--yaml", str(file)]) == 0
    assert file.read_text() == shown and yaml.safe_load(shown)["name"] == "circle-gamma0"
    assert f"wandb sweep {file}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--sweep ladder", ["--sweep ladder", "circle-gamma0"]),
        ("--yaml a.yaml", ["--yaml a.yaml", "--sweep"]),
        ("--sweep circle-gamma0 --json a.json", ["--sweep", "--yaml"]),
        ("--json a.json", ["--json a.json", "--entity"]),
        ("--entity me --json FOLDER", ["is a folder"]),
        ("--sweep circle-gamma0 --yaml FOLDER", ["is a folder"]),
        ("--project= --json a.json", ["--project"]),
        ("--axis epochs", ["--axis"]),
        ("--name x", ["--name"]),
    ],
)
def test_refusals(
    words: str, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = workspace.main(words.replace("FOLDER", str(tmp_path)).split())
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1, error
    assert all(part in error for part in said), error


def test_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for words in (["--entity", "me", "--json", str(tmp_path / "a.json")], ["--entity", "me"]):
        assert workspace.main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "ntkscale[dashboards]" in error
    assert not list(tmp_path.iterdir())


@needs_library
def test_without_network_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(settings: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(saving, "sign_in", nobody)
    assert workspace.main(["--entity", "me"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "refused" in error and "--json FILE" in error


class FakeApi:
    """W&B's interface as far as saving needs it."""

    default_entity = "me"
    charts: ClassVar[list[str]] = []
    views: ClassVar[list[dict[str, Any]]] = []

    def __init__(self) -> None:
        self._service_api = SimpleNamespace(
            execute_graphql=self.execute, app_url="https://wandb.test"
        )

    def execute(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if variables["projectName"] == "closed":
            raise PermissionError("permission denied\nand more")
        self.views.append(variables)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    def create_custom_chart(self, *, entity: str, name: str, **_: Any) -> None:
        if name in self.charts:
            raise ValueError("it exists")
        self.charts.append(name)

    def runs(self, path: str, **_: Any) -> Iterator[SimpleNamespace]:
        if path.endswith("/new"):
            raise ValueError("Could not find project")
        yield SimpleNamespace(id="run1")


@needs_library
def test_it_is_saved_with_its_charts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saving, "sign_in", lambda settings: None)
    monkeypatch.setattr(wandb, "Api", FakeApi)
    assert workspace.main(["--project", "mine"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "https://wandb.test/me/mine?nw=abc\n" and captured.err == ""
    assert FakeApi.charts == [chart.name for chart in CHARTS]
    view = FakeApi.views[-1]
    assert (view["entityName"], view["projectName"]) == ("me", "mine")
    assert '"run1:theory_mse":"dashed"' in view["spec"]

    assert workspace.main(["--project", "new"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("/me/new?nw=abc\n")
    assert captured.err.count("\n") == len(CHARTS) and "it exists" in captured.err

    assert workspace.main(["--entity", "you", "--project", "closed"]) == 2
    error = capsys.readouterr().err
    assert "you/closed: permission denied" in error
