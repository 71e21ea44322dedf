"""Figures of `train.py scaling-model`, theory dashed in each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ntkscale.experiments.scaling_model.measures import (
    Curves,
    Exponent,
    best_on_the_way,
    expected,
    measured_phase,
    network_points,
    pick,
)
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings
from ntkscale.reporting import (
    COLOURS,
    Picture,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.scaling import predict
from ntkscale.theory import scaling_model

_TIME, _MSE = "flow time t [sum of learning rates]", "mse [target²]"
_SHOWN = 0.02  # a difference to theory that is written into the phase diagrams
_MARKS = {
    "time + model": "o",
    "time + transient": "s",
    "batch + transient": "^",
    "batch + model": "v",
}


def draw_exponents(
    found: Sequence[Exponent], settings: ScalingModelSettings, folder: Path
) -> Picture:
    """Exponent in time against beta: both laws, what was solved, networks."""
    figure, axes = new_figure()
    ax = axes[0]
    with house_style():
        top = max(float(one.what["beta"]) for one in found)
        beta = np.linspace(0.05, 1.05 * top, 200)
        ax.plot(beta, beta, "k:", label="lazy theory, beta")
        rich = beta * np.maximum(1, 2 / (1 + beta))
        ax.plot(beta, rich, "k--", label="rich theory, chi(beta)")
        for gamma, colour in ((0.0, COLOURS[0]), (settings.rich, COLOURS[1])):
            own = [one for one in found if one.what["gamma"] == gamma]
            ax.errorbar(
                [float(one.what["beta"]) for one in own],
                [one.measured for one in own],
                yerr=_bars([(one.measured, one.interval) for one in own]),
                fmt="o",
                markersize=3.5,
                elinewidth=0.8,
                color=colour,
                label=f"solved, gamma = {gamma:g}",
            )
        networks = network_points(settings)
        for name, colour in (("lazy", COLOURS[4]), ("rich", COLOURS[5])):
            own = [one for one in networks if one[0] == name]
            if not own:
                continue
            ax.errorbar(
                [one[1] for one in own],
                [one[2] for one in own],
                yerr=_bars([(one[2], one[3]) for one in own]),
                fmt="D",
                markersize=4.5,
                elinewidth=0.8,
                color=colour,
                markerfacecolor="none",
                label=f"two-layer ReLU networks, {name}",
            )
        ax.set(xlabel="source exponent beta [1]", ylabel="exponent in time [1]")
        ax.legend(fontsize=6.5)
    return Picture(
        save_figure(figure, folder, "exponent_against_beta")[0],
        "Exponent of the loss in time against beta: theory, solved model and trained networks.",
        "Bars: 95 % of the fit (solved), two standard deviations over seeds or 95 % (networks).",
    )


def draw_phases(results: Sequence[dict[str, Any]], folder: Path) -> Picture:
    """Measured compute exponents and dominating terms in the (alpha, beta) plane."""
    figure, axes = new_figure(2)
    with house_style():
        low = min(min(r["lazy"], r["rich"]) for r in results)
        high = max(max(r["lazy"], r["rich"]) for r in results)
        for ax, name in zip(axes, ("lazy", "rich"), strict=True):
            drawn = None
            for kind, mark in _MARKS.items():
                own = [r for r in results if measured_phase(r, name) == kind]
                if not own:
                    continue
                drawn = ax.scatter(
                    [r["alpha"] for r in own],
                    [r["beta"] for r in own],
                    c=[r[name] for r in own],
                    marker=mark,
                    s=60,
                    vmin=low,
                    vmax=high,
                    cmap="viridis",
                    edgecolors="black",
                    linewidths=0.4,
                    label=kind,
                )
                for r in own:
                    missing = r[name] - expected(r, name)
                    if abs(missing) < _SHOWN:
                        continue
                    ax.annotate(
                        f"{missing:+.2f}",
                        (r["alpha"], r["beta"]),
                        xytext=(0, -11),
                        textcoords="offset points",
                        ha="center",
                        fontsize=5.5,
                    )
            # Room for the regimes' names beside the points.
            alpha = np.linspace(1.0, 0.7 + max(r["alpha"] for r in results), 200)
            ax.axhline(1.0, color="black", linestyle="--", linewidth=1.0)
            ax.plot(alpha, 2 - 1 / alpha, "k--", linewidth=1.0)
            for y, word in ((0.5, "hard"), (1.15, "easy"), (2.0, "super-easy")):
                ax.text(0.99 * alpha[-1], y, word, fontsize=7, ha="right", style="italic")
            ax.set(
                xlabel="capacity exponent alpha [1]",
                ylabel="source exponent beta [1]",
                ylim=(0, max(r["beta"] for r in results) + 0.25),
                title=name,
            )
            ax.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)
            if drawn is not None:
                figure.colorbar(drawn, ax=ax, label="measured r of mse ~ C^-r [1]")
        figure.set_layout_engine("constrained", wspace=0.06)  # the colours have a label too
    return Picture(
        save_figure(figure, folder, "phase_diagrams")[0],
        "Compute exponents and largest terms of the loss in the (alpha, beta) plane.",
        "Colour: exponent of the solved frontier; below a point: minus theory, from "
        f"{_SHOWN} on. Mark: the larger "
        "of the falling terms (time, batch) and of the width's (plateau, transient) at the middle "
        "of the frontier. Dashed: beta = 1 and beta = 2 - 1/alpha. Lazy super-easy points are SGD, "
        "rich ones gradient flow, whose exponent there is alpha beta / (alpha beta + 1).",
    )


def draw_times(metrics: pl.DataFrame, settings: ScalingModelSettings, folder: Path) -> Picture:
    """A row a beta: ladder of gamma at infinite width; finite widths, lazy and rich."""
    figure, axes = new_figure(3, len(settings.beta))
    with house_style():
        for i, beta in enumerate(settings.beta):
            left, lazy, rich = axes[3 * i : 3 * i + 3]
            says = predict(settings.alpha, beta)
            for gamma, colour in zip(settings.gamma, ladder(len(settings.gamma)), strict=True):
                keys = {"part": "curves", "beta": beta, "width": None, "gamma": gamma}
                own = pick(metrics, **keys)
                if own is not None:
                    left.plot(own.times, own.mean, color=colour, label=f"gamma = {gamma:g}")
                    slope = says.time_lazy if gamma == 0 else says.time_rich
                    if gamma in (0.0, settings.rich):
                        _law(left, own, slope, f"t^-{slope:.3g}")
            _axes(left, f"beta = {beta:g}, N infinite")
            for ax, gamma in ((lazy, 0.0), (rich, settings.rich)):
                _draw_widths(ax, metrics, settings, beta, gamma)
    return Picture(
        save_figure(figure, folder, "loss_in_time")[0],
        "Loss in time for a ladder of gamma, at infinite and at finite width.",
        "Solid: solved; finite width: mean over draws of A_0, shaded 95 % of it. Dashed: laws of "
        "theory (infinite width), average over A_0 by its deterministic equivalent (finite).",
    )


def _draw_widths(
    ax: Axes, metrics: pl.DataFrame, settings: ScalingModelSettings, beta: float, gamma: float
) -> None:
    for width, colour in zip(settings.width, ladder(len(settings.width)), strict=True):
        keys = {"part": "curves", "beta": beta, "width": width, "gamma": gamma}
        drawn, theory = (pick(metrics, **keys, kind=k) for k in ("draw", "theory"))
        if drawn is None or theory is None:
            continue
        ax.plot(drawn.times, drawn.mean, color=colour, label=f"N = {width:,}")
        ax.fill_between(drawn.times, *drawn.band, color=colour, alpha=0.2, linewidth=0)
        name = "average over A_0" if width == settings.width[-1] else None
        ax.plot(theory.times, theory.mean, "k--", linewidth=0.9, label=name)
    endless = pick(metrics, part="curves", beta=beta, width=None, gamma=gamma)
    if endless is not None:
        ax.plot(endless.times, endless.mean, color="#999999", label="N infinite")
    _axes(ax, f"beta = {beta:g}, gamma = {gamma:g}")


def draw_sgd(metrics: pl.DataFrame, settings: ScalingModelSettings, folder: Path) -> Picture:
    """A row a beta, lazy and rich: one-pass SGD for every batch size."""
    own = metrics.filter(pl.col("part") == "sgd")
    betas = [beta for beta in settings.beta if beta in own["beta"].to_list()]
    figure, axes = new_figure(2, len(betas))
    with house_style():
        for i, beta in enumerate(betas):
            says = predict(settings.alpha, beta)
            for ax, gamma in ((axes[2 * i], 0.0), (axes[2 * i + 1], settings.rich)):
                sizes = settings.batch_size
                for batch, colour in zip(sizes, ladder(len(sizes)), strict=True):
                    keys = {"beta": beta, "batch_size": batch, "gamma": gamma}
                    drawn, theory = (pick(own, **keys, kind=k) for k in ("draw", "theory"))
                    if drawn is not None:
                        ax.plot(drawn.times, drawn.mean, color=colour, label=f"B = {batch}")
                        ax.fill_between(
                            drawn.times, *drawn.band, color=colour, alpha=0.2, linewidth=0
                        )
                    if theory is not None:
                        name = None
                        if batch == sizes[-1]:
                            name = "expected" if gamma == 0 else "mean-field"
                        ax.plot(theory.times, theory.mean, "k--", linewidth=0.9, label=name)
                        if gamma == 0 and batch == min(sizes):
                            late = min(says.time_lazy, says.batch_transient_lazy)
                            _law(ax, theory, late, f"t^-{late:.3g}", below=0.3)
                _axes(ax, f"beta = {beta:g} ({says.regime}), gamma = {gamma:g}")
    return Picture(
        save_figure(figure, folder, "sgd_transients")[0],
        "One-pass SGD at infinite width for a ladder of batch sizes, lazy and rich.",
        "Solid: mean of simulations, shaded 95 % of it. Dashed: lazy, the exact expectation; rich, "
        "the mean-field equations over the steps that they can be solved for. Dotted: late law.",
    )


def draw_data(metrics: pl.DataFrame, settings: ScalingModelSettings, folder: Path) -> Picture:
    """A row a beta: curves in time with clean and noisy labels; best loss against P."""
    figure, axes = new_figure(3, len(settings.beta))
    with house_style():
        for i, beta in enumerate(settings.beta):
            for ax, noise in zip(axes[3 * i : 3 * i + 2], (0.0, settings.noise), strict=True):
                _draw_stopping(ax, metrics, settings, beta, noise)
            _draw_best(axes[3 * i + 2], metrics, settings, beta)
    return Picture(
        save_figure(figure, folder, "finite_data")[0],
        "Loss in time on finite data with clean and noisy labels, and its best value against P.",
        "Means over draws of the data, shaded 95 %. Solid: rich, dotted: lazy. Dashed: where "
        "theory says the curves end (left), P^-r of theory (right).",
    )


def _draw_stopping(
    ax: Axes, metrics: pl.DataFrame, settings: ScalingModelSettings, beta: float, noise: float
) -> None:
    sizes = settings.num_data
    for points, colour in zip(sizes, ladder(len(sizes)), strict=True):
        keys = {"part": "data", "beta": beta, "num_data": points, "noise": noise}
        for gamma, style in ((settings.rich, "-"), (0.0, ":")):
            own = pick(metrics, **keys, gamma=gamma)
            if own is None:
                continue
            name = f"P = {points:,}" if gamma > 0 else None
            ax.plot(own.times, own.mean, style, color=colour, label=name)
            if gamma > 0:
                ax.fill_between(own.times, *own.band, color=colour, alpha=0.15, linewidth=0)
        spectrum = scaling_model.power_law(
            settings.alpha, beta, num_modes=1000 * points, modes_per_decade=30
        )
        end = scaling_model.plateau(spectrum, num_data=points, noise=noise).mse
        ax.axhline(end, color=colour, linestyle="--", linewidth=0.8)
    said = "clean labels" if noise == 0 else f"label noise {noise:g}"
    _axes(ax, f"beta = {beta:g}, {said}", "upper right")


def _draw_best(
    ax: Axes, metrics: pl.DataFrame, settings: ScalingModelSettings, beta: float
) -> None:
    says = predict(settings.alpha, beta)
    for j, noise in enumerate((0.0, settings.noise)):
        law = says.data_noisy if noise else says.data
        for gamma, mark, shift in ((0.0, "o", 0.98), (settings.rich, "s", 1.02)):
            best = best_on_the_way(metrics, settings, beta, gamma, noise)
            if best is None:
                continue
            points, loss, _ = best
            band = Curves(points, loss).band
            mean, name = loss.mean(axis=0), "lazy" if gamma == 0 else "rich"
            label = "clean" if noise == 0 else "noisy"
            ax.errorbar(
                shift * points,
                mean,
                yerr=[mean - band[0], band[1] - mean],
                fmt=mark,
                markersize=4,
                elinewidth=0.8,
                color=COLOURS[j],
                markerfacecolor="none" if gamma == 0 else COLOURS[j],
                label=f"{label}, {name}",
            )
            if gamma == 0:
                line = mean[-1] * (points / points[-1]) ** -law
                ax.plot(points, line, "--", color=COLOURS[j], linewidth=1, label=f"P^-{law:.3g}")
    ax.set(xscale="log", yscale="log", xlabel="training points P [1]", ylabel="best mse [target²]")
    ax.set_xticks(settings.num_data, [f"{count:,}" for count in settings.num_data])
    ax.set_xticks([], minor=True)
    ax.set_title(f"beta = {beta:g}, stopped at the best time")
    ax.legend(fontsize=6.5)


def _axes(
    ax: Axes, title: str, legend: Literal["lower left", "upper right"] = "lower left"
) -> None:
    ax.set(xscale="log", yscale="log", xlabel=_TIME, ylabel=_MSE, title=title)
    ax.legend(fontsize=6.5, loc=legend)


def _law(ax: Axes, own: Curves, slope: float, name: str, below: float = 0.6) -> None:
    """A straight line under the last decades of a curve."""
    times = own.times[own.times > own.times[-1] / 300]
    line = below * own.mean[-1] * (times / times[-1]) ** -slope
    ax.plot(times, line, "k:" if below < 0.5 else "k--", linewidth=0.9, label=name)


def _bars(values: Sequence[tuple[float, tuple[float, float]]]) -> np.ndarray:
    return np.abs([[value - low, high - value] for value, (low, high) in values]).T
