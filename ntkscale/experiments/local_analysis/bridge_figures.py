"""When are features learned: one large step, along the way, or at the regularised end?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.local_analysis.bridge import ONE_STEP
from ntkscale.experiments.local_analysis.measures import Bridge
from ntkscale.reporting import (
    COLOURS,
    Entry,
    Picture,
    Table,
    house_style,
    ladder,
    new_figure,
    save_figure,
)

SHARE = 0.03
"""Of the loss at the start: where students are compared at equal loss."""

MEASURES = {
    "weighted_angle": ("angle", "weighted angle [degrees]", 1),
    "capture": ("capture", "mass in the teacher's subspace |P w|² [1]", 3),
    "far_10": ("far", "mass farther than 10 degrees [1]", 3),
}


def draw_bridge(own: Sequence[Bridge], folder: Path) -> Picture:
    """Angle and subspace capture against flow time, loss and stage, a colour for each way."""
    ways = own[0].ways
    colours = dict(zip(ways[1:], ladder(len(ways) - 1), strict=True)) | {ONE_STEP: COLOURS[1]}
    figure, axes = new_figure(3, 2)
    with house_style():
        for row, measure in enumerate(("weighted_angle", "capture")):
            by_time, by_loss, by_stage = axes[3 * row : 3 * row + 3]
            for way in ways:
                for one in own:
                    label = way if one is own[0] else None
                    style = {"color": colours[way], "linewidth": 0.9, "label": label}
                    _lines(by_time, by_loss, one, way, measure, style)
                _stages(by_stage, own, way, measure, colours[way])
            for ax in (by_time, by_loss, by_stage):
                ax.set_ylabel(MEASURES[measure][1])
            by_time.set(xscale="log", xlabel="flow time t [sum of learning rates]")
            by_loss.set(xscale="log", xlabel="MSE over that of the start [1]")
            by_loss.axvline(SHARE, color="0.7", linestyle=":", linewidth=0.9)
            by_loss.invert_xaxis()
        axes[0].set_title("along the way")
        axes[1].set_title("at equal loss (dots: regularised end)")
        axes[2].set_title("by stage")
        axes[1].legend(fontsize=6)
    return Picture(
        save_figure(figure, folder, "bridge")[0],
        "When are features learned: one large step, gamma0, or the regularised end?",
        f"A line for each seed ({len(own)}); by stage: means and deviations. The one large step is "
        "followed by a fitted read-out and descent without lambda. Dots: after each lambda of the "
        "end phase.",
    )


def _lines(by_time: Axes, by_loss: Axes, one: Bridge, way: str, measure: str, style: dict) -> None:
    own = one.of(way, "early", "along")
    if way != ONE_STEP:
        by_time.plot(own["time"], own[measure], **style)
    by_loss.plot(own["mse"] / one.power, own[measure], **style)
    late = one.of(way, "late")
    by_loss.plot(
        late["mse"] / one.power, late[measure], "o", markersize=2.5, color=style["color"], alpha=0.6
    )


STAGES = ("start", "early", "equal loss", "λ = 0, end", "regularised end")


def at_stages(one: Bridge, way: str, measure: str) -> list[float]:
    """A measure at `STAGES`: early is one large step, or the loss halved."""
    early = one.last(way, "early", measure)
    if way != ONE_STEP:
        early = one.at_loss(way, 0.5, measure)
    return [
        one.last(way, "start", measure),
        early,
        one.at_loss(way, SHARE, measure),
        one.last(way, "along", measure),
        one.last(way, "late", measure),
    ]


def _stages(ax: Axes, own: Sequence[Bridge], way: str, measure: str, colour: str) -> None:
    table = np.array([at_stages(one, way, measure) for one in own])
    known = np.isfinite(table).all(0)
    places = np.arange(len(STAGES))[known]
    ax.errorbar(
        places, table[:, known].mean(0), yerr=table[:, known].std(0), marker="o", markersize=3,
        color=colour, linewidth=0.9, elinewidth=0.6,
    )  # fmt: skip
    ax.set_xticks(range(len(STAGES)), STAGES, fontsize=6.5, rotation=15)


def bridge_table(own: Sequence[Bridge]) -> Table:
    """Loss, angle, capture and far mass of every way at every stage."""
    rows: list[dict[str, Entry | str]] = []
    for way in own[0].ways:
        for measure, (short, _, digits) in MEASURES.items():
            table = np.array([at_stages(one, way, measure) for one in own])
            row: dict[str, Entry | str] = {"student": way, "measure": short}
            row |= {
                stage: mean_over_seeds(list(column), digits=digits)
                for stage, column in zip(STAGES, table.T, strict=True)
            }
            rows.append(row)
        power = np.array([one.power for one in own])
        losses = np.array([at_stages(one, way, "mse") for one in own]).T / power
        row = {"student": way, "measure": "MSE / start"}
        for stage, column in zip(STAGES, losses, strict=True):
            row[stage] = f"{np.mean(column):.2g}" if np.isfinite(column).all() else "-"
        rows.append(row)
    note = (
        "Angle: degrees to the nearest teacher direction, weighted by mass; capture: |P w|^2, P on "
        "the teacher's subspace, likewise; far: share of mass beyond 10 degrees. Early: after one "
        f"large step and a fitted read-out, or when the loss has halved. Equal loss: {SHARE:g} of "
        f"the start. Means over seeds ({len(own)}) with 95 % intervals; dashes: not reached."
    )
    return Table("Early, along the way, late", ["student", "measure", *STAGES], rows, note)
