"""What compute frontiers say, and how they look: curves of every width, envelope, local slope."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.circle.frontier import DRIFT, FEWEST_DECADES, Frontier, frontiers
from ntkscale.experiments.circle.measures import Trained
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.reporting import (
    Entry,
    Picture,
    Section,
    Table,
    house_style,
    ladder,
    new_figure,
    save_figure,
)

_UNITS = {"N t": "compute C = N t [neurons x flow time]", "multiply-adds": "multiply-adds [1]"}


def compute_frontier(
    cells: Sequence[Trained], settings: CircleSettings, folder: Path
) -> tuple[str, Table, Section]:
    """What the ladder shows in words, its table, and its section of the report."""
    found = frontiers(cells, settings)
    said = conclusion(found)
    pictures = [draw_frontiers(found, folder)] if found else []
    return said, frontier_table(found), Section("Loss against compute", said, figures=pictures)


def frontier_table(found: Sequence[Frontier]) -> Table:
    """One row for every frontier."""
    rows = [
        {
            "beta": Entry(one.beta, digits=2),
            "networks": one.kind,
            "compute": one.cost,
            "theory": one.predicted if one.cost == "N t" else None,
            "slope": Entry(one.exponent, one.interval if np.isfinite(one.interval[0]) else None),
            "drift": Entry(one.drift, digits=2),
            "decades": Entry(one.decades, digits=1),
            "widths at best": f"{one.best.min()} .. {one.best.max()}" if len(one.best) else "-",
            "verdict": "flat" if one.reached else "not reached",
        }
        for one in found
    ]
    return Table(
        "Compute frontier, mse ~ C^-slope",
        list(rows[0]) if rows else ["beta"],
        rows,
        "Slope: mean local slope of the lower envelope where neither the smallest nor the largest "
        "width is best; 95 % over seeds (jackknife). Drift: range of the local slope over its "
        f"mean; flat: at most {DRIFT:g}, over {FEWEST_DECADES:g} decades or more. Lazy: exact flow "
        "of K_0. Theory is about N t; multiply-adds count the steps that stability asks for.",
    )


def conclusion(found: Sequence[Frontier]) -> str:
    """What the frontiers in N t say."""
    parts = []
    for one in found:
        if one.cost != "N t":
            continue
        where = f"beta = {one.beta:g}, {one.kind}"
        if one.reached:
            parts.append(
                f"{where}: the frontier falls as C^-{one.exponent:.3f} "
                f"[{one.interval[0]:.3f}, {one.interval[1]:.3f}], theory {one.predicted:.3f}."
            )
        elif np.isfinite(one.exponent):
            parts.append(
                f"{where}: not reached: over {one.decades:.1f} decades of compute the local slope "
                f"of the frontier changes by {one.drift:.0%} of its mean {one.exponent:.3f} "
                f"(theory {one.predicted:.3f})."
            )
        else:
            parts.append(
                f"{where}: not reached: {one.decades:.1f} decades of compute in which an inner "
                f"width is best hold no slope (theory {one.predicted:.3f})."
            )
    return " ".join(parts) or "No rich networks, no frontier."


def draw_frontiers(found: Sequence[Frontier], folder: Path) -> Picture:
    """A row for each ladder: loss against N t, local slope, loss against multiply-adds."""
    rows = [one for one in found if one.cost == "N t"]
    figure, axes = new_figure(3, len(rows))
    with house_style():
        for i, one in enumerate(rows):
            other = next(
                o
                for o in found
                if (o.beta, o.kind) == (one.beta, one.kind) and o.cost == "multiply-adds"
            )
            _draw_losses(axes[3 * i], one, theory=True)
            _draw_slope(axes[3 * i + 1], one)
            _draw_losses(axes[3 * i + 2], other, theory=False)
    return Picture(
        save_figure(figure, folder, "compute_frontier")[0],
        "Loss of a ladder of widths against compute, the frontier and its local slope.",
        "Means over seeds, with the target's tail. Thick: where an inner width is best. Dashed: "
        "slope of theory. Shaded: two standard errors over seeds.",
    )


def _draw_losses(ax: Axes, one: Frontier, *, theory: bool) -> None:
    for (width, (compute, mse)), colour in zip(
        one.curves.items(), ladder(len(one.curves)), strict=True
    ):
        ax.plot(compute, mse, color=colour, linewidth=1.0, label=f"N = {width}")
    if len(one.compute):
        ax.plot(one.compute, one.mse, color="black", linewidth=2.4, alpha=0.8, label="frontier")
        if theory:
            middle = len(one.compute) // 2
            line = (one.compute / one.compute[middle]) ** -one.predicted
            ax.plot(
                one.compute,
                0.7 * one.mse[middle] * line,
                "k--",
                linewidth=1.0,
                label=f"theory, slope {-one.predicted:.3f}",
            )
    ax.set(xscale="log", yscale="log", xlabel=_UNITS[one.cost], ylabel="mse [target²]")
    ax.set_title(f"beta = {one.beta:g}, {one.kind}")
    ax.legend(fontsize=6.5)


def _draw_slope(ax: Axes, one: Frontier) -> None:
    if len(one.slope):
        ax.plot(one.slope_at, one.slope, color="black", label="local slope of the frontier")
        if len(one.spread):
            low, high = one.slope - 2 * one.spread, one.slope + 2 * one.spread
            ax.fill_between(one.slope_at, low, high, color="black", alpha=0.15, linewidth=0)
        # Where the best width changes the envelope has kinks, seen in its slope.
        changes = np.flatnonzero(np.diff(one.best)) + 1
        for i in changes:
            ax.axvline(one.compute[i], color="#BBBBBB", linewidth=0.6)
    ax.axhline(one.predicted, color="black", linestyle="--", label=f"theory {one.predicted:.3f}")
    ax.set(xscale="log", xlabel=_UNITS[one.cost], ylabel="exponent in compute [1]")
    ends = [edge for compute, _ in one.curves.values() for edge in (compute[0], compute[-1])]
    ax.set(xlim=(min(ends), max(ends)), ylim=(0, 1.6 * one.predicted))
    said = "flat" if one.reached else "no flat slope reached"
    ax.set_title(f"{said}; grey: the best width changes")
    ax.legend()
