"""Real runs against the dashboard: no panel without a run that fills it, no key without a panel."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ntkscale import runs
from ntkscale.experiments import (
    Answer,
    Verdict,
    adversarial_kernel,
    adversarial_training,
    circle,
    global_convergence,
    images,
    local_analysis,
)
from ntkscale.faces.verdict_log import log_verdict
from ntkscale.reporting import Entry, Picture, Section, Table, build_workspace, definition
from ntkscale.schema import QUANTITIES
from tests.reference import wandb_record

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed"
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Keys of the records of tiny runs and of a verdict; parts of a value without their names."""
    home = tmp_path_factory.mktemp("runs")
    here: dict[str, Any] = {"runs": home, "workers": 1, "wandb": "offline", "seed": (0,)}
    one = circle.run(
        circle.CircleSettings(lazy=0, width=(32,), angles=8, points=32, steps=30, **here)
    )
    assert one is not None
    log_verdict("offline", runs.load(one.path), verdict(home))
    images.run(
        images.ImagesSettings(
            size=40, test_size=10, width=(8,), gamma0=(1.0,), steps=3, probe=10, spectrum=20, **here
        )
    )
    adversarial_training.run(
        adversarial_training.AdversarialTrainingSettings(
            preset="digits", size=20, test_size=10, width=8, epochs=1.0, batch_size=20, probe=8,
            top=3, train_steps=1, eval_steps=1, attack=("pgd",), linear_spawn=(0.0,),
            linear_epochs=1.0, **here,
        )
    )  # fmt: skip
    adversarial_kernel.run(
        adversarial_kernel.AdversarialKernelSettings(
            preset="digits", parts=("transfer",), pairs=("3-8",), size=20, test_size=10, attacked=5,
            transfer_size=10, transfer_time=3.0, times=(3.0,), width=(6,), gamma0=(2.0,),
            ladder_width=6, top=3, typed=("parts",), **here,
        )
    )  # fmt: skip
    global_convergence.run(
        global_convergence.GlobalConvergenceSettings(
            data="xor", size=(8,), test_size=8, dimension=(4,), label=(0.7,), depth=(1,),
            width=(8,), activation=("relu",), scaling=("mean-field",), horizon=20, check=0, **here,
        )
    )  # fmt: skip
    local_analysis.run(
        local_analysis.LocalAnalysisSettings(
            dimension=3, teachers=2, width=6, lam=(0.1,), steps=3, final_steps=0, rate=0.1,
            arms=("schedule",), gamma0=(1.0,), horizon=4.0, **here,
        )
    )  # fmt: skip
    found: set[str] = set()
    for file in home.rglob("offline-run-*"):
        found |= {key.partition(".")[0] for row in wandb_record.history(file) for key in row}
        found |= wandb_record.summary(file).keys()
    return {key.partition(".")[0] for key in found if not key.startswith("_")}


def verdict(folder: Path) -> Verdict:
    Image.new("RGB", (4, 3)).save(folder / "exponents.png")
    table = Table("Exponents", ["exponent"], [{"exponent": Entry(0.5, (0.4, 0.6), "pass")}])
    answer = Answer("circle", given=(1.5, 0.5), gains=[0.1, 0.2], ratios=[0.5, 0.6])
    figure = Picture(folder / "exponents.png", "exponents", "")
    return Verdict("t", "Found.", [table], [Section("s", figures=[figure])], [answer])


def drawn() -> Iterator[str]:
    """Regular expressions of the keys that the dashboard shows, in panels and table of runs."""
    spec = definition(build_workspace("me", "p"))["spec"]["section"]
    for section in spec["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            kind, config = panel["viewType"], panel["config"]
            keys = [*config.get("metrics", []), *config.get("mediaKeys", [])]
            if kind == "Scatter Plot":
                keys += [config["xAxis"], config["yAxis"]]
            elif kind == "Vega2":
                (query,) = config["userQuery"]["queryFields"]
                keys.append(query["fields"][0]["args"][0]["value"])
            elif kind == "Weave":
                keys.append(config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"])
            yield from (exactly(re.sub("^summary(_metrics)?[.:]", "", key)) for key in keys)
            if "metricRegex" in config:
                yield config["metricRegex"]
    for column in spec["runSets"][0]["runFeed"]["columnOrder"]:
        if column.startswith("summary:"):
            yield exactly(column.removeprefix("summary:"))


def exactly(key: str) -> str:
    return f"^{re.escape(key)}$"


def test_no_panel_is_empty(logged: set[str]) -> None:
    assert [one for one in drawn() if not any(re.search(one, key) for key in logged)] == []


def test_what_is_logged_is_drawn(logged: set[str]) -> None:
    shown = list(drawn())
    left = {key for key in logged if not any(re.search(one, key) for one in shown)}
    # Intervals, and what a verdict says in words, stand in the table of answers.
    words = {"said", "task", "helps", "mse_ratio"}
    beside = {key for key in left if key in words or key.endswith(("_low", "_high"))}
    assert left - beside == {"step", "time", "kernel_pictures/time"}


def test_every_quantity_of_the_schema_can_be_logged(logged: set[str]) -> None:
    assert QUANTITIES.keys() <= {key.partition("/")[0] for key in logged}
