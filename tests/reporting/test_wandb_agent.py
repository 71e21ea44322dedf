"""Under a sweep's agent: its run is the verdict, and cells do not fight over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ntkscale.reporting import WandbLog
from ntkscale.reporting.wandb_agent import agents_run
from tests.reference import wandb_record


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # so that whatever becomes of it is undone
        monkeypatch.delenv(name)
    agents_run.cache_clear()
    yield
    agents_run.cache_clear()


def record(folder: Path, job: str) -> WandbLog:
    return WandbLog(
        "offline", folder, name=folder.name, group="g", config={"gamma0": [0.3], "width": 8},
        job="verdict" if job == "verdict" else "cell",
    )  # fmt: skip


def test_the_verdict_is_the_agents_run_and_cells_are_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = tmp_path / "config-abc123.yaml"
    parameters.write_text("wandb_version: 1\n\ngamma0:\n  value: 0.3\n")
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    monkeypatch.setenv("WANDB_SWEEP_ID", "swp456")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
    monkeypatch.setenv("WANDB_PROJECT", "of-the-sweep")
    logs = [record(tmp_path / name, "cell") for name in ("a", "b")]
    logs += [record(tmp_path / name, "verdict") for name in ("v", "w")]
    for log in logs:
        log.log({"step": 1, "time": 0.1, "loss": 1.0})
        log.finish()
    a, b, v, w = (wandb_record.run(tmp_path / name) for name in "abvw")
    assert (v.run_id, v.sweep_id) == ("abc123", "swp456")
    assert len({one.run_id for one in (a, b, v, w)}) == 4
    assert [one.sweep_id for one in (a, b, w)] == [""] * 3
    assert {one.project for one in (a, b, v, w)} == {"of-the-sweep"}
    configs = [{item.key: item.value_json for item in one.config.update} for one in (a, v)]
    assert [config["gamma0"] for config in configs] == ["[0.3]", "0.3"]
    assert configs[1]["width"] == "8"
    assert [one.job_type for one in (a, v)] == ["cell", "verdict"]
    for name in "abvw":
        assert wandb_record.history(tmp_path / name)[0]["loss"] == 1.0


def test_a_run_that_is_named_by_hand_is_the_verdict_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    for name, job in (("a", "cell"), ("b", "cell"), ("v", "verdict")):
        record(tmp_path / name, job).finish()
    ids = [wandb_record.run(tmp_path / name).run_id for name in "abv"]
    assert ids[2] == "mine" and len(set(ids)) == 3
    assert wandb_record.run(tmp_path / "v").project == "ntkscale"


def test_without_an_agent_nothing_is_taken(tmp_path: Path) -> None:
    assert agents_run() is None
    record(tmp_path / "v", "verdict").finish()
    assert wandb_record.run(tmp_path / "v").sweep_id == ""
