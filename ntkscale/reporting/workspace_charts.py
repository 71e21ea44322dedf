"""Charts that W&B does not have: Vega-Lite specifications, and the tables which they draw.

The record of a verdict holds the tables, and W&B joins those of all runs that are shown: each has a
column that says which run of ntkscale a row is of.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

NUMBERS, SPECTRA, ANSWERS = "verdict_numbers", "verdict_spectra", "verdict_answers"
"""Keys of the tables."""

NUMBER_COLUMNS = ("run", "table", "row", "quantity", "value", "low", "high", "mark", "spawn")
"""Every number of a verdict's tables: where it stands, with its interval; `spawn` in epochs."""

SPECTRUM_COLUMNS = ("run", "cell", "time", "index", "eigenvalue")
"""Leading eigenvalues of K_t / n of every cell, at a few times."""

ANSWER_COLUMNS = (
    "run",
    "task",
    "regime",
    "helps",
    *(
        f"{name}{end}"
        for name in ("alpha", "beta", "exponent_gain", "mse_ratio")
        for end in ("", "_low", "_high")
    ),
)
"""What each task of a run answers."""

SPAWN = "spawn [epochs]"
"""Column of a verdict's table by which the measures of geometry are ordered."""

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


@dataclass(frozen=True)
class Chart:
    """One Vega-Lite specification.

    Attributes:
        title: of the panel.
        table: key of the table which it draws.
        spec: of Vega-Lite; it reads columns by their names in the table.
    """

    title: str
    table: str
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """In W&B: from the title, and from the content, so that a changed chart is another one."""
        digest = hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()[:8]
        return f"ntkscale-{self.title.lower().replace(' ', '-')}-{digest}"


def _spec(title: str, **parts: Any) -> dict[str, Any]:
    return {
        "$schema": _SCHEMA,
        "title": title,
        "data": {"name": "wandb"},
        "width": "container",
        "height": "container",
        "autosize": {"type": "fit", "contains": "padding"},
        **parts,
    }


def _quantitative(field: str, title: str, **scale: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


_RUN = {"field": "run", "type": "nominal"}
_WHERE = [{"field": field, "type": "nominal"} for field in ("run", "table", "row", "quantity")]

INTERVALS = Chart(
    "Numbers with intervals",
    NUMBERS,
    _spec(
        "Exponents and all other numbers that have an interval",
        transform=[
            {"filter": "isValid(datum.low) && isValid(datum.high) && !isValid(datum.spawn)"},
            {"calculate": "datum.quantity + ': ' + datum.row", "as": "label"},
        ],
        encoding={
            "y": {"field": "label", "type": "nominal", "title": None, "axis": {"labelLimit": 260}},
            "yOffset": _RUN,
            "color": _RUN,
            "tooltip": [
                *_WHERE,
                *({"field": f, "type": "quantitative"} for f in ("value", "low", "high")),
            ],
        },
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": _quantitative("low", "value, 95 % interval", zero=False),
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 40},
                "encoding": {"x": _quantitative("value", "value, 95 % interval", zero=False)},
            },
        ],
    ),
)

SPECTRUM = Chart(
    "Spectrum at several times",
    SPECTRA,
    _spec(
        "Eigenvalues of K_t / n at several times",
        transform=[{"filter": "datum.eigenvalue > 0"}],
        mark={"type": "line", "interpolate": "linear", "strokeWidth": 1.2},
        encoding={
            "x": _quantitative("index", "index", type="log"),
            "y": _quantitative("eigenvalue", "eigenvalue [1]", type="log"),
            "color": _quantitative("time", "flow time", type="symlog", scheme="viridis"),
            "detail": [
                _RUN,
                {"field": "cell", "type": "nominal"},
                {"field": "time", "type": "quantitative"},
            ],
            "tooltip": [
                _RUN,
                {"field": "cell", "type": "nominal"},
                *({"field": f, "type": "quantitative"} for f in ("time", "index", "eigenvalue")),
            ],
        },
    ),
)

GEOMETRY = Chart(
    "Geometry by spawn time",
    NUMBERS,
    _spec(
        "Barriers, distances and errors by spawn time, mean over parents",
        transform=[{"filter": "isValid(datum.spawn) && isValid(datum.value)"}],
        encoding={
            "x": _quantitative("spawn", "spawn time [epochs]", type="symlog"),
            "color": {
                "field": "quantity",
                "type": "nominal",
                "title": None,
                "scale": {"scheme": "tableau20"},
            },
            "strokeDash": _RUN,
            "tooltip": [
                *_WHERE,
                *({"field": f, "type": "quantitative"} for f in ("value", "low", "high")),
            ],
        },
        layer=[
            {
                "mark": {"type": "line", "point": True, "strokeWidth": 1.5},
                "encoding": {
                    "y": _quantitative("value", "measure", zero=False),
                    "detail": {"field": "table", "type": "nominal"},
                },
            },
            {
                "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                "mark": {"type": "rule", "opacity": 0.5},
                "encoding": {"y": _quantitative("low", "measure"), "y2": {"field": "high"}},
            },
        ],
    ),
)

CHARTS = (INTERVALS, SPECTRUM, GEOMETRY)
