"""What a run of `train.py global-convergence` holds, by what was varied in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.reporting import Entry
from ntkscale.runs import Run

Record = Mapping[str, Any]
PANEL = ("activation", "label", "size", "first", "second")
"""What sets apart panels of a figure, and what curves in one panel."""
CURVE = ("scaling", "depth", "dimension", "width")
KEYS = PANEL + CURVE


def grouped(
    records: Sequence[Record], keys: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[Record]]]:
    """Records with equal values of the keys, in the order in which they came."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record.get(key) for key in keys), []).append(record)
    for values, own in found.items():
        named = {k: v for k, v in zip(keys, values, strict=True) if v is not None}
        yield named, own


def varied(records: Sequence[Record], keys: Sequence[str]) -> list[str]:
    """Those of the keys that have several values."""
    return [key for key in keys if len({record.get(key) for record in records}) > 1]


def caption(named: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The values of some keys in words, e.g. ``relu, |y| = 1, d = 40``."""
    signs = {"label": "|y|", "size": "n", "dimension": "d", "width": "m", "depth": "L"}
    parts = []
    for key in keys:
        if key in named and key not in ("first", "second"):
            value = named[key]
            shown = value if isinstance(value, str) else f"{value:g}"
            parts.append(f"{signs[key]} = {shown}" if key in signs else shown)
    if "first" in named and "first" in keys:
        parts.append(f"{named['first']} or {named['second']}")
    return ", ".join(parts)


def mean(records: Sequence[Record], name: str, digits: int = 3) -> Entry:
    """Mean over seeds with its interval; a dash where it was not measured."""
    values = [record[name] for record in records if record.get(name) is not None]
    return mean_over_seeds(values, digits=digits)


def records_of(run: Run) -> list[Record]:
    """The records of all networks, each with its ``cell`` and the rate at which it began."""
    rows = run.metrics.filter(pl.col("time") == 0)
    first = dict(zip(rows["cell"].to_list(), rows["instantaneous_rate"].to_list(), strict=True))
    return [
        {**record, "cell": name, "first_rate": first[name]} for name, record in run.results.items()
    ]


def rows_of(metrics: pl.DataFrame, named: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of metrics with these values."""
    for name, value in named.items():
        if name in metrics.columns:
            metrics = metrics.filter(pl.col(name) == value)
    return metrics


def over_seeds(
    rows: pl.DataFrame, name: str
) -> tuple[Float[ndarray, "T"], Float[ndarray, "T"], Float[ndarray, "T"], Float[ndarray, "T"]]:
    """Times that all seeds have in common, with mean, least and largest value over seeds."""
    seeds = rows["seed"].n_unique()
    table = (
        rows.filter(pl.col(name).is_not_null())
        .group_by("time")
        .agg(
            pl.col(name).mean().alias("mean"),
            pl.col(name).min().alias("low"),
            pl.col(name).max().alias("high"),
            pl.len().alias("count"),
        )
        .filter(pl.col("count") == seeds)
        .sort("time")
    )
    return (
        table["time"].to_numpy(),
        table["mean"].to_numpy(),
        table["low"].to_numpy(),
        table["high"].to_numpy(),
    )


def width_slopes(records: Sequence[Record], name: str = "movement") -> list[float]:
    """Slope of a measure against width on log axes, one for every seed with all widths."""
    widths = sorted({record["width"] for record in records})
    slopes = []
    for _, own in grouped(records, ("seed",)):
        by_width = {record["width"]: record[name] for record in own}
        if len(widths) > 1 and set(by_width) == set(widths):
            logs = np.log(widths), np.log([by_width[width] for width in widths])
            slopes.append(float(np.polyfit(*logs, 1)[0]))
    return slopes


def width_spread(records: Sequence[Record], name: str = "movement") -> float:
    """Largest relative distance of a width's mean over seeds from the mean of all widths."""
    means = np.array(
        [np.mean([one[name] for one in own]) for _, own in grouped(records, ("width",))]
    )
    return float(np.abs(means / means.mean() - 1).max())
