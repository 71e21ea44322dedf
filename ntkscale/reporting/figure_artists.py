"""Single matplotlib artists as parts of `FigureData`; what does not fit is refused."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, QuadMesh
from matplotlib.colors import Normalize, same_color, to_hex, to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle, StepPatch
from matplotlib.text import Annotation, Text

from ntkscale.reporting.figure_data import (
    LONGEST_TEXT,
    MOST_POINTS,
    Band,
    HeatMap,
    Marker,
    Note,
    Numbers,
    Reference,
    Series,
    Style,
)

_STYLES: dict[str, Style] = {
    "-": "solid", "--": "dashed", ":": "dotted", "-.": "dash-dot",
    "solid": "solid", "dashed": "dashed", "dotted": "dotted", "dashdot": "dash-dot",
    "None": "none", "none": "none", " ": "none", "": "none",
}  # fmt: skip
_MARKERS: dict[Any, Marker] = {
    "None": "none", "none": "none", " ": "none", "": "none", None: "none",
    "o": "circle", ".": "circle", "s": "square", "D": "diamond", "d": "diamond",
    "^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right",
    "+": "cross", "x": "x", "*": "star",
}  # fmt: skip
_SHADES = 17  # colours of a map; between them they are mixed


class Refused(Exception):
    """Something in the figure is not carried."""


def line_series(ax: Axes, line: Line2D, bars: ErrorbarContainer | None) -> Series:
    """A curve, or its points, with the error bars that were drawn with it."""
    if line.get_transform() is not ax.transData or line.get_markevery() is not None:
        raise Refused
    marker = line.get_marker()
    plain = line.get_drawstyle() == "default" and not line.get_path_effects()
    if not plain or not isinstance(marker, str | None) or marker not in _MARKERS:
        raise Refused
    colour, face = line.get_color(), line.get_markerfacecolor()
    hollow = line.get_fillstyle() == "none" or same_color(face, "none") or same_color(face, "white")
    shape = _MARKERS[marker]
    if shape not in ("none", "x", "cross") and not hollow and not same_color(face, colour):
        raise Refused
    error: dict[str, tuple[Numbers, Numbers]] = {}
    if bars is not None:
        names = [n for n, has in (("x", bars.has_xerr), ("y", bars.has_yerr)) if has]
        for name, drawn in zip(names, bars.lines[2], strict=True):
            error[name] = _ends(drawn.get_paths(), 0 if name == "x" else 1, len(_of(line, "x")))
    return Series(
        _name(line if bars is None else bars),
        _of(line, "x"),
        _of(line, "y"),
        _STYLES[str(line.get_linestyle())],
        to_hex(colour),
        shape,
        float(line.get_linewidth()),
        float(line.get_markersize()) * (0.5 if marker == "." else 1.0),
        bool(hollow and shape != "none"),
        _opacity(line, to_rgba(colour)[3]),
        x_error=error.get("x"),
        y_error=error.get("y"),
    )


def _ends(paths: Sequence[Any], column: int, count: int) -> tuple[Numbers, Numbers]:
    if len(paths) != count or any(path.vertices.shape != (2, 2) for path in paths):
        raise Refused
    ends = np.array([path.vertices[:, column] for path in paths]).reshape(count, 2)
    return _numbers(ends[:, 0]), _numbers(ends[:, 1])


def _of(line: Line2D, which: Literal["x", "y"]) -> Numbers:
    return _numbers(line.get_xdata(orig=False) if which == "x" else line.get_ydata(orig=False))


def across(ax: Axes, line: Line2D) -> Reference | None:
    """An axhline or axvline, or None for a curve."""
    transform = line.get_transform()
    if transform is ax.get_yaxis_transform():
        along, span, ends = "y", _of(line, "x"), _of(line, "y")
    elif transform is ax.get_xaxis_transform():
        along, span, ends = "x", _of(line, "y"), _of(line, "x")
    else:
        return None
    at = ends[0]
    if span != (0.0, 1.0) or ends[-1] != at:  # over a part of the panel
        raise Refused
    if at is None or _MARKERS.get(line.get_marker()) != "none":
        raise Refused
    colour = line.get_color()
    return Reference(
        along,
        at,
        at,
        to_hex(colour),
        _opacity(line, to_rgba(colour)[3]),
        _STYLES[str(line.get_linestyle())],
        float(line.get_linewidth()),
        _name(line),
    )


def stripe(ax: Axes, patch: Rectangle) -> Reference:
    """An axvspan or axhspan."""
    x, y, width, height = (
        patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height(),
    )  # fmt: skip
    transform, colour = patch.get_data_transform(), to_rgba(patch.get_facecolor())
    if patch.get_hatch() or not patch.get_fill() or patch.get_angle():
        raise Refused
    if transform is ax.get_xaxis_transform() and (y, height) == (0, 1):
        along, low, high = "x", x, x + width
    elif transform is ax.get_yaxis_transform() and (x, width) == (0, 1):
        along, low, high = "y", y, y + height
    else:
        raise Refused
    return Reference(
        along, float(low), float(high), to_hex(colour), float(colour[3]), "none", 0.0, _name(patch)
    )


def stairs(ax: Axes, patch: StepPatch) -> Series:
    """A step curve without a floor."""
    values, edges, baseline = patch.get_data()
    if baseline is not None or patch.get_fill() or patch.get_data_transform() is not ax.transData:
        raise Refused
    if patch.orientation != "vertical":
        raise Refused
    colour = to_rgba(patch.get_edgecolor())
    return Series(
        _name(patch),
        _numbers(edges),
        _numbers(np.append(values, values[-1:])),
        _STYLES[str(patch.get_linestyle())],
        to_hex(colour),
        width=float(patch.get_linewidth()),
        opacity=float(colour[3]),
        step=True,
    )


def outline(ax: Axes, patch: Polygon) -> Series:
    """The line of a histogram of type ``step``."""
    if patch.get_fill() or patch.get_closed() or patch.get_data_transform() is not ax.transData:
        raise Refused
    colour, corners = to_rgba(patch.get_edgecolor()), patch.get_xy()
    return Series(
        _name(patch),
        _numbers(corners[:, 0]),
        _numbers(corners[:, 1]),
        _STYLES[str(patch.get_linestyle())],
        to_hex(colour),
        width=float(patch.get_linewidth()),
        opacity=float(colour[3]),
    )


def band(ax: Axes, drawn: FillBetweenPolyCollection, series: Sequence[Series]) -> Band:
    """A `fill_between`, and which of the curves so far it belongs to."""
    if (
        drawn.get_transform() is not ax.transData
        or getattr(drawn, "t_direction", "") != "x"
        or drawn.get_hatch()
    ):
        raise Refused
    pieces: list[np.ndarray] = []
    for path in drawn.get_paths():
        points = np.asarray(path.vertices)
        half = len(points) // 2  # start, along one edge, end, back along the other, start again
        there, back = points[1:half], points[half + 1 : 2 * half][::-1]
        if len(points) % 2 == 0 or not np.array_equal(there[:, 0], back[:, 0]):
            raise Refused
        edges = np.sort(np.stack([there[:, 1], back[:, 1]]), axis=0)
        pieces += [np.full((3, 1), np.nan)] if pieces else []
        pieces.append(np.stack([there[:, 0], *edges]))
    x, low, high = np.concatenate(pieces, axis=1) if pieces else np.zeros((3, 0))
    colour = to_rgba(drawn.get_facecolor()[0])  # pyright: ignore[reportArgumentType, reportIndexIssue]
    hexed, places = to_hex(colour), _numbers(x)
    # The curve that runs through it has its colour, and was drawn before it.
    owners = [
        index
        for index, one in enumerate(series)
        if one.colour == hexed and {x for x in places if x is not None} <= set(one.x)
    ]
    owner = owners[-1] if owners else None
    return Band(places, _numbers(low), _numbers(high), hexed, float(colour[3]), owner, _name(drawn))


def colour_scale(mesh: QuadMesh) -> tuple[Any, ...]:
    """What says which value has which colour."""
    return mesh.cmap.name, *mesh.get_clim()


def heat_map(ax: Axes, mesh: QuadMesh, label: str) -> HeatMap:
    """A `pcolormesh` on a grid of rows and columns with a linear scale."""
    if mesh.get_transform() is not ax.transData or type(mesh.norm) is not Normalize:
        raise Refused
    corners, values = np.asarray(mesh.get_coordinates()), mesh.get_array()
    low, high = mesh.get_clim()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    straight = (corners[..., 0] == x).all() and (corners[..., 1] == y[:, None]).all()
    if not straight or values is None or low is None or high is None:
        raise Refused
    colours = tuple(to_hex(colour) for colour in mesh.cmap(np.linspace(0, 1, _SHADES)))
    view = (float(low), float(high))
    return HeatMap(_numbers(x), _numbers(y), _numbers(values), view, colours, words(label))


def note(ax: Axes, text: Text) -> Note:
    """Words at a place; without a box and without an arrow."""
    shift = (0.0, 0.0)
    x, y = text.get_position()
    if isinstance(text, Annotation):
        frame = _frame(text.xycoords)
        if text.arrow_patch is not None:
            raise Refused
        if text.anncoords == "offset points":
            shift, (x, y) = (float(x), float(y)), text.xy
        elif text.anncoords != text.xycoords:
            raise Refused
    else:
        frames: list[tuple[Any, tuple[str, str]]] = [
            (ax.transData, ("data", "data")),
            (ax.transAxes, ("axes", "axes")),
            (ax.get_xaxis_transform(), ("data", "axes")),
            (ax.get_yaxis_transform(), ("axes", "data")),
        ]
        own = text.get_transform()
        found = [frame for transform, frame in frames if transform is own]
        if not found:
            raise Refused
        frame = found[0]
    if text.get_bbox_patch() is not None:
        raise Refused
    upright = {"center": "middle", "center_baseline": "middle", "top": "top"}
    return Note(
        words(text.get_text()),
        float(x),
        float(y),
        cast(Any, frame),
        to_hex(text.get_color()),
        shift,
        float(text.get_fontsize()),
        float(text.get_rotation()),
        cast(Any, text.get_horizontalalignment()),
        cast(Any, upright.get(text.get_verticalalignment(), "bottom")),
    )


def _frame(coordinates: Any) -> tuple[str, str]:
    both = (coordinates, coordinates) if isinstance(coordinates, str) else tuple(coordinates)
    names = {"data": "data", "axes fraction": "axes"}
    if any(one not in names for one in both):
        raise Refused
    return names[both[0]], names[both[1]]


def _opacity(artist: Artist, own: float) -> float:
    alpha = artist.get_alpha()
    return float(own if alpha is None else alpha)


def _name(artist: Artist | ErrorbarContainer) -> str:
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else words(label)


def words(text: str) -> str:
    """A text that a chart can show."""
    if "$" in text or len(text) > LONGEST_TEXT:  # a formula, which would be shown as its source
        raise Refused
    return text


def _numbers(values: Any) -> Numbers:
    if len(values) > MOST_POINTS:
        raise Refused
    filled = np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
    return tuple(float(value) if np.isfinite(value) else None for value in filled.ravel())
