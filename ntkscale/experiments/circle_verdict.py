"""The verdict on a circle run: what theory says, what the networks did, and how sure that is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.circle import CircleSettings, expand, window
from ntkscale.experiments.circle_measures import (
    GROWING,
    Baseline,
    Trained,
    mean_and_deviation,
    measure,
)
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict, kernel_strip, tracker_cost
from ntkscale.reporting import (
    COLOURS,
    Curve,
    Entry,
    Picture,
    Section,
    Spectrum,
    Table,
    draw_curves,
    draw_source,
    draw_spectrum,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run
from ntkscale.scaling import regime

ROUGH_WIDTH = 4096
"""Below this width the ring-stratified baseline scatters too much to be quoted."""

LIKE = 0.03
"""Exponents this close to that of the lazy flow count as lazy."""
NEAR = 0.1
"""Exponents this close to the rich theory, which holds beyond any finite window, count as such."""


def judge(run: Run) -> Verdict:
    """Tables, figures and a summary from a run's files; figures go to its `figures/`.

    Raises:
        RunFolderError: a file of the run is damaged.
    """
    settings = restore(CircleSettings, run.config, run.path)
    settings = expand(settings)
    cells = measure(run, settings)
    bases = _bases(cells)
    low, high = window(settings)
    rough = settings.init == "ring" and settings.width < ROUGH_WIDTH
    figures = run.path / "figures"
    sections = [
        Section(
            "Learning curves",
            "Training mse with the target's analytic tail. Dotted: the exact flow of the network's "
            "own initial kernel, which is what a lazy network does. Slopes are fitted where a "
            f"curve has the losses of the lazy times {low:.0f} to {high:.0f}.",
            figures=[_draw_losses(cells, figures)],
        ),
        Section(
            "Exponent against source exponent",
            "The line and the curve are theory, lazy t^-beta and rich t^-(2 beta / (1 + beta)) for "
            "hard tasks; crosses are the infinite-width kernel in the same window.",
            figures=[_draw_exponents(cells, figures)],
        ),
        Section(
            "What the initial kernel says",
            "Left: its eigenvalues; the slope is alpha. Right: the target power above each "
            "eigenvalue; the slope is beta.",
            figures=[_draw_spectra(bases, figures)],
        ),
        Section(
            "How the kernel moves",
            f"Growth of the kernel along eigenvector {GROWING} of K_0, and distance from K_0.",
            figures=[_draw_kernel(cells, figures), *_draw_pictures(run, cells)],
        ),
    ]
    return Verdict(
        title=f"Circle: {run.path.name}",
        summary=_summary(run, settings, cells, rough),
        tables=[_verdict_table(cells, rough), _seed_table(cells), _baseline_table(bases)],
        sections=sections,
    )


def _bases(cells: Sequence[Trained]) -> list[Baseline]:
    """Every baseline once, in order."""
    return list(
        {(cell.baseline.beta, cell.baseline.seed): cell.baseline for cell in cells}.values()
    )


def _summary(run: Run, settings: CircleSettings, cells: Sequence[Trained], rough: bool) -> str:
    parts: list[str] = []
    richest = max(settings.gamma0)
    for beta, own in _by_beta([cell for cell in cells if cell.gamma0 == richest]):
        gain, deviation = mean_and_deviation(cell.gain for cell in own)
        if not np.isfinite(gain):
            parts.append(f"beta = {beta:g}: the richest network did not get through the window.")
            continue
        growth, _ = mean_and_deviation(cell.growth_law for cell in own)
        place = regime(own[0].baseline.measured.alpha, beta)
        spread = f" +- {deviation:.3f}" if np.isfinite(deviation) else ""
        parts.append(
            f"beta = {beta:g} ({place}): at gamma0 = {richest:g} the exponent is "
            f"{gain:+.3f}{spread} against the lazy flow's, the kernel grows as t^{growth:.2f}."
        )
    if settings.phases == "random":
        parts.append("The target's phases are random: alpha and beta alone do not decide then.")
    if rough:
        parts.append(f"Rough: figures to quote need a width of {ROUGH_WIDTH} or more.")
    if not run.finished:
        parts.append("The run is not finished: what is missing is not in the tables.")
    parts.append(tracker_cost(run))
    return " ".join(parts)


def _by_beta(cells: Sequence[Trained]) -> list[tuple[float, list[Trained]]]:
    betas = dict.fromkeys(cell.baseline.beta for cell in cells)
    return [(beta, [cell for cell in cells if cell.baseline.beta == beta]) for beta in betas]


def _verdict_table(cells: Sequence[Trained], rough: bool) -> Table:
    """One row for every beta and gamma0, over its seeds."""
    rows = []
    for beta, same_beta in _by_beta(cells):
        for gamma0 in dict.fromkeys(cell.gamma0 for cell in same_beta):
            own = [cell for cell in same_beta if cell.gamma0 == gamma0]
            exponent = mean_and_deviation(c.slope.exponent if c.slope else np.nan for c in own)
            lazy, _ = mean_and_deviation(c.baseline.lazy.exponent for c in own)
            gain, spread = mean_and_deviation(c.gain for c in own)
            growth, _ = mean_and_deviation(c.growth_law for c in own)
            rows.append(
                {
                    "beta": Entry(beta, digits=2),
                    "regime": regime(own[0].baseline.measured.alpha, beta),
                    "gamma0": f"{gamma0:g}",
                    "seeds": len(own),
                    "lazy theory": own[0].baseline.infinite.exponent,
                    "lazy flow": lazy,
                    "rich theory": own[0].predicted,
                    "measured": Entry(exponent[0]),
                    "sd": exponent[1],
                    "measured - lazy": gain,
                    "sd of it": spread,
                    "kernel growth": Entry(growth, digits=2),
                    "distance": Entry(_mean_last(own)),
                    "verdict": _word(own, gain, rough),
                }
            )
    return Table(
        "Exponents in time, mse ~ t^-exponent",
        list(rows[0]) if rows else ["beta"],
        rows,
        "lazy theory: infinite-width kernel, same window. lazy flow: exact flow of the initial "
        "kernel. kernel growth: exponent of u_10^T K_t u_10 in t. distance: S(K_0, K_t), last. "
        f"as lazy: within {LIKE} of the lazy flow; as rich theory: within {NEAR} of it.",
    )


def _mean_last(cells: Sequence[Trained]) -> float:
    return mean_and_deviation(
        cell.distance[-1] if len(cell.distance) else np.nan for cell in cells
    )[0]


def _word(cells: Sequence[Trained], gain: float, rough: bool) -> str:
    """What happened, in two or three words."""
    if any(cell.status == "diverged" for cell in cells):
        return "diverged"
    if not np.isfinite(gain):
        return "window not reached"
    theory = cells[0].predicted
    exponent, _ = mean_and_deviation(c.slope.exponent if c.slope else np.nan for c in cells)
    if abs(gain) <= LIKE:
        word = "as lazy"
    elif gain < 0:
        word = "slower than lazy"
    else:
        word = "faster than lazy"
        word += ", as rich theory" if abs(exponent - theory) <= NEAR else ""
    return f"{word} (rough)" if rough else word


def _seed_table(cells: Sequence[Trained]) -> Table:
    rows = []
    for cell in cells:
        slope = cell.slope
        rows.append(
            {
                "beta": Entry(cell.baseline.beta, digits=2),
                "gamma0": f"{cell.gamma0:g}",
                "seed": cell.baseline.seed,
                "measured": Entry(slope.exponent, slope.interval) if slope else Entry(None),
                "R^2": Entry(slope.r_squared, digits=4) if slope else Entry(None),
                "window (t)": f"{cell.window[0]:.0f} .. {cell.window[1]:.0f}"
                if cell.window
                else "-",
                "measured - lazy": cell.gain,
                "measured - rich theory": slope.exponent - cell.predicted if slope else None,
                "kernel growth": Entry(cell.growth_law, digits=2),
                "ended": cell.status,
                "note": slope.reason if slope and not slope.is_power_law else "",
            }
        )
    return Table("Every seed", list(rows[0]) if rows else ["beta"], rows, "Intervals are 95 %.")


def _baseline_table(bases: Sequence[Baseline]) -> Table:
    rows = [
        {
            "beta": Entry(base.beta, digits=2),
            "seed": base.seed,
            "alpha at t = 0": Entry(base.measured.alpha, base.measured.alpha_interval),
            "beta at t = 0": Entry(base.measured.beta, base.measured.beta_interval),
            "index window": f"{base.measured.window[0]} .. {base.measured.window[1]}",
            "lazy flow": Entry(base.lazy.exponent, base.lazy.interval),
            "infinite width": Entry(base.infinite.exponent),
            "lazy - infinite": base.lazy.exponent - base.infinite.exponent,
            "lazy - beta": base.lazy.exponent - base.measured.beta,
        }
        for base in bases
    ]
    return Table(
        "What the initial kernel predicts",
        list(rows[0]) if rows else ["beta"],
        rows,
        "alpha and beta are read off K_0 in the window of indices; the lazy flow is its exact "
        "linearised training, with the target's tail. Intervals are 95 %.",
    )


def _draw_losses(cells: Sequence[Trained], folder: Path) -> Picture:
    groups = _by_beta(cells)
    columns = max(1, min(2, len(groups)))
    figure, axes = new_figure(columns, max(1, -(-len(groups) // columns)))
    for ax, (beta, own) in zip(axes, groups, strict=False):
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
        draw_curves(ax, curves, quantity="mse", window=window, title=f"beta = {beta:g}")
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    return Picture(
        save_figure(figure, folder, "loss_curves")[0],
        "Training loss against flow time for every beta, lazy to rich.",
        "Shaded: the window of lazy times. One line a seed.",
    )


def _draw_exponents(cells: Sequence[Trained], folder: Path) -> Picture:
    figure, axes = new_figure()
    with house_style():
        _draw_exponent_axes(axes[0], cells)
    return Picture(
        save_figure(figure, folder, "exponent_against_beta")[0],
        "Measured exponents in time against the source exponent, with both theory lines.",
        "Bars: 95 % intervals of each seed's fit.",
    )


def _draw_exponent_axes(ax: Axes, cells: Sequence[Trained]) -> None:
    top = max(1.5, *(1.1 * cell.baseline.beta for cell in cells)) if cells else 1.5
    beta = np.linspace(0.05, top, 200)
    ax.plot(beta, beta, color="black", linestyle=":", label="lazy theory, beta")
    rich = beta * np.maximum(1, 2 / (1 + beta))
    ax.plot(beta, rich, color="black", label="rich theory, beta max(1, 2 / (1 + beta))")
    bases = _bases(cells)
    ax.plot(
        [base.beta for base in bases],
        [base.infinite.exponent for base in bases],
        "x",
        color="black",
        label="infinite width, in the window",
    )
    gammas = list(dict.fromkeys(cell.gamma0 for cell in cells))
    for gamma0, colour in zip(gammas, ladder(len(gammas)), strict=True):
        own = [cell for cell in cells if cell.gamma0 == gamma0 and cell.slope is not None]
        values = [cell.slope.exponent for cell in own if cell.slope is not None]
        errors = [
            [value - cell.slope.interval[0], cell.slope.interval[1] - value]
            for cell, value in zip(own, values, strict=True)
            if cell.slope is not None
        ]
        ax.errorbar(
            [cell.baseline.beta for cell in own],
            values,
            yerr=np.abs(np.array(errors).T) if errors else None,
            fmt="o",
            markersize=4,
            color=colour,
            label=f"networks, gamma0 = {gamma0:g}",
        )
    ax.set(xlabel="source exponent beta [1]", ylabel="exponent in time [1]")
    ax.legend()


def _draw_spectra(bases: Sequence[Baseline], folder: Path) -> Picture:
    figure, axes = new_figure(2)
    seed = bases[0].seed if bases else 0
    own = [base for base in bases if base.seed == seed]
    spectra = [
        Spectrum(
            f"beta = {base.beta:g}",
            base.eigenvalues,
            base.power,
            tail=base.tail,
            measured=base.measured,
            colour=COLOURS[i % len(COLOURS)],
        )
        for i, base in enumerate(own)
    ]
    # Every beta has the same kernel.
    draw_spectrum(axes[0], spectra[:1], title="capacity")
    draw_source(axes[1], spectra, title="source")
    return Picture(
        save_figure(figure, folder, "initial_kernel")[0],
        "Spectrum of the initial kernel and target power above each eigenvalue.",
        f"Seed {seed}.",
    )


def _draw_kernel(cells: Sequence[Trained], folder: Path) -> Picture:
    figure, axes = new_figure(2)
    seed = cells[0].baseline.seed if cells else 0
    gammas = list(dict.fromkeys(cell.gamma0 for cell in cells))
    richest = max(gammas, default=0.0)
    own = [cell for cell in cells if cell.baseline.seed == seed]
    growth = [
        Curve(
            f"beta = {cell.baseline.beta:g}, t^{cell.growth_law:.2f}",
            cell.kernel_times,
            cell.growth,
        )
        for cell in own
        if cell.gamma0 == richest
    ]
    # Cells of one beta share a colour: the richest has the label, lazier ones lie below it.
    betas = list(dict.fromkeys(cell.baseline.beta for cell in own))
    distance = [
        Curve(
            f"beta = {cell.baseline.beta:g}" if cell.gamma0 == richest else "",
            cell.kernel_times,
            cell.distance,
            colour=COLOURS[betas.index(cell.baseline.beta) % len(COLOURS)],
        )
        for cell in own
    ]
    others = ", ".join(f"{gamma0:g}" for gamma0 in sorted(gammas, reverse=True))
    draw_curves(axes[0], growth, quantity="kernel_growth", title=f"gamma0 = {richest:g}")
    draw_curves(axes[1], distance, quantity="kernel_distance", title=f"gamma0 = {others}, from top")
    return Picture(
        save_figure(figure, folder, "kernel_evolution")[0],
        "Growth of one eigen-direction of the initial kernel, and distance from it, in time.",
        f"Seed {seed}.",
    )


def _draw_pictures(run: Run, cells: Sequence[Trained]) -> list[Picture]:
    """The kernel of the hardest, richest cell."""
    if not cells:
        return []
    best = min(cells, key=lambda cell: (cell.baseline.beta, -cell.gamma0))
    base = best.baseline
    key = {"beta": base.beta, "gamma0": best.gamma0, "seed": base.seed}
    return kernel_strip(run, key, "rows and columns are points on the circle.")
