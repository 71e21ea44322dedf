"""Figures of `train.py global-convergence`: losses, rates, errors, movement, kernels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.global_convergence.measures import (
    CURVE,
    KEYS,
    PANEL,
    Record,
    caption,
    grouped,
    over_seeds,
    rows_of,
    varied,
    width_slopes,
)
from ntkscale.reporting import COLOURS, Picture, house_style, ladder, new_figure, save_figure
from ntkscale.runs import Run

TIME = "flow time t [sum of learning rates]"
_COLUMNS = 4


def draw_losses(metrics: pl.DataFrame, records: Sequence[Record], folder: Path) -> Picture:
    """The loss of the first seed, over the loss that is proven at every step of the way."""
    first = min(record["seed"] for record in records)

    def curve(ax: Axes, rows: pl.DataFrame, colour: str, label: str) -> None:
        rows = rows.filter(pl.col("seed") == first).sort("time")
        ax.plot(rows["time"], rows["loss"], color=colour, label=label)
        ax.plot(rows["time"], rows["proven_loss"], ":", color=colour, linewidth=1.1)

    return Picture(
        _panels(metrics, records, folder, "losses", curve, "loss [target²]"),
        "Training loss over time on a logarithmic axis, with its proven upper bound.",
        f"Seed {first}. Dotted: L(0) exp(-∫ r(t) dt), below which the loss is proven to stay; flat "
        "where the bound is vacuous.",
    )


def draw_rates(metrics: pl.DataFrame, records: Sequence[Record], folder: Path) -> Picture:
    """Both rates of the first seed."""
    first = min(record["seed"] for record in records)

    def curve(ax: Axes, rows: pl.DataFrame, colour: str, label: str) -> None:
        rows = rows.filter(pl.col("seed") == first).sort("time")
        ax.plot(rows["time"], rows["instantaneous_rate"], color=colour, label=label)
        proven = rows.filter(pl.col("proven_rate") > 0)
        ax.plot(proven["time"], proven["proven_rate"], ":", color=colour, linewidth=1.1)

    return Picture(
        _panels(metrics, records, folder, "rates", curve, "rate -(dL/dt) / L [1 / flow time]"),
        "Instantaneous rate of the loss and the proven rate over time.",
        f"Seed {first}. Solid: as it is; dotted: r(t) = (2/n) λ_min(G) min_a A_aa, absent where 0.",
    )


def draw_tests(metrics: pl.DataFrame, records: Sequence[Record], folder: Path) -> Picture:
    """Test error over time, mean and range over seeds."""
    tested = [record for record in records if "test_error" in record]

    def curve(ax: Axes, rows: pl.DataFrame, colour: str, label: str) -> None:
        time, middle, low, high = over_seeds(rows, "test_accuracy")
        shown = time > 0
        ax.plot(time[shown], 1 - middle[shown], color=colour, label=label)
        ax.fill_between(
            time[shown], 1 - high[shown], 1 - low[shown], color=colour, alpha=0.2, linewidth=0
        )
        ax.set_xscale("log")

    return Picture(
        _panels(metrics, tested, folder, "test_errors", curve, "test error [1]", log=False),
        "Test error over time in each scaling.",
        "Mean and range over seeds, at times that all seeds reached.",
    )


def draw_kernels(metrics: pl.DataFrame, records: Sequence[Record], folder: Path) -> Picture:
    """How far the feature kernel and the tangent kernel are from their start."""

    def curve(ax: Axes, rows: pl.DataFrame, colour: str, label: str) -> None:
        for name, style in (("feature_kernel_distance", "-"), ("kernel_distance", ":")):
            time, middle, _, _ = over_seeds(rows, name)
            shown = (time > 0) & (middle > 0)
            own = label if style == "-" else None
            ax.plot(time[shown], middle[shown], style, color=colour, label=own)
        ax.set_xscale("log")

    return Picture(
        _panels(metrics, records, folder, "kernels", curve, "kernel distance S from t = 0 [1]"),
        "Distance of the feature kernel and of the tangent kernel from their start, over time.",
        "Means over seeds. Solid: σ(h) σ(h)ᵀ; dotted: the tangent kernel A ∘ G.",
    )


def draw_widths(records: Sequence[Record], folder: Path) -> Picture:
    """Relative movement of h against width on log axes, a colour for all that is not width."""
    figure, (ax,) = new_figure()
    with house_style():
        cases = list(grouped(records, [key for key in KEYS if key != "width"]))
        keys = ["scaling", *varied(records, [k for k in KEYS if k not in ("width", "scaling")])]
        for (named, own), colour in zip(cases, _colours(len(cases)), strict=True):
            by_width = [
                (k["width"], [r["movement"] for r in g]) for k, g in grouped(own, ("width",))
            ]
            widths = [width for width, _ in by_width]
            middle = np.array([np.mean(values) for _, values in by_width])
            reach = [
                middle - [min(values) for _, values in by_width],
                [max(values) for _, values in by_width] - middle,
            ]
            slope = mean_over_seeds(width_slopes(own), digits=2).text
            ax.errorbar(
                widths, middle, yerr=np.abs(reach), fmt="o-", markersize=4, elinewidth=0.8,
                color=colour, label=f"{caption(named, keys)}: slope {slope}",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="width m of the trained layer [neurons]",
               ylabel="|h(T) - h(0)| / |h(0)| [1]")  # fmt: skip
        ticks = sorted({record["width"] for record in records})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.set_xticks([], minor=True)
        figure.legend(loc="outside upper center")
    return Picture(
        save_figure(figure, folder, "movement_over_width")[0],
        "How far neurons move against the width of the layer.",
        "Means and ranges over seeds; slopes with 95 % intervals over seeds.",
    )


def draw_neurons(run: Run, records: Sequence[Record], folder: Path) -> Picture:
    """Histogram of how far single neurons moved, first seed, widest layer."""
    first = min(record["seed"] for record in records)
    widest = max(record["width"] for record in records)
    own = [r for r in records if r["seed"] == first and r["width"] == widest]

    def draw(ax: Axes, some: Sequence[Record]) -> None:
        keys = varied(own, CURVE)
        colours = _colours(len(list(grouped(some, CURVE))))
        for (named, (record, *_)), colour in zip(grouped(some, CURVE), colours, strict=True):
            moved = run.weights(record["cell"])["neuron_movement"].numpy()
            # On a log axis; neurons that never were active have not moved at all.
            shown = moved[moved > 1e-6 * moved.max()]
            if not len(shown):
                continue
            edges = np.geomspace(shown.min() * 0.9999, shown.max() * 1.0001, 31)
            ax.hist(shown, edges, histtype="step", color=colour, label=caption(named, keys) or None)
        ax.set(xscale="log", xlabel="rms over points of h(T) - h(0) [1]", ylabel="neurons [count]")
        # Most panels span less than a decade.
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(NullFormatter())

    cases = list(grouped(own, PANEL))
    columns = min(_COLUMNS, len(cases))
    figure, axes = new_figure(columns, -(-len(cases) // columns))
    with house_style():
        for ax, (named, some) in zip(axes, cases, strict=False):
            draw(ax, some)
            ax.set_title(caption(named, varied(own, PANEL)))
        for ax in axes[len(cases) :]:
            ax.set_axis_off()
        _legend(figure, axes[0])
    return Picture(
        save_figure(figure, folder, "neurons")[0],
        "Histogram of the movement of single neurons.",
        f"Seed {first}, {widest} neurons, at the end of training.",
    )


def _panels(
    metrics: pl.DataFrame,
    records: Sequence[Record],
    folder: Path,
    stem: str,
    curve: Callable[[Axes, pl.DataFrame, str, str], None],
    ylabel: str,
    *,
    log: bool = True,
) -> Path:
    """A panel for each data set and nonlinearity, a curve for each network in it."""
    cases = list(grouped(records, PANEL))
    columns = min(_COLUMNS, len(cases))
    figure, axes = new_figure(columns, -(-len(cases) // columns))
    with house_style():
        for ax, (named, own) in zip(axes, cases, strict=False):
            rows = rows_of(metrics, named)
            for key, colour, label in _curves(own, records):
                curve(ax, rows_of(rows, key), colour, label)
            ax.set(xlabel=TIME, ylabel=ylabel, title=caption(named, varied(records, PANEL)))
            if log:
                ax.set_yscale("log")
        for ax in axes[len(cases) :]:
            ax.set_axis_off()
        _legend(figure, axes[0])
    return save_figure(figure, folder, stem)[0]


def _legend(figure: Figure, ax: Axes) -> None:
    """One for all panels, beside them: they have the same curves."""
    handles, labels = ax.get_legend_handles_labels()
    if any(labels):
        figure.legend(handles, labels, loc="outside right upper")


def _curves(
    own: Sequence[Record], everyone: Sequence[Record]
) -> Iterator[tuple[dict[str, Any], str, str]]:
    keys = varied(everyone, CURVE)
    named = [one for one, _ in grouped(own, CURVE)]
    for one, colour in zip(named, _colours(len(named)), strict=True):
        yield one, colour, caption(one, keys)


def _colours(count: int) -> Sequence[str]:
    return COLOURS[:count] if count <= 3 else ladder(count)
