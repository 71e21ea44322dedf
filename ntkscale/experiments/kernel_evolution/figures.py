"""Figures of `train.py kernel-evolution`: every measure on one axis of epochs; paths in a plane."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy import ndarray

from ntkscale.experiments.kernel_evolution.claims import barriers, curve
from ntkscale.experiments.kernel_evolution.measures import Evolution
from ntkscale.landscape import principal_plane
from ntkscale.reporting import (
    COLOURS,
    Picture,
    draw_distance_map,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run

SPAWN = "spawning time [epochs]"


def draw_evolution(own: Sequence[Evolution], folder: Path, stem: str, name: str) -> Picture:
    """The panels of Fort et al.'s figures 2 to 9 on one axis, mean over parents."""
    figure, axes = new_figure(4, 2)
    with house_style():
        _curves(axes[0], own, {"train_barrier": "train", "test_barrier": "test"})
        axes[0].set(ylabel="error barrier [1]", title="children: barrier")
        _curves(axes[1], own, {"hamming": "ReLU patterns"})
        axes[1].set(ylabel="Hamming distance [1]", title="children: patterns")
        _curves(
            axes[2],
            own,
            {"function_distance": "softmax outputs", "disagreement": "share of other classes"},
        )
        axes[2].set(ylabel="mean |p - p'|, or share [1]", title="children: functions")
        _curves(
            axes[3], own,
            {"kernel_distance": "between children", "travelled": "from K_0", "left": "to K_T"},
        )  # fmt: skip
        axes[3].set(ylabel="kernel distance S [1]", title="kernels")
        _curves(axes[4], own, {"velocity": "parent, spawning time"})
        late = float(np.mean([one.late_velocity for one in own]))
        axes[4].axhline(late, color=COLOURS[1], linestyle=":", label="parent, end of training")
        axes[4].set(ylabel="kernel velocity [1 / epoch]", yscale="log", title="velocity")
        _heat_map(axes[5], own[0])
        _linearised(axes[6], own)
        _advantage(axes[7], own)
        for ax in (*axes[:5], *axes[6:]):
            if not ax.has_data():
                # What nobody has asked for, such as barriers without children.
                ax.remove()
                continue
            epochs_axis(ax, own[0].spawn)
            if ax.get_legend_handles_labels()[1]:
                ax.legend(fontsize=6.5)
    return Picture(
        save_figure(figure, folder, stem)[0],
        f"Barriers, patterns, functions, kernels and linearised training by spawning time{name}.",
        f"Mean and standard deviation over {len(own)} parents. Heat map: seed {own[0].seed}. "
        "Advantage: test error linearised at the spawning time minus that of the full network.",
    )


def epochs_axis(ax: Axes, spawn: Float[ndarray, "S"]) -> None:
    """An axis of spawning times, zero among them."""
    positive = spawn[spawn > 0]
    ax.set_xscale("symlog", linthresh=float(positive.min()) if len(positive) else 1.0)
    ax.set_xticks(spawn, [f"{epochs:g}" for epochs in spawn], fontsize=7)
    ax.set_xticks([], minor=True)
    ax.set_xlabel(SPAWN)


def _curves(ax: Axes, own: Sequence[Evolution], names: dict[str, str]) -> None:
    for (name, label), colour in zip(names.items(), COLOURS, strict=False):
        table = np.array([curve(one, name) for one in own])
        if np.isfinite(table).any():
            known = np.isfinite(table).any(0)  # of some parents a network may have diverged
            table = table[:, known]
            deviation = np.nanstd(table, 0)
            ax.errorbar(
                own[0].spawn[known], np.nanmean(table, 0), yerr=deviation, marker="o", markersize=3,
                elinewidth=0.7, color=colour, label=label,
            )  # fmt: skip


def _heat_map(ax: Axes, one: Evolution) -> None:
    mesh = draw_distance_map(
        ax, one.times, one.distances, unit="epochs", title="kernel distance S(K_s, K_t)"
    )
    ax.figure.colorbar(mesh, ax=ax, label="S [1]", shrink=0.8)


def _linearised(ax: Axes, own: Sequence[Evolution]) -> None:
    _curves(
        ax, own,
        {"linear_error": "linearised, test", "linear_train_error": "linearised, training",
         "own_error": "network at the spawning time",
         "regression_error": "kernel regression"},
    )  # fmt: skip
    full = float(np.mean([one.full_error for one in own]))
    ax.axhline(full, color="k", linestyle="--", linewidth=1, label="full network")
    start = np.mean([one.linear_error[0] for one in own])
    if np.isfinite(start) and own[0].spawn[0] == 0:
        ax.axhline(float(start), color="0.5", linestyle=":", linewidth=1, label="initial kernel")
    ax.set(ylabel="error [1]", title="learned kernels")


def _advantage(ax: Axes, own: Sequence[Evolution]) -> None:
    _curves(ax, own, {"advantage": "nonlinear advantage"})
    table = barriers(own)
    if np.isfinite(table).any():
        ax.plot(
            own[0].spawn, table.mean(1), "s--", markersize=3, color=COLOURS[1],
            label="train barrier",
        )  # fmt: skip
    ax.axhline(0.0, color="0.7", linewidth=0.8)
    ax.set(ylabel="test error, or barrier [1]", title="nonlinear advantage")


def draw_paths(run: Run, one: Evolution, folder: Path, stem: str, name: str) -> list[Picture]:
    """Parent and children in the plane of their two leading principal components."""
    at = {"seed": one.seed} | ({} if one.gamma0 is None else {"gamma0": one.gamma0})
    ends = [
        (record["spawn"], cell)
        for cell, record in run.results.items()
        if record.get("part") == "child"
        and record["status"] == "finished"
        and at.items() <= record.items()
    ]
    parent = next(
        cell
        for cell, record in run.results.items()
        if record.get("part") == "parent" and at.items() <= record.items()
    )
    on_the_way = sorted(
        (int(cell.rpartition("=")[2]), cell)
        for cell in run.weighted
        if cell.startswith(f"{parent},step=")
    )
    if len(ends) < 2:
        return []
    states = [
        {
            k.removeprefix("model."): v
            for k, v in run.weights(cell).items()
            if k.startswith("model.")
        }
        for _, cell in on_the_way
    ]
    states.append(run.weights(parent))
    plane = principal_plane(
        [*states, *(run.weights(cell) for _, cell in ends)], names=one.parameters
    )
    figure, (ax,) = new_figure()
    own = plane.coordinates[: len(states)]
    with house_style():
        ax.plot(own[:, 0], own[:, 1], "k.-", label="parent")
        spawns = list(one.spawn)
        for (spawn, _), place in zip(ends, plane.coordinates[len(states) :], strict=True):
            start = own[spawns.index(spawn)]
            colour = ladder(len(spawns))[spawns.index(spawn)]
            ax.plot([start[0], place[0]], [start[1], place[1]], "-", color=colour, linewidth=0.6)
            first = [s for s, _ in ends].index(spawn) == ends.index((spawn, _))
            label = f"spawned at {spawn:g}" if first else None
            ax.plot(place[0], place[1], "o", color=colour, markersize=4, label=label)
        shares = [float(share) for share in plane.explained]
        ax.set(
            xlabel=f"first component ({shares[0]:.0%} of variance) [1]",
            ylabel=f"second component ({shares[1]:.0%}) [1]",
        )
        ax.legend(fontsize=6)
    return [
        Picture(
            save_figure(figure, folder, f"{stem}_paths")[0],
            f"Parent and children in the plane of their leading components{name}.",
            f"Seed {one.seed}. Dots of the parent: spawning times and its end. Straight lines join "
            "where a child left and where it ended.",
        )
    ]
