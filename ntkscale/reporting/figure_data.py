"""What a figure of curves shows, as plain numbers: kept beside its picture, drawn anew in a report.

`figure_reading.figure_data` gives None for a figure that holds anything these classes do not carry:
photographs, bars, clouds of dots, polar axes, arrows, formulas. A reader never gets half a figure.
"""

import re
from dataclasses import dataclass
from typing import Literal

Style = Literal["solid", "dashed", "dotted", "dash-dot", "none"]
Marker = Literal[
    "none", "circle", "square", "diamond", "triangle-up", "triangle-down", "triangle-left",
    "triangle-right", "cross", "x", "star",
]  # fmt: skip
Numbers = tuple[float | None, ...]
"""None stands for what is not finite: a gap."""

MOST_PANELS, MOST_SERIES, MOST_POINTS, LONGEST_TEXT = 64, 2_000, 200_000, 2_000
"""More than these in a figure is no chart that a page could draw."""

_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        label: with its unit in square brackets, ``[1]`` for a pure number.
        scale: symlog is linear up to `threshold` on both sides of zero and logarithmic beyond.
        view: the values at its two ends, the left or lower one first.
        ticks: (value, text) where the figure chose them; empty: as the reader likes.
        threshold: of a symlog axis; else None.
    """

    label: str
    scale: Literal["linear", "log", "symlog"]
    view: tuple[float, float]
    ticks: tuple[tuple[float, str], ...] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        if (self.scale == "symlog") != (self.threshold is not None and self.threshold > 0):
            raise ValueError("a symlog axis, and no other, has a positive threshold")
        if self.view[0] == self.view[1] or (self.scale == "log" and min(self.view) <= 0):
            raise ValueError(f"a {self.scale} axis cannot reach from {self.view[0]:g}")


@dataclass(frozen=True)
class Series:
    """Points of one curve, in order.

    Attributes:
        name: as in the legend; empty for none.
        x, y: (n,) each.
        style, width, marker, size, hollow, step: how it is drawn; width and size in points.
        colour: ``#rrggbb``, with `opacity` from 0 to 1.
        x_error, y_error: (low, high), (n,) each, in the units of x and y: ends of the bars.
    """

    name: str
    x: Numbers
    y: Numbers
    style: Style
    colour: str
    marker: Marker = "none"
    width: float = 1.6
    size: float = 4.0
    hollow: bool = False
    opacity: float = 1.0
    step: bool = False
    x_error: tuple[Numbers, Numbers] | None = None
    y_error: tuple[Numbers, Numbers] | None = None

    def __post_init__(self) -> None:
        _drawable(self.colour, self.opacity)
        sizes = {len(self.x), len(self.y)}
        for error in (self.x_error, self.y_error):
            sizes |= set() if error is None else {len(edge) for edge in error}
        if len(sizes) > 1:
            raise ValueError(f"series {self.name[:80]!r} has lists of different lengths")
        if not (0 <= self.width <= 100 and 0 <= self.size <= 100):
            raise ValueError(f"series {self.name[:80]!r} is too wide to draw")


@dataclass(frozen=True)
class Band:
    """A shaded range.

    Attributes:
        x, low, high: (n,) each; None in all three where one piece ends and the next begins.
        series: index of the curve in the panel that it belongs to; None for no curve.
        name: as in the legend; empty for none.
    """

    x: Numbers
    low: Numbers
    high: Numbers
    colour: str
    opacity: float
    series: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        _drawable(self.colour, self.opacity)
        if not len(self.x) == len(self.low) == len(self.high):
            raise ValueError("a band has lists of different lengths")


@dataclass(frozen=True)
class Reference:
    """A line across the panel at one value (`low` = `high`), or the stripe between two.

    Attributes:
        along: the axis on which the values are: ``x`` for an upright line.
    """

    along: Literal["x", "y"]
    low: float
    high: float
    colour: str
    opacity: float = 1.0
    style: Style = "solid"
    width: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        _drawable(self.colour, self.opacity)
        if not 0 <= self.width <= 100:
            raise ValueError("a line across the panel is too wide to draw")


@dataclass(frozen=True)
class Note:
    """Words in a panel.

    Attributes:
        x, y: where; of an axis in ``axes`` 0 and 1 are the ends of the panel.
        shift: from there, to the right and up, in points.
        size: in points.
        turned: degrees, against the clock.
        across, upright: which end of the text stands there.
    """

    text: str
    x: float
    y: float
    frame: tuple[Literal["data", "axes"], Literal["data", "axes"]]
    colour: str
    shift: tuple[float, float] = (0.0, 0.0)
    size: float = 7.0
    turned: float = 0.0
    across: Literal["left", "center", "right"] = "left"
    upright: Literal["top", "middle", "bottom"] = "bottom"

    def __post_init__(self) -> None:
        _drawable(self.colour, 1.0)
        if not 0 < self.size <= 100:
            raise ValueError("words in the panel have no size that could be read")


@dataclass(frozen=True)
class HeatMap:
    """A colour for every cell of a grid.

    Attributes:
        x, y: edges of the columns, (columns + 1,), and of the rows, (rows + 1,).
        values: row by row, (rows * columns,).
        view: the values that the first and the last colour stand for.
        colours: ``#rrggbb``, evenly from the first to the last.
        label: what the values are, with their unit.
    """

    x: Numbers
    y: Numbers
    values: Numbers
    view: tuple[float, float]
    colours: tuple[str, ...]
    label: str

    def __post_init__(self) -> None:
        for colour in self.colours:
            _drawable(colour, 1.0)
        if len(self.colours) < 2 or self.view[0] >= self.view[1]:
            raise ValueError("a map of one colour")
        columns, rows = len(self.x) - 1, len(self.y) - 1
        whole = min(columns, rows) > 0 and len(self.values) == rows * columns
        if not whole or None in self.x + self.y:
            raise ValueError("a map whose values do not fill its grid")


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn in it, in the order of drawing.

    Attributes:
        heat: a map under everything else.
        equal: a unit is as long on both axes.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    bands: tuple[Band, ...] = ()
    references: tuple[Reference, ...] = ()
    notes: tuple[Note, ...] = ()
    heat: HeatMap | None = None
    equal: bool = False

    def __post_init__(self) -> None:
        for band in self.bands:
            if band.series is not None and not 0 <= band.series < len(self.series):
                raise ValueError(f"a band belongs to series {band.series}, which is not there")


@dataclass(frozen=True)
class FigureData:
    """Panels row by row.

    Attributes:
        columns: of panels in the figure.
        title: over all of them; empty for none.
    """

    panels: tuple[Panel, ...]
    columns: int = 1
    title: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.columns <= MOST_PANELS or not 1 <= len(self.panels) <= MOST_PANELS:
            raise ValueError(f"a figure has 1 to {MOST_PANELS} panels")
        series = [one for panel in self.panels for one in (*panel.series, *panel.bands)]
        rest = [one for panel in self.panels for one in (*panel.references, *panel.notes)]
        if len(series) + len(rest) > MOST_SERIES:
            raise ValueError(f"a figure has at most {MOST_SERIES:,} curves, bands, lines and notes")
        cells = [len(panel.heat.values) for panel in self.panels if panel.heat is not None]
        if sum(len(one.x) for one in series) + sum(cells) > MOST_POINTS:
            raise ValueError(f"a figure has at most {MOST_POINTS:,} points")


def _drawable(colour: str, opacity: float) -> None:
    if not _COLOUR.fullmatch(colour):
        raise ValueError(f"{colour[:40]!r} is no colour; give #rrggbb")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity:g} is not between 0 and 1")
