"""Figures of every circle run: learning curves, exponents, spectra, the kernel on its way.

Where cells differ in width or phases these show the widest networks on the first target;
`phases.py` and `frontier.py` draw what the ladder is about.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.circle.cells import label
from ntkscale.experiments.circle.measures import Baseline, Trained, alike
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.experiments.verdict import kernel_strip
from ntkscale.reporting import (
    COLOURS,
    Curve,
    Picture,
    Spectrum,
    draw_curves,
    draw_source,
    draw_spectrum,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run


def shown(cells: Sequence[Trained]) -> list[Trained]:
    """The widest networks on the first target among those of one spectrum."""
    width = max((cell.condition.width for cell in cells), default=0)
    phases = cells[0].condition.phases if cells else 0
    return [c for c in cells if c.condition.width == width and c.condition.phases == phases]


def draw_losses(cells: Sequence[Trained], settings: CircleSettings, folder: Path) -> Picture:
    """Training loss in time, a panel for each target and network."""
    groups = alike(shown(cells), "gamma0")
    columns = max(1, min(2, len(groups)))
    figure, axes = new_figure(columns, max(1, -(-len(groups) // columns)))
    for ax, own in zip(axes, groups, strict=False):
        first = own[0].baseline
        gammas = list(dict.fromkeys(cell.gamma0 for cell in own))
        colours = dict(zip(gammas, ladder(len(gammas)), strict=True))
        # Slopes stand in the tables; as drawn lines they would hide the curves.
        curves = [
            Curve(
                f"gamma0 = {cell.gamma0:g}" if cell.baseline.seed == first.seed else "",
                cell.times,
                cell.mse,
                colour=colours[cell.gamma0],
            )
            for cell in own
        ]
        curves.append(
            Curve(
                "exact lazy flow of K_0", first.times, first.lazy_mse, theory=True, colour="black"
            )
        )
        window = (float(first.times[0]), float(first.times[-1]))
        title = label(settings, own[0].condition)
        draw_curves(ax, curves, quantity="mse", window=window, title=title)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    return Picture(
        save_figure(figure, folder, "loss_curves")[0],
        "Training loss against flow time for every target and network, lazy to rich.",
        "Shaded: the window of lazy times. One line a seed.",
    )


def draw_exponents(cells: Sequence[Trained], folder: Path) -> Picture:
    """Measured exponents against the source exponent."""
    figure, axes = new_figure()
    with house_style():
        _draw_exponent_axes(axes[0], shown(cells))
    return Picture(
        save_figure(figure, folder, "exponent_against_beta")[0],
        "Measured exponents in time against the source exponent, with both theory lines.",
        "Bars: 95 % intervals of each seed's fit. Beta is measured on K_0 where its law is not "
        "known (ReLU^2, ReLU^3, several layers), with its interval.",
    )


def _draw_exponent_axes(ax: Axes, cells: Sequence[Trained]) -> None:
    bases = list(dict.fromkeys(id(cell.baseline) for cell in cells))
    own = [next(c.baseline for c in cells if id(c.baseline) == base) for base in bases]
    top = max([1.5, *(1.1 * base.source for base in own)])
    beta = np.linspace(0.05, top, 200)
    ax.plot(beta, beta, color="black", linestyle=":", label="lazy theory, beta")
    rich = beta * np.maximum(1, 2 / (1 + beta))
    ax.plot(beta, rich, color="black", linestyle="--", label="rich theory, chi(beta)")
    ax.plot(
        [base.source for base in own],
        [base.infinite.exponent for base in own],
        "x",
        color="black",
        label="infinite width, lazy, in the window",
    )
    gammas = list(dict.fromkeys(cell.gamma0 for cell in cells))
    for gamma0, colour in zip(gammas, ladder(len(gammas)), strict=True):
        there = [cell for cell in cells if cell.gamma0 == gamma0 and cell.slope is not None]
        slopes = [cell.slope for cell in there if cell.slope is not None]
        ax.errorbar(
            [cell.baseline.source for cell in there],
            [slope.exponent for slope in slopes],
            yerr=_bars([(s.exponent, s.interval) for s in slopes]),
            xerr=_bars([_beta_bar(cell.baseline) for cell in there]),
            fmt="o",
            markersize=4,
            elinewidth=0.8,
            color=colour,
            label=f"networks, gamma0 = {gamma0:g}",
        )
    ax.set(xlabel="source exponent beta [1]", ylabel="exponent in time [1]")
    ax.legend()


def _beta_bar(base: Baseline) -> tuple[float, tuple[float, float]]:
    known = base.source == base.beta
    return base.source, (base.source, base.source) if known else base.measured.beta_interval


def _bars(values: Sequence[tuple[float, tuple[float, float]]]) -> np.ndarray | None:
    if not values:
        return None
    return np.abs([[value - low, high - value] for value, (low, high) in values]).T


def draw_spectra(cells: Sequence[Trained], settings: CircleSettings, folder: Path) -> Picture:
    """Eigenvalues of the initial kernels, and the targets' power above each."""
    figure, axes = new_figure(2)
    seed = cells[0].baseline.seed if cells else 0
    groups = alike([cell for cell in shown(cells) if cell.baseline.seed == seed], "gamma0")
    own = [group[0].baseline for group in groups]
    spectra = [
        Spectrum(
            label(settings, base.condition),
            base.eigenvalues,
            base.power,
            tail=base.tail,
            measured=base.measured,
            colour=COLOURS[i % len(COLOURS)],
        )
        for i, base in enumerate(own)
    ]
    # Every target has the same kernel.
    kernels = {(base.condition.power, base.condition.depth): i for i, base in enumerate(own)}
    once = [spectra[i] for i in sorted(kernels.values())] if len(kernels) > 1 else spectra[:1]
    draw_spectrum(axes[0], once, title="capacity")
    draw_source(axes[1], spectra, title="source")
    return Picture(
        save_figure(figure, folder, "initial_kernel")[0],
        "Spectrum of the initial kernel and target power above each eigenvalue.",
        f"Seed {seed}.",
    )


def draw_kernel(cells: Sequence[Trained], settings: CircleSettings, folder: Path) -> Picture:
    """Growth of one direction of the kernel, and its distance from the start, in time.

    Growth at the richest gamma0 is in one panel; distances have a panel for each target and
    network, with the colours of the losses.
    """
    seed = cells[0].baseline.seed if cells else 0
    targets = alike([cell for cell in shown(cells) if cell.baseline.seed == seed], "gamma0")
    richest = max((cell.gamma0 for group in targets for cell in group), default=0.0)
    figure, axes = new_figure(2, -(-(1 + max(1, len(targets))) // 2))
    growth = []
    for i, group in enumerate(targets):
        name = label(settings, group[0].condition)
        for cell in group:
            if cell.gamma0 == richest:
                grows = f", t^{cell.growth_law:.2f}" if np.isfinite(cell.growth_law) else ""
                colour = COLOURS[i % len(COLOURS)]
                growth.append(Curve(name + grows, cell.kernel_times, cell.growth, colour=colour))
        distance = [
            Curve(f"gamma0 = {cell.gamma0:g}", cell.kernel_times, cell.distance, colour=colour)
            for cell, colour in zip(group, ladder(len(group)), strict=True)
        ]
        draw_curves(axes[1 + i], distance, quantity="kernel_distance", title=name)
    draw_curves(axes[0], growth, quantity="kernel_growth", title=f"gamma0 = {richest:g}")
    drawn = axes[1 : 1 + len(targets)]
    limits = [edge for ax in drawn for edge in ax.get_ylim()]
    for ax in drawn:
        ax.set_ylim(min(limits), max(limits))
    for ax in axes[1 + len(targets) :]:
        ax.set_visible(False)
    return Picture(
        save_figure(figure, folder, "kernel_evolution")[0],
        "Growth of one eigen-direction of the initial kernel, and distance from it, in time.",
        f"Growth at the richest gamma0; distance on one scale for all of them. Seed {seed}.",
    )


def draw_pictures(run: Run, settings: CircleSettings, cells: Sequence[Trained]) -> list[Picture]:
    """The kernel of the hardest, richest cell."""
    if not cells:
        return []
    best = min(shown(cells), key=lambda cell: (cell.baseline.beta, -cell.gamma0))
    key = best.condition.key(settings)
    return kernel_strip(run, key, "rows and columns are points on the circle.")
