"""Curves of `train.py adversarial-kernel`: features, all pairs, transfer, consistency."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy import ndarray

from ntkscale.experiments.adversarial_kernel.claims import eps_name
from ntkscale.experiments.adversarial_kernel.measures import (
    Classifiers,
    Features,
    Networks,
    by_pair,
    class_name,
    pair_name,
)
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.reporting import (
    COLOURS,
    Picture,
    axis_label,
    house_style,
    ladder,
    new_figure,
    save_figure,
)


def draw_features(
    own: Sequence[Features], settings: AdversarialKernelSettings, folder: Path
) -> Picture:
    """Usefulness against robustness, robustness by index, sums of features, early stopping."""
    one, pair = own[0], own[0].pair
    first = eps_name(settings, 0)
    figure, axes = new_figure(2, 2)
    with house_style():
        _scatter(axes[0], one)
        for k, other in enumerate(own):
            axes[1].semilogx(
                other.index + 1, other.robust.value, ".", color=COLOURS[k % len(COLOURS)],
                markersize=4, label=f"seed {other.seed}",
            )  # fmt: skip
        if len(own) > 1:
            axes[1].legend()
        rho = np.mean([other.spearman["robust"][0] for other in own])
        axes[1].set(
            xlabel="index of the feature + 1 [1]", ylabel=f"robustness, FGSM {first} [1]",
            title=f"robustness by index (Spearman {rho:.3f})",
        )  # fmt: skip
        counts = one.counts.astype(float)
        _accuracies(axes[2], counts, [other.cumulative for other in own], settings)
        axes[2].set(
            xscale="log", xlabel="number of leading features [1]", ylabel="test accuracy [1]",
            title="sums of leading features",
        )  # fmt: skip
        times = np.array(settings.times)
        late = times[-1] * (times[-1] / times[0]) ** (1 / max(1, len(times) - 1))
        late = late if len(times) > 1 else 10 * times[-1]
        places = np.append(times, late)
        _accuracies(axes[3], places, [other.early for other in own], settings)
        axes[3].set_xscale("log")
        axes[3].set_xticks(places, [*(f"{time:g}" for time in times), "never"])
        axes[3].set_xticks([], minor=True)
        axes[3].set(
            xlabel=f"stopped at {axis_label('time')}", ylabel="test accuracy [1]",
            title="early stopping",
        )  # fmt: skip
        # Both lower panels have these curves, and no corner of theirs is free for certain.
        handles, labels = axes[3].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.set_layout_engine("constrained", wspace=0.06)  # the colours have a label too
    means = (
        f"mean over {len(own)} seeds, bands from lowest to highest"
        if len(own) > 1
        else "the same seed"
    )
    name = pair_name(settings, pair)
    return Picture(
        save_figure(figure, folder, f"features_{pair[0]}-{pair[1]}")[0],
        f"Usefulness and robustness of the kernel's features, {name}.",
        f"{name}, {settings.size} training images. First panel: seed {one.seed}, bars are exact "
        f"95 % intervals. Lower panels: {means}.",
    )


def _scatter(ax: Axes, one: Features) -> None:
    useful, robust = one.useful.value, one.robust.value
    for values, intervals, axis in (
        (useful, one.useful.interval(), "xerr"),
        (robust, one.robust.interval(), "yerr"),
    ):
        errors: Any = {axis: np.abs(intervals.T - values)}
        ax.errorbar(useful, robust, fmt="none", ecolor="0.85", elinewidth=0.6, zorder=1, **errors)
    dots = ax.scatter(
        useful, robust, c=one.index + 1, norm=LogNorm(1, one.index[-1] + 1), cmap="viridis_r",
        s=14, zorder=2,
    )  # fmt: skip
    ax.axvline(0.5, color="0.6", linestyle=":", linewidth=1)
    ax.figure.colorbar(dots, ax=ax, label="index + 1 [1]")
    ax.set(
        xlabel="usefulness [1]", ylabel="robustness [1]", title="single features (dotted: chance)"
    )


def _accuracies(
    ax: Axes,
    places: Float[ndarray, "K"],
    own: Sequence[Classifiers],
    settings: AdversarialKernelSettings,
) -> None:
    """Clean, random signs and every eps: mean and range over seeds."""
    attacks = [int(k) for k in np.argsort(settings.eps)]
    colours = ladder(len(attacks) + 1)[::-1][1:]
    curves: list[tuple[str, Any, str, str]] = [
        ("clean", np.array([one.clean for one in own]), "k", "-"),
        ("random signs", np.array([one.random for one in own]), "0.5", "--"),
    ]
    for which, colour in zip(attacks, colours, strict=True):
        table = np.array([one.attacked[which] for one in own])
        curves.append((f"FGSM {eps_name(settings, which)}", table, colour, "-"))
    for label, table, colour, style in curves:
        ax.plot(places, table.mean(0), style, color=colour, label=label, marker="o", markersize=3)
        if len(table) > 1:
            ax.fill_between(
                places, table.min(0), table.max(0), color=colour, alpha=0.15, linewidth=0
            )


def draw_pairs(
    found: Sequence[Features], settings: AdversarialKernelSettings, folder: Path
) -> Picture:
    """Rank correlation of every pair as a map, and what leading and all features keep."""
    figure, axes = new_figure(2, 1)
    grid = np.full((10, 10), np.nan)
    for pair, own in by_pair(found).items():
        grid[pair[1], pair[0]] = np.mean([one.spearman["robust"][0] for one in own])
    names = [class_name(settings, k) for k in range(10)]
    with house_style():
        shown = axes[0].imshow(grid, cmap="viridis")
        axes[0].grid(visible=False)
        axes[0].set_xticks(range(10), names, rotation=60, ha="right", fontsize=6.5)
        axes[0].set_yticks(range(10), names, fontsize=6.5)
        axes[0].set_title("Spearman(index, robustness)")
        for (row, column), rho in np.ndenumerate(grid):
            if np.isfinite(rho):
                axes[0].text(
                    column,
                    row,
                    f"{rho:.2f}".replace("0.", ".", 1),
                    ha="center",
                    va="center",
                    fontsize=5,
                    color="k" if rho > (np.nanmax(grid) + np.nanmin(grid)) / 2 else "w",
                )
        figure.colorbar(shown, ax=axes[0], label="rank correlation [1]")
        top = [one.leading(settings.top) for one in found]
        leading = [one.cumulative.attacked[0, k] for one, k in zip(found, top, strict=True)]
        everything = [one.cumulative.attacked[0, -1] for one in found]
        clean = [one.cumulative.clean[-1] for one in found]
        axes[1].plot(clean, leading, "o", color=COLOURS[0], label=f"first {settings.top} features")
        axes[1].plot(clean, everything, "o", color=COLOURS[1], label="all features")
        axes[1].plot([0.5, 1], [0.5, 1], color="0.7", linewidth=0.8)
        axes[1].set(
            xlabel="clean test accuracy, all features [1]",
            ylabel=f"accuracy under FGSM {eps_name(settings, 0)} [1]",
            title="every pair of classes",
        )
        axes[1].legend()
    return Picture(
        save_figure(figure, folder, "pairs")[0],
        "Rank correlation of index and robustness, and accuracy under attack, for every pair.",
        "Right: each pair twice, by its first features and by all of them.",
    )


SOURCES = {
    "clean": ("test_accuracy", "k", "o-"),
    "random signs": ("noise_accuracy", "0.5", "o--"),
    "own FGSM": ("fgsm_accuracy", COLOURS[1], "o-"),
    "the kernel": ("kernel", COLOURS[0], "s-"),
    "K_0 of the network": ("K_0", COLOURS[2], "^-"),
    "K_T of the network": ("K_T", COLOURS[3], "v-"),
}


def draw_transfer(
    found: Sequence[Networks],
    kernel: Sequence[dict[str, Any]],
    settings: AdversarialKernelSettings,
    folder: Path,
    stem: str,
) -> Picture:
    """Accuracy under each attack and cosine of gradients, over width, gamma0 and flow time."""
    over_width = [one for one in found if one.gamma0 is None]
    richness = [one for one in found if one.gamma0 is not None]
    figure, axes = new_figure(3, 2 if richness else 1)
    with house_style():
        widths = [one.width for one in over_width]
        _over(axes[0], widths, over_width, lambda name: name, SOURCES)
        own = float(np.mean([one["fgsm_accuracy"] for one in kernel]))
        axes[0].axhline(
            own, color=COLOURS[0], linestyle=":", linewidth=1, label="the kernel, by itself"
        )
        axes[0].set(xscale="log", xlabel="width N [neurons]", ylabel="test accuracy [1]")
        axes[0].set_title("accuracy under attack, at equal training loss")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=6.5)
        cosines = {name: entry for name, entry in SOURCES.items() if entry[0][0] in "kK"}
        _over(axes[1], widths, over_width, lambda name: f"cosine, {name}", cosines)
        axes[1].set(
            xscale="log", xlabel="width N [neurons]", ylabel="cosine of input gradients [1]"
        )
        axes[1].set_title("network and kernels")
        for ax in axes[:2]:
            _ticks(ax, widths)
        _over_time(axes[2], over_width, [f"N = {w}" for w in widths])
        axes[2].set_title("kernel at equal flow time")
        if richness:
            gammas = [one.gamma0 or 0.0 for one in richness]
            _over(axes[3], gammas, richness, lambda name: name, SOURCES)
            axes[3].set(xscale="log", xlabel="richness gamma0 [1]", ylabel="test accuracy [1]")
            axes[3].set_title(f"width {settings.ladder_width}, at equal training loss")
            _over(axes[4], gammas, richness, lambda name: f"cosine, {name}", cosines)
            axes[4].set(
                xscale="log", xlabel="richness gamma0 [1]", ylabel="cosine of input gradients [1]"
            )
            axes[4].set_title("network and kernels")
            for ax in axes[3:5]:
                _ticks(ax, gammas)
            _over_time(axes[5], richness, [f"gamma0 = {g:g}" for g in gammas])
            axes[5].set_title("kernel at equal flow time")
    return Picture(
        save_figure(figure, folder, stem)[0],
        "Attacks made on kernels and tried on networks, over width, richness and flow time.",
        f"FGSM {eps_name(settings, 0)}; mean over {len(kernel)} seeds, bars and bands from lowest "
        "to highest.",
    )


def _over(
    ax: Axes,
    places: Sequence[float],
    found: Sequence[Networks],
    named: Callable[[str], str],
    sources: dict[str, tuple[str, str, str]],
) -> None:
    for label, (name, colour, style) in sources.items():
        tables = [np.array(one.each(named(name))) for one in found]
        means = np.array([table.mean() for table in tables])
        spread = [
            means - [table.min() for table in tables],
            [table.max() for table in tables] - means,
        ]
        ax.errorbar(
            places, means, yerr=np.abs(spread), fmt=style, color=colour, label=label, markersize=4,
            elinewidth=0.7,
        )  # fmt: skip


def _over_time(ax: Axes, found: Sequence[Networks], labels: Sequence[str]) -> None:
    """Cosine with the kernel that has learned for as long, over flow time."""
    name = "gradient_cosine"
    for one, label, colour in zip(found, labels, ladder(len(found)), strict=True):
        own = one.rows.filter(pl.col(name).is_not_null()).with_columns(
            pl.col("time").round_sig_figs(6)
        )
        means = own.group_by("time").agg(
            pl.col(name).mean().alias("mean"),
            pl.col(name).min().alias("low"),
            pl.col(name).max().alias("high"),
            pl.len().alias("seeds"),
        ).sort("time")  # fmt: skip
        means = means.filter(pl.col("seeds") == means["seeds"].max())
        times = means["time"].to_numpy()
        ax.plot(times, means["mean"].to_numpy(), ".-", color=colour, label=label)
        low, high = means["low"].to_numpy(), means["high"].to_numpy()
        ax.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(
        xscale="log", xlabel="flow time t [sum of learning rates]",
        ylabel="cosine of input gradients [1]",
    )  # fmt: skip
    ax.legend(fontsize=6.5)


def _ticks(ax: Axes, places: Sequence[float]) -> None:
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.set_xticks([], minor=True)


def draw_consistency(
    names: Sequence[str],
    tables: dict[str, Float[ndarray, "M M"]],
    count: int,
    chance: float,
    folder: Path,
    seeds: int,
) -> Picture:
    """Overlap of leading eigenspaces and correlation of their functions, kernel by kernel."""
    with house_style():
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        axes = figure.subplots(1, 2)
        for ax, (title, table) in zip(axes, tables.items(), strict=True):
            shown = ax.imshow(table, vmin=0, vmax=1, cmap="viridis")
            ax.grid(visible=False)
            ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=6.5)
            ax.set_yticks(range(len(names)), names, fontsize=6.5)
            for (row, column), entry in np.ndenumerate(table):
                colour = "k" if entry > 0.6 else "w"
                ax.text(
                    column,
                    row,
                    f"{entry:.2f}",
                    ha="center",
                    va="center",
                    fontsize=5.5,
                    color=colour,
                )
            ax.set_title(title)
            figure.colorbar(shown, ax=ax, shrink=0.75, label=f"{title} [1]")
    return Picture(
        save_figure(figure, folder, "consistency")[0],
        "How far the leading features of different kernels agree.",
        f"The {count} leading features; overlap by chance {chance:.3f}. Mean over {seeds} pairs "
        "and seeds. Finite networks at their initialisation.",
    )


def colour_map() -> Any:
    """Of signed images: blue below zero, red above."""
    return mpl.colormaps["RdBu_r"]
