"""Curves over flow time, steps or lazy time, with the power laws fitted to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ntkscale.reporting.style import axis_label, colour_of, house_style, legend
from ntkscale.scaling import PowerLawFit

_MARKED = 12  # points up to which a measured curve shows them


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        label: for the legend; empty for none.
        x, y: (n,) each; what is not positive or not finite is left out, as log axes demand.
        fit: a power law through it, drawn dashed over its window, its exponent in the legend.
        theory: drawn dotted, as what is computed and not measured.
        colour: any of matplotlib's; None: the next of the house.
        band: (low, high), (n,) each, e.g. the spread over seeds; shaded.
    """

    label: str
    x: ArrayLike
    y: ArrayLike
    fit: PowerLawFit | None = None
    theory: bool = False
    colour: str | None = None
    band: tuple[ArrayLike, ArrayLike] | None = None


def draw_curves(
    ax: Axes,
    curves: Sequence[Curve],
    *,
    quantity: str = "mse",
    against: str = "time",
    window: tuple[float, float] | None = None,
    title: str = "",
) -> None:
    """Curves of one recorded quantity on log-log axes.

    For losses, the kernel's distance from its start, the growth of its directions: whatever
    `ntkscale.schema` names.

    Args:
        ax: where.
        curves: in the order of the legend.
        quantity, against: schema names of the two axes, for labels and units.
        window: x between which slopes are compared; shaded.
        title: above the axes.

    Raises:
        ValueError: an unknown quantity, or x and y of different lengths.
    """
    colours = [curve.colour for curve in curves]
    with house_style():
        ax.set(xscale="log", yscale="log", xlabel=axis_label(against), ylabel=axis_label(quantity))
        if window is not None:
            ax.axvspan(*window, color="#000000", alpha=0.06, linewidth=0)
        for position, curve in enumerate(curves):
            _draw(ax, curve, colour_of(colours, position))
        if title:
            ax.set_title(title)
        legend(ax)


def _draw(ax: Axes, curve: Curve, colour: str) -> None:
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"curve {curve.label!r} has x of shape {x.shape} and y of shape {y.shape}; give two "
            "lists of equal length."
        )
    shown = _positive(x) & _positive(y)
    few = shown.sum() <= _MARKED and not curve.theory
    ax.plot(
        x[shown],
        y[shown],
        color=colour,
        label=curve.label or None,
        linestyle=":" if curve.theory else "-",
        marker="o" if few else None,
        markersize=3.5,
    )
    if curve.band is not None:
        low, high = (np.asarray(edge, dtype=np.float64)[shown] for edge in curve.band)
        ax.fill_between(x[shown], low, high, color=colour, alpha=0.2, linewidth=0)
    if curve.fit is not None:
        _draw_fit(ax, curve.fit)


def _draw_fit(ax: Axes, fit: PowerLawFit) -> None:
    if not np.isfinite(fit.exponent):
        return
    span = np.geomspace(*fit.window, 50)
    low, high = fit.interval
    what = "slope" if fit.is_power_law else "no power law; slope"
    ax.plot(
        span,
        fit(span),
        color="#202020",  # over its own curve nothing else is seen
        linestyle=(0, (4, 3)),
        linewidth=1.0,
        label=f"   {what} {-fit.exponent:.3f} [{-high:.3f}, {-low:.3f}]",
    )


def _positive(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0)
