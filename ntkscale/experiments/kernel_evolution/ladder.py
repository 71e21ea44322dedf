"""Lazy to rich: is there a chaotic transient, and when is the basin sealed, as gamma0 grows?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.kernel_evolution.claims import barriers, basin, ratio_over_seeds
from ntkscale.experiments.kernel_evolution.figures import epochs_axis
from ntkscale.experiments.kernel_evolution.measures import Evolution
from ntkscale.reporting import Entry, Picture, Table, house_style, ladder, new_figure, save_figure

Ladder = Mapping[float | None, Sequence[Evolution]]


def _richness(gamma0: float | None) -> float:
    assert gamma0 is not None  # a ladder has several, all of them given
    return gamma0


def ladder_table(by_richness: Ladder) -> Table:
    """One row for each gamma0."""
    rows = []
    for gamma0, own in by_richness.items():
        row: dict[str, Entry | float | None] = {"gamma0": Entry(_richness(gamma0), digits=2)}
        sealed = basin(own)
        if sealed is not None:
            row["train barrier, spawn 0"] = mean_over_seeds(list(barriers(own)[0]))
            row["basin time [epochs]"] = Entry(sealed.time, sealed.interval, digits=2)
        row |= {
            "S(K_0, K_T)": mean_over_seeds([one.distances[0, -1] for one in own], digits=4),
            "velocity, first": mean_over_seeds([one.velocity[0] for one in own], digits=4),
            "velocity, late": mean_over_seeds([one.late_velocity for one in own], digits=4),
            "first / late": ratio_over_seeds([one.velocity[0] / one.late_velocity for one in own]),
            "error linearised at 0": mean_over_seeds([one.linear_error[0] for one in own]),
            "full network": mean_over_seeds([one.full_error for one in own]),
        }
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    note = (
        f"Means over {len(next(iter(by_richness.values())))} parents with 95 % intervals. Basin: "
        "train barrier below .02; bootstrap over parents. Velocity: S over one spacing, an epoch."
    )
    return Table("Lazy to rich", columns, rows, note)


def draw_ladder(by_richness: Ladder, folder: Path) -> Picture:
    """Barrier, velocity and linearised error by spawning time, a colour for each gamma0; and S."""
    figure, axes = new_figure(2, 2)
    with house_style():
        for (gamma0, own), colour in zip(
            by_richness.items(), ladder(len(by_richness)), strict=True
        ):
            label = f"gamma0 = {_richness(gamma0):g}"
            spawn = own[0].spawn
            for ax, table in (
                (axes[0], barriers(own).T),
                (axes[1], np.array([one.velocity for one in own])),
                (axes[2], np.array([one.advantage for one in own])),
            ):
                known = np.isfinite(table).any(0)  # of some parents a network may have diverged
                table = table[:, known]
                ax.errorbar(
                    spawn[known], np.nanmean(table, 0), yerr=np.nanstd(table, 0), marker="o",
                    markersize=3,
                    elinewidth=0.7, color=colour, label=label,
                )  # fmt: skip
        gammas = [_richness(gamma0) for gamma0 in by_richness]
        for name, style, pick in (
            ("S(K_0, K_T)", "o-", lambda one: one.distances[0, -1]),
            ("velocity, first", "s--", lambda one: one.velocity[0]),
            ("velocity, late", "^:", lambda one: one.late_velocity),
        ):
            means = [np.mean([pick(one) for one in own]) for own in by_richness.values()]
            axes[3].plot(gammas, means, style, markersize=4, label=name)
        for ax in axes[:3]:
            epochs_axis(ax, next(iter(by_richness.values()))[0].spawn)
        axes[0].set_ylabel("train barrier [1]")
        axes[1].set(ylabel="kernel velocity [1 / epoch]", yscale="log")
        axes[2].set_ylabel("nonlinear advantage [test error]")
        axes[3].set(
            xscale="log", yscale="log", xlabel="gamma0 [1]", ylabel="S [1], S an epoch [1 / epoch]"
        )
        axes[3].set_xticks(gammas, [f"{gamma0:g}" for gamma0 in gammas])
        axes[3].set_xticks([], minor=True)
        axes[0].legend(fontsize=6.5)
        axes[3].legend(fontsize=6.5)
    count = len(next(iter(by_richness.values())))
    return Picture(
        save_figure(figure, folder, "lazy_to_rich")[0],
        "Barrier, kernel velocity, nonlinear advantage and kernel distance from lazy to rich.",
        f"Mean and standard deviation over {count} parents.",
    )
