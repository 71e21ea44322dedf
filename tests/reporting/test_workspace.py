"""The dashboard is made from the schema, and serialises without a network."""

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ntkscale.reporting import build_workspace, definition, wandb_log
from ntkscale.reporting.workspace import COLUMNS
from ntkscale.reporting.workspace_charts import (
    ANSWER_COLUMNS,
    ANSWERS,
    CHARTS,
    NUMBER_COLUMNS,
    NUMBERS,
    SPECTRA,
    SPECTRUM_COLUMNS,
)
from ntkscale.schema import QUANTITIES, SECTIONS

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed"
)
TABLES = {ANSWERS: ANSWER_COLUMNS, NUMBERS: NUMBER_COLUMNS, SPECTRA: SPECTRUM_COLUMNS}


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return definition(build_workspace("me", "of-mine", dashed_runs=["run1", "run2"]))


def panels(said: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for section in said["spec"]["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            yield section["name"].lower(), panel["viewType"], panel["config"]


def lines(said: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Section, quantity and settings of every line plot of a recorded quantity."""
    for section, kind, config in panels(said):
        if kind == "Run History Line Plot":
            names = config.get("metrics", [])
            names = (
                [*names, config["metricRegex"].lstrip("^")] if "metricRegex" in config else names
            )
            for name in dict.fromkeys(name.partition("/")[0] for name in names):
                yield section, name, config


def fields(spec: Any) -> Iterator[str]:
    """Columns that a chart reads."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == "field" and isinstance(value, str):
                yield value
            elif isinstance(value, str) and "datum." in value:
                yield from re.findall(r"datum\.(\w+)", value)
            else:
                yield from fields(value)
    elif isinstance(spec, list):
        for one in spec:
            yield from fields(one)


@needs_library
def test_every_quantity_has_its_panel_in_its_section(said: dict[str, Any]) -> None:
    assert next(iter(SECTIONS)) == "axes"
    drawn = {(section, name) for section, name, _ in lines(said)}
    meant = {
        (section, quantity.name)
        for section, quantities in SECTIONS.items()
        if section != "axes"
        for quantity in quantities
    }
    assert drawn == meant


@needs_library
def test_axes_units_and_scales(said: dict[str, Any]) -> None:
    for _, name, config in lines(said):
        assert config["xAxis"] == QUANTITIES[name].axis
        assert config.get("xLogScale", False) == (QUANTITIES[name].axis == "time")
        assert "[" in config["chartTitle"]
    looks = {name: config for _, name, config in lines(said)}
    assert looks["mse"]["yLogScale"] and "target²" in looks["mse"]["chartTitle"]
    assert "yLogScale" not in looks["accuracy"]
    by_steps = definition(build_workspace("me", "p", axis="step"))
    assert {config["xAxis"] for _, _, config in lines(by_steps)} == {"step"}


@needs_library
def test_theory_is_dashed_where_it_is_known_to_be_there(said: dict[str, Any]) -> None:
    looks = {name: config for _, name, config in lines(said)}
    assert looks["mse"]["metrics"] == ["mse", "theory_mse"]
    assert looks["mse"]["overrideMarks"] == {f"run{i}:theory_mse": "dashed" for i in (1, 2)}
    assert "overrideMarks" not in looks["test_mse"]


@needs_library
def test_charts_read_columns_which_are_there_and_come_with_the_definition(
    said: dict[str, Any],
) -> None:
    used = {
        config["panelDefId"]: config["userQuery"]["queryFields"][0]["fields"][0]["args"][0]["value"]
        for _, kind, config in panels(said)
        if kind == "Vega2"
    }
    assert used == {f"me/{chart.name}": chart.table for chart in CHARTS}
    assert said["charts"].keys() == used.keys()
    for chart in CHARTS:
        made = {"label"}
        assert set(fields(chart.spec)) <= {*TABLES[chart.table]} | made
        assert len(chart.name) <= 64


@needs_library
def test_the_table_of_runs_shows_regime_and_verdict(said: dict[str, Any]) -> None:
    feed = said["spec"]["section"]["runSets"][0]["runFeed"]
    assert feed["columnOrder"] == ["run:displayName", *COLUMNS]
    assert {"summary:regime", "summary:verdict"} <= {
        k for k, v in feed["columnPinned"].items() if v
    }


@needs_library
def test_it_is_the_same_each_time_but_for_the_names_of_panels(said: dict[str, Any]) -> None:
    def bare(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: bare(value) for key, value in one.items() if key != "__id__"}
        return [bare(entry) for entry in one] if isinstance(one, list) else one

    again = definition(build_workspace("me", "of-mine", dashed_runs=["run1", "run2"]))
    assert bare(again) == bare(said)


def test_a_changed_chart_has_another_name() -> None:
    one = CHARTS[0]
    other = type(one)(one.title, one.table, {**one.spec, "title": "another"})
    assert one.name != other.name
    assert wandb_log.FIGURES == "figures"
