"""Reads the numbers of a matplotlib figure, and refuses what it could only carry in part."""

import math
from collections.abc import Iterable
from typing import Any, Literal, cast

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle, StepPatch
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

from ntkscale.reporting import figure_artists as read
from ntkscale.reporting.figure_artists import Refused, colour_scale, words
from ntkscale.reporting.figure_data import (
    Axis,
    Band,
    FigureData,
    HeatMap,
    Note,
    Panel,
    Reference,
    Series,
)


def figure_data(figure: Figure) -> FigureData | None:
    """What the figure shows, or None where it holds more than can be carried.

    Carried: lines with markers and error bars, stairs, histograms in outline, bands of
    `fill_between`, lines and stripes across a panel, words, a `pcolormesh` with its colour bar,
    titles, linear, log and symlog axes with their limits and chosen ticks.
    """
    try:
        return _figure(figure)
    except (Refused, KeyError, ValueError):  # KeyError: a style without a name here
        return None


def _figure(figure: Figure) -> FigureData:
    title = figure.get_suptitle()
    free = [text for text in figure.texts if text.get_text() not in ("", title)]
    others = (*figure.images, *figure.lines, *figure.patches, *figure.artists, *figure.subfigs)
    if free or others:
        raise Refused
    shown = [ax for ax in figure.axes if ax.get_visible() and (ax.axison or _artists(ax))]
    meshes = [mesh for ax in shown for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    bars = {colour_scale(mesh): mesh.colorbar.ax for mesh in meshes if mesh.colorbar is not None}
    shown = [ax for ax in shown if ax not in bars.values()]
    places = {ax.get_position(original=True).bounds for ax in shown}
    if len(places) < len(shown):  # twins share a place
        raise Refused
    legends = list(figure.legends)
    for ax in shown:
        legends += filter(None, [ax.get_legend()])
    labels = {label for ax in shown for label in ax.get_legend_handles_labels()[1]}
    if any(text.get_text() not in labels for one in legends for text in one.get_texts()):
        raise Refused  # an entry made by hand, for nothing that is drawn
    if any(one.get_title().get_text() for one in legends):
        raise Refused
    columns = 1
    for ax in shown:
        place = ax.get_subplotspec()
        columns = max(columns, 1 if place is None else place.get_gridspec().ncols)
    # A bar stands for every map on its scale.
    labels_of = {key: bar.get_ylabel() or bar.get_xlabel() for key, bar in bars.items()}
    return FigureData(tuple(_panel(ax, labels_of) for ax in shown), columns, words(title))


def _artists(ax: Axes) -> list[Artist]:
    """What is drawn in the axes, without axes, titles and legend."""
    groups: Iterable[Iterable[Artist]] = (
        ax.lines, ax.patches, ax.collections, ax.images, ax.tables, ax.artists, ax.child_axes,
        [text for text in ax.texts if text.get_text()],
    )  # fmt: skip
    return [artist for group in groups for artist in group if artist.get_visible()]


def _panel(ax: Axes, scales: dict[Any, str]) -> Panel:
    if ax.name != "rectilinear" or not ax.axison:
        raise Refused
    error_bars = {id(one.lines[0]): one for one in _error_bars(ax)}
    carried = {id(part) for one in error_bars.values() for some in one.lines[1:] for part in some}
    series: list[Series] = []
    bands: list[Band] = []
    references: list[Reference] = []
    notes: list[Note] = []
    heat: HeatMap | None = None
    for artist in _artists(ax):
        if id(artist) in carried:
            continue
        if isinstance(artist, Line2D):
            spanning = read.across(ax, artist)
            if spanning is not None:
                references.append(spanning)
            else:
                series.append(read.line_series(ax, artist, error_bars.get(id(artist))))
        elif isinstance(artist, StepPatch):
            series.append(read.stairs(ax, artist))
        elif isinstance(artist, Polygon):
            series.append(read.outline(ax, artist))
        elif isinstance(artist, Rectangle):
            references.append(read.stripe(ax, artist))
        elif isinstance(artist, FillBetweenPolyCollection):
            bands.append(read.band(ax, artist, series))
        elif isinstance(artist, QuadMesh) and heat is None:
            heat = read.heat_map(ax, artist, scales[colour_scale(artist)])
        elif isinstance(artist, Text):
            notes.append(read.note(ax, artist))
        else:
            raise Refused
    titles = [ax.get_title(place) for place in ("left", "center", "right")]
    return Panel(
        words("  ".join(filter(None, titles))),
        _axis(ax, "x"),
        _axis(ax, "y"),
        tuple(series),
        tuple(bands),
        tuple(references),
        tuple(notes),
        heat,
        equal=ax.get_aspect() == 1.0,
    )


def _axis(ax: Axes, which: Literal["x", "y"]) -> Axis:
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refused  # nothing in it is a number
    scale, threshold = axis.get_scale(), None
    if scale not in ("linear", "log", "symlog") or axis.get_converter() is not None:
        raise Refused
    if scale == "symlog":
        transform: Any = axis.get_transform()
        if transform.base != 10 or transform.linscale != 1:
            raise Refused
        threshold = float(transform.linthresh)
    ticks: list[tuple[float, str]] = []
    if isinstance(axis.get_major_locator(), FixedLocator) or scale == "symlog":
        formatter = axis.get_major_formatter()
        values = [float(value) for value in axis.get_majorticklocs()]
        chosen = isinstance(formatter, FuncFormatter | FixedFormatter)
        texts = (
            formatter.format_ticks([float(v) for v in values])
            if chosen
            else [f"{value:g}" for value in values]
        )
        ticks = [(value, words(text)) for value, text in zip(values, texts, strict=True)]
    label, where = words(axis.get_label_text()), (float(low), float(high))
    return Axis(label, cast(Any, scale), where, tuple(ticks), threshold)


def _error_bars(ax: Axes) -> list[ErrorbarContainer]:
    for one in ax.containers:
        if not isinstance(one, ErrorbarContainer) or one.lines[0] is None:
            raise Refused
        if any(cap.get_marker() not in ("|", "_") for cap in one.lines[1]):
            raise Refused  # arrows: a bound, no interval
    return cast(list[ErrorbarContainer], list(ax.containers))
