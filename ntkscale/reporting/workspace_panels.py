"""Panels of the W&B dashboard, section by section, from the names of `ntkscale.schema`."""

from collections.abc import Iterator, Sequence
from typing import Any

from ntkscale.reporting.style import axis_label
from ntkscale.reporting.wandb_log import FIGURES, LEADING, PICTURES
from ntkscale.reporting.workspace_charts import (
    ANSWERS,
    GEOMETRY,
    INTERVALS,
    SPECTRUM,
    Chart,
)
from ntkscale.schema import QUANTITIES, SECTIONS, Axis, Quantity

DASHED = {"theory_mse": "mse", "proven_rate": "instantaneous_rate"}
"""What theory says, and the quantity in whose panel it is drawn dashed."""

# Beside all with a unit of target^2 or 1 / flow time: these grow, or fall, by power laws.
_DECADES = {
    "movement", "hidden_movement", "hidden_rms_movement", "feature_kernel_distance",
    "kernel_distance", "kernel_change", "kernel_trace", "kernel_eigenvalues", "kernel_growth",
    "kernel_trace_by_layer", "kernel_distance_by_layer", "adversarial_kernel_distance",
    "adversarial_kernel_change",
}  # fmt: skip
_POWERS = {"target^2", "1 / flow time"}


def sections(
    wr: Any, entity: str, axis: Axis, dashed_runs: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Names of the sections and their panels, in order.

    Args:
        wr: `wandb_workspaces.reports.v2`.
        entity: that owns the charts of our own.
        axis: what curves are drawn against; time, or step for runs without a flow time.
        dashed_runs: ids of the runs in which theory is to be drawn dashed.
    """
    yield "Verdict", _verdict(wr)
    for name, quantities in SECTIONS.items():
        if name == "axes":
            continue
        panels = [
            panel
            for quantity in quantities
            if quantity.name not in DASHED
            for panel in _curves(wr, quantity, axis, dashed_runs)
        ]
        if name == "kernel evolution":
            keys = [f"{PICTURES}/kernel"]
            panels.append(
                wr.MediaBrowser(title="kernel of the probe", media_keys=keys, gallery_axis="step")
            )
        elif name == "spectra":
            panels.insert(0, _chart(wr, SPECTRUM, entity))
        elif name == "geometry":
            panels.insert(0, _chart(wr, GEOMETRY, entity))
        yield name.capitalize(), panels
        if name == "accuracy":
            yield "Exponents", _exponents(wr, entity)


def _verdict(wr: Any) -> list[Any]:
    return [
        wr.WeavePanelSummaryTable(table_name=ANSWERS),
        wr.BarPlot(
            title="claims that hold, fail, or are too rough to judge",
            metrics=[wr.SummaryMetric(f"claims_{end}") for end in ("pass", "fail", "rough")],
        ),
        wr.MediaBrowser(title="figures", media_keys=[FIGURES], gallery_axis="step"),
    ]


def _exponents(wr: Any, entity: str) -> list[Any]:
    """Alpha and beta are those of runs with one task; the table of answers has all."""
    return [
        _chart(wr, INTERVALS, entity),
        wr.ScatterPlot(
            title="tasks by alpha and beta of the initial kernel",
            x=wr.SummaryMetric("alpha"),
            y=wr.SummaryMetric("beta"),
        ),
        wr.BarPlot(
            title="exponent of the rich network minus that of the lazy one",
            metrics=[wr.SummaryMetric("exponent_gain")],
        ),
    ]


def _curves(wr: Any, quantity: Quantity, axis: Axis, dashed: Sequence[str]) -> Iterator[Any]:
    """The panel of a quantity; of a spectrum also that of its histogram."""
    name, x = quantity.name, "step" if quantity.axis == "step" else axis
    beside = [theory for theory, own in DASHED.items() if own == name]
    looks: dict[str, Any] = {
        "x": x,
        "title_x": axis_label(x),
        "log_x": x == "time" or None,
        "log_y": (quantity.unit in _POWERS or name in _DECADES) or None,
        "ignore_outliers": False,
    }
    title = axis_label(name)
    if quantity.shape == "layer":  # as many as the network has parameters
        yield wr.LinePlot(title=title, metric_regex=f"^{name}/[0-9]+$", **looks)
    elif quantity.shape == "index":
        keys = [f"{name}/{i:02d}" for i in range(1, LEADING + 1)]
        yield wr.LinePlot(title=title, y=keys, **looks)
        looks["log_y"] = None
        yield wr.LinePlot(title=f"log10 of all {title}", y=[f"{name}/log10"], **looks)
    else:
        marks = {f"{run}:{theory}": "dashed" for run in dashed for theory in beside}
        names = [title, *(QUANTITIES[theory].name.replace("_", " ") for theory in beside)]
        yield wr.LinePlot(
            title=", dashed: ".join(names), y=[name, *beside], line_marks=marks or None, **looks
        )


def _chart(wr: Any, chart: Chart, entity: str) -> Any:
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": chart.table}},
        chart_name=f"{entity}/{chart.name}",
    )
