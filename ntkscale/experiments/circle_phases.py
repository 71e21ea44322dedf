"""Aligned against random Fourier phases: the same alpha and beta, another speed.

A lazy network does not see phases. Whether a rich one gains from learning features does depend on
them, and on width, so alpha and beta alone do not decide it. Both are compared with the exact lazy
flow of the same initial kernel: by the exponent at equal times, and by how many times sooner the
network has a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.circle_measures import (
    Baseline,
    Trained,
    alike,
    crossing_times,
    mean_and_deviation,
)
from ntkscale.reporting import (
    COLOURS,
    Entry,
    Picture,
    Section,
    Table,
    house_style,
    new_figure,
    save_figure,
)
from ntkscale.scaling import fit_power_law
from ntkscale.theory.scaling_model import measured
from ntkscale.theory.scaling_model.flow import flow

KINDS = ("aligned", "random")


@dataclass(frozen=True)
class Speed:
    """How fast one rich network was, beside the lazy flow of its own initial kernel.

    Attributes:
        cell: the training.
        exponent: of mse ~ t^-exponent between the *times* of the window; nan if it ended sooner.
        ratio: time of the lazy flow over that of the network at one loss: the higher of the two
            that they have at the end. Above 1: learning features pays.
    """

    cell: Trained
    exponent: float
    ratio: float

    @property
    def kind(self) -> str:
        """Phases of its target."""
        return KINDS[self.cell.condition.phases > 0]


def speed(cell: Trained) -> Speed:
    """Measure one network."""
    base = cell.baseline
    low, high = base.times[0], base.times[-1]
    inside = (cell.times >= low * (1 - 1e-9)) & (cell.times <= high * (1 + 1e-9))
    exponent = float("nan")
    if inside.sum() >= 5 and cell.times[-1] >= high * (1 - 1e-9):
        exponent = fit_power_law(cell.times[inside], cell.mse[inside]).exponent
    return Speed(cell, exponent, _ratio(cell.times, cell.mse, base))


def _ratio(times: np.ndarray, mse: np.ndarray, base: Baseline) -> float:
    later = times > 0
    times, mse = times[later], mse[later]
    end = min(times[-1], base.times[-1])
    clock = np.geomspace(1e-3 * end, end, 400)
    lazy = base.lazy_curve(clock) + base.tail
    level = np.array([max(lazy[-1], np.interp(np.log(end), np.log(times), mse))])
    trained, linear = crossing_times(times, mse, level), crossing_times(clock, lazy, level)
    if trained is None or linear is None:
        return float("nan")
    return float(linear[0] / trained[0])


def model_speed(base: Baseline, gamma0: float) -> float:
    """The same ratio for the solvable model started from K_0, which sees the power alone."""
    times = np.geomspace(base.times[0] / 10, base.times[-1], 200)
    spectrum = measured(base.eigenvalues, base.coefficients, tail_power=base.tail)
    return _ratio(times, flow(spectrum, gamma0**2, times).mse, base)


def compare_phases(cells: Sequence[Trained], folder: Path) -> tuple[str, Table, Section]:
    """What the ladder shows in words, its table, and its section of the report."""
    rich = [speed(cell) for cell in cells if not cell.condition.lazy]
    of = {id(one.cell): one for one in rich}
    rows, groups = [], []
    for found in alike([one.cell for one in rich], "phases"):
        for kind in KINDS:
            own = [of[id(cell)] for cell in found if of[id(cell)].kind == kind]
            if own:
                groups.append(own)
                rows.append(_row(own, kind))
    table = Table(
        "Aligned against random phases",
        list(rows[0]) if rows else ["beta"],
        rows,
        "Exponents between the times of the window, with their standard deviation over seeds and "
        "draws. Speed-up: time of the exact lazy flow of K_0 over that of the network at one loss, "
        "with its range; below 1 the network is slower. Model: the solvable model from K_0.",
    )
    said = _conclusion(groups)
    figure = _draw(groups, folder)
    return said, table, Section("Aligned against random phases", said, figures=[figure])


def _row(own: Sequence[Speed], kind: str) -> dict[str, Entry | str | float | int | None]:
    first = own[0].cell
    exponent, deviation = mean_and_deviation(one.exponent for one in own)
    lazy, lazy_deviation = mean_and_deviation(one.cell.baseline.lazy.exponent for one in own)
    ratios = [one.ratio for one in own if np.isfinite(one.ratio)]
    return {
        "beta": Entry(first.baseline.beta, digits=2),
        "width": first.condition.width,
        "gamma0": f"{first.gamma0:g}",
        "phases": kind,
        "runs": len(own),
        "lazy flow": lazy,
        "sd of it": lazy_deviation,
        "trained": exponent,
        "sd": deviation,
        "speed-up": Entry(
            float(np.exp(np.mean(np.log(ratios)))) if ratios else None,
            (min(ratios), max(ratios)) if ratios else None,
            digits=2,
        ),
        "model's": Entry(model_speed(first.baseline, first.gamma0), digits=2),
        "kernel growth": Entry(mean_and_deviation(one.cell.growth_law for one in own)[0], digits=2),
    }


def _conclusion(groups: Sequence[Sequence[Speed]]) -> str:
    """What the widest networks and the trend with width say, for every beta and gamma0."""
    parts = []
    ladders: dict[tuple[float, float], dict[str, list[Sequence[Speed]]]] = {}
    for own in groups:
        first = own[0]
        key = (first.cell.baseline.beta, first.cell.gamma0)
        ladders.setdefault(key, {kind: [] for kind in KINDS})[first.kind].append(own)
    for (beta, gamma0), kinds in ladders.items():
        if not all(kinds.values()):
            continue
        widest = {
            k: [one.ratio for one in v[-1] if np.isfinite(one.ratio)] for k, v in kinds.items()
        }
        if not all(widest.values()):
            continue
        aligned, random = widest["aligned"], widest["random"]
        width = kinds["random"][-1][0].cell.condition.width
        apart = min(aligned) > max(random) or max(aligned) < min(random)
        first = [one.ratio for one in kinds["random"][0]]
        parts.append(
            f"beta = {beta:g}, gamma0 = {gamma0:g}, width {width}: at one loss the network is "
            f"{np.mean(aligned):.2f} times as fast as its lazy flow with aligned phases (range "
            f"{min(aligned):.2f} to {max(aligned):.2f}), {np.mean(random):.2f} times with random "
            f"ones ({min(random):.2f} to {max(random):.2f}; {np.mean(first):.2f} at width "
            f"{kinds['random'][0][0].cell.condition.width}): "
            + (
                "the same spectrum and the same power on it, so alpha and beta alone do not decide "
                "what learning features is worth."
                if apart
                else "the ranges overlap, so phases make no difference that this run can tell."
            )
        )
    return " ".join(parts) or "Too few networks to compare phases."


def _draw(groups: Sequence[Sequence[Speed]], folder: Path) -> Picture:
    betas = list(dict.fromkeys(own[0].cell.baseline.beta for own in groups))
    figure, axes = new_figure(2, max(1, len(betas)))
    with house_style():
        for row, beta in enumerate(betas):
            own = [group for group in groups if group[0].cell.baseline.beta == beta]
            _draw_beta(axes[2 * row], axes[2 * row + 1], own, beta)
    return Picture(
        save_figure(figure, folder, "phases_over_widths")[0],
        "Exponent and speed-up of rich networks over their width, aligned and random phases.",
        "Bars: smallest to largest over seeds and draws; dots: geometric mean. Dashed: theory, "
        "which sees alpha and beta alone: exponents t^-chi and of the infinite-width lazy kernel "
        "in the window, and the solvable model started from the widest network's K_0.",
    )


def _draw_beta(left: Axes, right: Axes, groups: Sequence[Sequence[Speed]], beta: float) -> None:
    wide = groups[-1][0].cell
    for kind, colour, shift in zip(KINDS, COLOURS, (0.97, 1.03), strict=False):
        own = [group for group in groups if group[0].kind == kind]
        widths = [shift * group[0].cell.condition.width for group in own]
        for ax, field in ((left, "exponent"), (right, "ratio")):
            values = [[v for v in (getattr(one, field) for one in group) if v > 0] for group in own]
            values = [v or [np.nan] for v in values]
            middle = np.array([np.exp(np.mean(np.log(v))) for v in values])
            low, high = (np.array([f(v) for v in values]) for f in (min, max))
            bars = np.maximum([middle - low, high - middle], 0)  # rounding of one value
            ax.errorbar(
                widths,
                middle,
                yerr=bars,
                fmt="o-",
                color=colour,
                capsize=2,
                markersize=4,
                label=f"{kind} phases, gamma0 = {wide.gamma0:g}",
            )
    lazy = [[one.cell.baseline.lazy.exponent for one in group] for group in groups]
    left.plot(
        [group[0].cell.condition.width for group in groups],
        [np.mean(v) for v in lazy],
        "x",
        color="black",
        label="exact lazy flow of K_0",
    )
    left.axhline(wide.predicted, color="black", linestyle="--", label="chi(beta), rich theory")
    left.axhline(
        wide.baseline.infinite.exponent, color="grey", linestyle="--", label="infinite width, lazy"
    )
    right.axhline(1.0, color="grey", linewidth=0.8)
    right.axhline(
        model_speed(wide.baseline, wide.gamma0),
        color="black",
        linestyle="--",
        label="solvable model, from K_0",
    )
    for ax in (left, right):
        ax.set(xscale="log", xlabel="width N [neurons]")
        ax.set_title(f"beta = {beta:g}")
        ax.legend()
    left.set_ylabel("exponent in time [1]")
    right.set(yscale="log", ylabel="speed-up over the lazy flow [1]")
