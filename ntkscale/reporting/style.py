"""The house style of figures, and how they are saved."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ntkscale.reporting.figure_file import write_figure_data
from ntkscale.reporting.figure_reading import figure_data
from ntkscale.runs import replacing
from ntkscale.schema import QUANTITIES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""For curves without an order; told apart by colour-blind readers (Okabe & Ito 2008)."""

_PANEL = (4.4, 3.3)  # inches
_DPI = 160
_INSIDE = 4  # entries of a legend that fit beside the curves in a panel
_RC: Any = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "image.interpolation": "antialiased",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text
}


def house_style() -> AbstractContextManager[None]:
    """Context in which figures are made, drawn and saved; settings outside stay as they are."""
    return mpl.rc_context(_RC)


def new_figure(columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure, 4.4 by 3.3 inches a panel, and its axes row by row.

    It is known to nobody else (pyplot is not involved) and disappears with its last reference.
    """
    with house_style():
        figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1]), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def save_figure(figure: Figure, folder: Path, stem: str) -> tuple[Path, Path]:
    """Write `<folder>/<stem>.png` and `.pdf`; the same figure gives the same bytes.

    A figure of curves leaves its numbers in `<stem>.json` too, for the chart in the report.

    Returns:
        The two paths, PNG first.

    Raises:
        OSError: they cannot be written.
    """
    png, pdf = folder / f"{stem}.png", folder / f"{stem}.pdf"
    _give_limits(figure)
    with house_style():
        with replacing(png) as temporary, temporary.open("wb") as file:
            FigureCanvasAgg(figure)
            figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
        with replacing(pdf) as temporary, temporary.open("wb") as file:
            FigureCanvasPdf(figure)
            nothing = {"Creator": None, "Producer": None, "CreationDate": None}
            figure.savefig(file, format="pdf", metadata=nothing)
        write_figure_data(png, figure_data(figure))
    return png, pdf


def _give_limits(figure: Figure) -> None:
    """Limits for logarithmic axes on which nothing is above zero: matplotlib refuses to draw them,
    as after a training of which no number is left."""
    for axes in figure.axes:
        for axis, limit in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
            nothing = not min(axis.get_view_interval()) > 0 and not np.isfinite(axis.get_minpos())
            if axis.get_scale() == "log" and nothing:
                limit(1.0, 10.0)


def ladder(count: int) -> list[str]:
    """Colours from dark blue to green-yellow for curves with an order, such as rising gamma0."""
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.87, count) if count != 1 else [0.3])
    return [to_hex(colour) for colour in colours]


def axis_label(name: str) -> str:
    """A recorded quantity and its unit, e.g. ``mse [target²]``; ``[1]`` is a pure number.

    Raises:
        ValueError: `ntkscale.schema` knows no such quantity.
    """
    if name not in QUANTITIES:
        raise ValueError(
            f"no recorded quantity is called {name!r}; ntkscale.schema.QUANTITIES lists them."
        )
    unit = QUANTITIES[name].unit.replace("^2", "²")
    if name == "time":
        return "flow time t [sum of learning rates]"
    return f"{name.replace('_', ' ')} [{unit}]"


def legend(ax: Axes) -> None:
    """A legend inside the axes, or beside them where it would hide the curves."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    if len(labels) <= _INSIDE:
        ax.legend(handles, labels, loc="best")
    else:
        ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def colour_of(chosen: Sequence[str | None], position: int) -> str:
    """The colour chosen for a curve, or the next of the house."""
    return chosen[position] or COLOURS[position % len(COLOURS)]
