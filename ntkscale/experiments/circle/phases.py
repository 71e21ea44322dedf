"""Aligned against random Fourier phases: the same alpha and beta, another speed.

A lazy network does not see phases. Whether a rich one gains from learning features does depend on
them, and on width, so alpha and beta alone do not decide it. Both are compared with the exact lazy
flow of the same initial kernel: by the exponent at equal times, and by how many times sooner the
network has a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ntkscale.experiments.circle.cells import Condition
from ntkscale.experiments.circle.measures import (
    Baseline,
    Trained,
    alike,
    mean_and_deviation,
)
from ntkscale.experiments.crossings import crossing_times
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
from ntkscale.theory.scaling_model import flow, measured

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
            float(np.mean(ratios)) if ratios else None,
            (min(ratios), max(ratios)) if ratios else None,
            digits=2,
        ),
        "model's": Entry(model_speed(first.baseline, first.gamma0), digits=2),
        "kernel growth": Entry(mean_and_deviation(one.cell.growth_law for one in own)[0], digits=2),
    }


def _ladders(groups: Sequence[Sequence[Speed]]) -> list[list[Sequence[Speed]]]:
    """Groups that differ in width and phases alone, together."""
    found: dict[Condition, list[Sequence[Speed]]] = {}
    for own in groups:
        one = replace(own[0].cell.condition, width=0, phases=0, seed=0)
        found.setdefault(one, []).append(own)
    return list(found.values())


def _name(cell: Trained) -> str:
    one = cell.condition
    network = f", ReLU^{one.power}, depth {one.depth}" if (one.power, one.depth) != (1, 1) else ""
    return f"beta = {one.beta:.3g}, gamma0 = {one.gamma0:g}{network}"


def _conclusion(groups: Sequence[Sequence[Speed]]) -> str:
    """What the widest networks and the narrowest ones say, for every ladder."""
    parts = []
    for ladder in _ladders(groups):
        reached = [[one for one in own if np.isfinite(one.ratio)] for own in ladder]
        aligned, random = ([own for own in reached if own and own[0].kind == k] for k in KINDS)
        if not aligned or not random:
            continue
        fast, slow = ([one.ratio for one in own[-1]] for own in (aligned, random))
        apart = min(fast) > max(slow) or max(fast) < min(slow)
        narrow = random[0]
        parts.append(
            f"{_name(narrow[0].cell)}, width {random[-1][0].cell.condition.width}: down to one "
            f"loss the network is {np.mean(fast):.2f} times as fast as its lazy flow with aligned "
            f"phases ({min(fast):.2f} to {max(fast):.2f}), {np.mean(slow):.2f} times with random "
            f"ones ({min(slow):.2f} to {max(slow):.2f}; at width "
            f"{narrow[0].cell.condition.width} {np.mean([one.ratio for one in narrow]):.2f}): "
            + (
                "with the same spectrum and the same power on it, so alpha and beta alone do not "
                "decide what learning features is worth."
                if apart
                else "the ranges overlap, so phases make no difference that this run can tell."
            )
        )
    return " ".join(parts) or "Too few networks to compare phases."


def _draw(groups: Sequence[Sequence[Speed]], folder: Path) -> Picture:
    ladders = _ladders(groups)
    figure, axes = new_figure(2, max(1, len(ladders)))
    with house_style():
        for row, own in enumerate(ladders):
            _draw_ladder(axes[2 * row], axes[2 * row + 1], own)
    return Picture(
        save_figure(figure, folder, "phases_over_widths")[0],
        "Exponent and speed-up of rich networks over their width, aligned and random phases.",
        "Bars: smallest to largest over seeds and draws; dots: mean. Dashed: theory, "
        "which sees alpha and beta alone: exponents t^-chi and of the infinite-width lazy kernel "
        "in the window, and the solvable model started from the widest network's K_0.",
    )


def _draw_ladder(left: Axes, right: Axes, groups: Sequence[Sequence[Speed]]) -> None:
    wide = groups[-1][0].cell
    for kind, colour, shift in zip(KINDS, COLOURS, (0.97, 1.03), strict=False):
        own = [group for group in groups if group[0].kind == kind]
        widths = [shift * group[0].cell.condition.width for group in own]
        for ax, field in ((left, "exponent"), (right, "ratio")):
            values = [np.array([getattr(one, field) for one in group]) for group in own]
            middle, low, high = (np.array([f(v) for v in values]) for f in (np.mean, min, max))
            bars = np.maximum([middle - low, high - middle], 0)  # rounding of one value
            ax.errorbar(
                widths,
                middle,
                yerr=bars,
                fmt="o-",
                color=colour,
                capsize=2,
                markersize=4,
                label=f"{kind} phases",
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
    left.set_ylabel("exponent in time [1]")
    right.set(yscale="log", ylabel="speed-up over the lazy flow [1]")
    every = sorted({group[0].cell.condition.width for group in groups})
    for ax in (left, right):
        ax.set(xscale="log", xlabel="width N [neurons]")
        ax.set_xticks(every, [str(width) for width in every])
        ax.minorticks_off()
        ax.set_title(_name(groups[0][0].cell))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    right.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["1/4", "1/2", "1", "2", "4", "8"])
