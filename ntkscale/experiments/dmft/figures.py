"""Figures of `train.py dmft`: networks solid, theory dashed."""

from pathlib import Path

import polars as pl

from ntkscale.experiments.dmft.cells import kinds
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings, grid
from ntkscale.reporting import COLOURS, Picture, house_style, ladder, new_figure, save_figure

_TIME = "flow time t [sum of learning rates]"


def draw_losses(frame: pl.DataFrame, settings: DmftSettings, folder: Path) -> Picture:
    """Training mse of theory and of the widest networks, a panel for depths, one for gamma0.

    Where there is one depth or one gamma0 alone, its panel would repeat the other's curve.

    With cross-entropy it is the loss that is optimised: |one-hot - f|^2 says nothing there.
    """
    plain = settings.loss == "mse"
    column, unit = ("mse", "target²") if plain else ("loss", "nats")
    deepest, richest = settings.depth[-1], settings.gamma0[-1]
    depths = sorted((d, g) for d, g in grid(settings) if g == richest)
    gammas = sorted((d, g) for d, g in grid(settings) if d == deepest)
    panels = [(gammas, f"L = {deepest}")]
    if len(depths) > 1:
        first = (depths, f"gamma0 = {richest:g}")
        panels = [first, *panels] if len(gammas) > 1 else [first]
    figure, axes = new_figure(len(panels))
    with house_style():
        for ax, (chosen, title) in zip(axes, panels, strict=True):
            for (depth, gamma0), colour in zip(chosen, ladder(len(chosen)), strict=True):
                own = frame.filter((pl.col("depth") == depth) & (pl.col("gamma0") == gamma0))
                theory = own.filter((pl.col("kind") == FULL) & pl.col("width").is_null())
                ax.plot(theory["time"], theory[column], "--", color=colour, linewidth=1.2)
                if plain and "mse_error" in theory.columns:
                    middle, error = theory["mse"], theory["mse_error"]
                    # A log axis has no room for what reaches zero.
                    low = (middle - error).clip(lower_bound=0.1 * middle)
                    ax.fill_between(
                        theory["time"], low, middle + error, color=colour, alpha=0.2, linewidth=0
                    )
                nets = own.filter(
                    (pl.col("kind") == "network") & (pl.col("width") == settings.width[-1])
                )
                over = nets.group_by("time").agg(
                    mean=pl.col(column).mean(), sd=pl.col(column).std().fill_null(0.0)
                )
                over = over.sort("time")
                name = f"L = {depth}" if chosen is depths else f"gamma0 = {gamma0:g}"
                ax.errorbar(
                    over["time"], over["mean"], yerr=over["sd"], fmt="o", markersize=3,
                    color=colour, elinewidth=0.8, label=name,
                )  # fmt: skip
            ax.set(xlabel=_TIME, ylabel=f"{column} [{unit}]", yscale="log", title=title)
            ax.legend(fontsize=6.5)
    band = " with its standard error" if plain else ""
    return Picture(
        save_figure(figure, folder, "losses")[0],
        f"Training {column} against flow time, theory and networks.",
        f"Dashed: theory{band}. Points: networks of width {settings.width[-1]:,}, mean and "
        "standard deviation over seeds.",
    )


def draw_errors(frame: pl.DataFrame, settings: DmftSettings, folder: Path) -> Picture:
    """Relative error and misalignment of every kernel against width, deepest and richest."""
    figure, axes = new_figure(2)
    own = frame.filter(
        (pl.col("depth") == settings.depth[-1])
        & (pl.col("gamma0") == settings.gamma0[-1])
        & (pl.col("kind") == FULL)
        & (pl.col("part") == "all")
        & pl.col("seed").is_not_null()
    ).with_columns(misalignment=1 - pl.col("alignment"))
    names = [k for k in dict.fromkeys(own["kernel"].to_list()) if k != "outputs"]
    with house_style():
        for ax, column, power, label in (
            (axes[0], "error", 0.5, "relative error of a kernel [1]"),
            (axes[1], "misalignment", 1.0, "1 - alignment [1]"),
        ):
            for position, kernel in enumerate(names):
                over = own.filter(pl.col("kernel") == kernel).group_by("width")
                mean = over.agg(m=pl.col(column).mean(), s=pl.col(column).std().fill_null(0.0))
                mean = mean.sort("width")
                ax.errorbar(
                    mean["width"], mean["m"], yerr=mean["s"], marker="o", markersize=3,
                    color=COLOURS[position % len(COLOURS)], linestyle="-" if position < 7 else ":",
                    linewidth=1, elinewidth=0.7, label=kernel,
                )  # fmt: skip
            last = own.filter(pl.col("width") == own["width"].max())[column].mean()
            if names and last is not None:  # None: every network of the largest width diverged
                line = [last * (w / settings.width[-1]) ** -power for w in settings.width]
                ax.plot(settings.width, line, "k--", linewidth=1, label=f"N^-{power:g}")
            ax.set(xscale="log", yscale="log", xlabel="width N [neurons]", ylabel=label)
            ax.set_xticks(settings.width, [f"{width:,}" for width in settings.width])
            ax.set_xticks([], minor=True)
            ax.legend(fontsize=6, ncols=2)
    return Picture(
        save_figure(figure, folder, "errors_against_width")[0],
        "Error and misalignment of kernels against width.",
        f"L = {settings.depth[-1]}, gamma0 = {settings.gamma0[-1]:g}; over all pairs of times; "
        "mean and standard deviation over single networks. Dashed: slope of theory.",
    )


def draw_approximations(frame: pl.DataFrame, settings: DmftSettings, folder: Path) -> Picture:
    """Losses of every kind of theory at the largest gamma0; mean alignment against gamma0."""
    figure, axes = new_figure(2)
    rich, widest = settings.gamma0[-1], settings.width[-1]
    with house_style():
        for kind, colour in zip(kinds(settings), COLOURS, strict=False):
            own = frame.filter((pl.col("kind") == kind) & (pl.col("depth") == settings.depth[-1]))
            curve = own.filter((pl.col("gamma0") == rich) & pl.col("width").is_null())
            axes[0].plot(curve["time"], curve["mse"], "--", color=colour, label=kind)
            kernels = own.filter(
                (pl.col("width") == widest)
                & pl.col("seed").is_null()
                & (pl.col("part") == "all")
                & pl.col("kernel").str.contains("^(phi|g)")
            )
            mean = kernels.group_by("gamma0").agg(pl.col("alignment").mean()).sort("gamma0")
            axes[1].plot(mean["gamma0"], mean["alignment"], "o--", color=colour, label=kind)
        nets = frame.filter(
            (pl.col("kind") == "network")
            & (pl.col("gamma0") == rich)
            & (pl.col("depth") == settings.depth[-1])
            & (pl.col("width") == widest)
        )
        over = nets.group_by("time").agg(pl.col("mse").mean()).sort("time")
        axes[0].plot(over["time"], over["mse"], "ko", markersize=3, label=f"networks, N = {widest}")
        title = f"gamma0 = {rich:g}"
        axes[0].set(xlabel=_TIME, ylabel="mse [target²]", yscale="log", title=title)
        axes[1].set(xlabel="gamma0 [1]", ylabel="mean alignment with networks [1]")
        for ax in axes:
            ax.legend(fontsize=6)
    return Picture(
        save_figure(figure, folder, "approximations")[0],
        "Theory and its approximations against networks.",
        "Dashed: theories. Alignment: mean over Phi and G of all layers, with the mean network.",
    )


def draw_cnn(frame: pl.DataFrame, settings: DmftSettings, folder: Path) -> Picture:
    """Test mse, test error and alignment in time; colour is gamma0, line is width.

    Args:
        frame: rows of the networks that did not diverge.
        settings: of the run.
        folder: where the picture goes.
    """
    figure, axes = new_figure(3)
    styles = ("-", "--", ":", "-.")
    with house_style():
        for ax, column, label in zip(
            axes,
            ("test_mse", "test_error", "alignment"),
            ("test mse [target²]", "test error [1]", "alignment of Phi and y y^T [1]"),
            strict=True,
        ):
            for gamma0, colour in zip(settings.gamma0, ladder(len(settings.gamma0)), strict=True):
                for i, width in enumerate(settings.width):
                    own = frame.filter((pl.col("gamma0") == gamma0) & (pl.col("width") == width))
                    mean = own.group_by("time").agg(pl.col(column).mean()).sort("time")
                    mean = mean.filter(pl.col("time") > 0)  # outputs are 0 at the start
                    ax.plot(
                        mean["time"], mean[column], styles[i % 4], color=colour, linewidth=1.2,
                        label=f"gamma0 = {gamma0:g}, N = {width}",
                    )  # fmt: skip
            ax.set(xlabel=_TIME, ylabel=label)
        axes[0].legend(fontsize=5.5)
    return Picture(
        save_figure(figure, folder, "cnn")[0],
        "Test mse, test error and alignment of CNNs for several gamma0 and widths.",
        "Means over seeds that did not diverge. Curves of one colour should lie on each other.",
    )
