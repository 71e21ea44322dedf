"""Figures of `train.py adversarial-training`: kernels and accuracies over epochs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from numpy import ndarray

from ntkscale.experiments.adversarial_training.kernels import PARTS, PROBES
from ntkscale.experiments.adversarial_training.measures import EARLY, Trained, of_attack
from ntkscale.experiments.adversarial_training.measures import Path as KernelPath
from ntkscale.experiments.adversarial_training.pieces import TITLES
from ntkscale.experiments.adversarial_training.settings import AdversarialTrainingSettings
from ntkscale.reporting import (
    COLOURS,
    Picture,
    draw_distance_map,
    house_style,
    new_figure,
    save_figure,
)

EPOCHS = "time [epochs]"
COLOUR = dict(zip(TITLES, COLOURS, strict=False))
"""Of a training, by its attack."""

Curve = Float[ndarray, "T"]


def draw_shares(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Trace share and squared share of the leading eigenspaces, a row a probe."""
    top = settings.top
    panels = {
        "trace_share": f"top-{top} trace share [1]",
        "centred_trace_share": f"top-{top} trace share, centred [1]",
        "centred_squared_share": f"top-{top} squared share, centred [1]",
    }
    figure, axes = new_figure(3, 2)
    with house_style():
        for row, probe in enumerate(PROBES):
            for ax, (share, label) in zip(axes[3 * row : 3 * row + 3], panels.items(), strict=True):
                for attack in settings.attack:
                    curves = [one.paths[probe].shares[share] for one in of_attack(own, attack)]
                    _band(ax, own[0].epochs, curves, attack)
                _by_epoch(ax, own[0].epochs)
                ax.set(ylabel=label, title=f"{probe} probe")
        for column in range(3):
            both = axes[column], axes[3 + column]
            low = min(ax.get_ylim()[0] for ax in both)
            high = max(ax.get_ylim()[1] for ax in both)
            for ax in both:
                ax.set_ylim(low, high)
        axes[0].legend()
    return Picture(
        save_figure(figure, folder, f"shares{suffix}")[0],
        f"What the leading {top} eigenspaces of the kernel hold, over epochs{name}.",
        f"Mean and range over {_seeds(own)} seeds. Adversarial probe: attacked at each moment, "
        "also for standard networks.",
    )


def draw_polar(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Radius and angle of the kernel's path, of its top and its bottom part, a row a probe."""
    titles = {
        "full": "whole kernel",
        "top": f"top {settings.top}",
        "bottom": "all but the top",
    }
    with house_style():
        figure = Figure(figsize=(12.6, 9.0), layout="constrained")
        grid = figure.subplots(2, 3, squeeze=False, subplot_kw={"projection": "polar"})
        for row, probe in enumerate(PROBES):
            for ax, part in zip(grid[row], PARTS, strict=True):
                _polar_panel(ax, own, settings, probe, part)
                ax.set_title(f"{titles[part]}, {probe} probe", pad=14)
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return Picture(
        save_figure(figure, folder, f"polar{suffix}")[0],
        f"Paths of the kernel from K_0 (centre) to K_T in polar coordinates{name}.",
        "Radius |K_t - K_0| / |K_T - K_0|, angle between K_0 and K_t. Thick: mean over seeds, a "
        "dot a look; thin: single seeds. The ring stands at epoch 2. A quarter circle stands for "
        "the range of angles written on it.",
    )


def _polar_panel(
    ax: PolarAxes,
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    probe: str,
    part: str,
) -> None:
    paths = {attack: [o.paths[probe] for o in of_attack(own, attack)] for attack in settings.attack}
    everything = [path for some in paths.values() for path in some]
    widest = max(float(np.nanmax(path.angle[part])) for path in everything)
    farthest = max(float(np.nanmax(path.radius[part])) for path in everything)
    step = next((s for s in (1, 2, 5, 10, 15) if widest < 6 * s), 30)
    edge = step * np.ceil(1.05 * widest / step)
    wide = np.radians(90.0) / edge  # the quarter circle stands for so many degrees
    for attack, some in paths.items():
        if not some:
            continue
        angles = np.array([path.angle[part] for path in some]) * wide
        radii = np.array([path.radius[part] for path in some])
        for angle, radius in zip(angles, radii, strict=True):
            ax.plot(angle, radius, color=COLOUR[attack], linewidth=0.5, alpha=0.3)
        angle, radius = angles.mean(0), radii.mean(0)
        label = f"{TITLES[attack]} training"
        ax.plot(angle, radius, ".-", color=COLOUR[attack], markersize=4, label=label)
        early = some[0].at(EARLY)
        ax.plot(
            angle[early], radius[early], "o", color=COLOUR[attack], markersize=9, fillstyle="none"
        )
    ticks = np.arange(0, edge + step / 2, step)
    ax.set_thetamin(0)
    ax.set_thetamax(90)
    ax.set_xticks(ticks * wide, [f"{tick:g}°" for tick in ticks])
    ax.set_rlim(0, 1.05 * farthest)
    ax.set_rticks([0.25, 0.5, 0.75, 1.0])
    ax.tick_params(labelsize=7)
    ax.set_xlabel("radius [1]; round the edge: angle [degrees]", fontsize=7.5, labelpad=14)


def draw_motion(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Velocity, angle and growth of the kernel over epochs, a row a probe."""
    epochs = own[0].epochs
    middle = (epochs[1:] + epochs[:-1]) / 2
    panels: list[tuple[str, Curve, Callable[[KernelPath], Curve]]] = [
        ("kernel velocity [1 / epoch]", middle, lambda path: path.velocity),
        ("angle between K_0 and K_t [degrees]", epochs, lambda path: path.angle["full"]),
        ("|K_t| / |K_0| [1]", epochs, lambda path: path.norm / path.norm[0]),
    ]
    figure, axes = new_figure(3, 2)
    with house_style():
        for row, probe in enumerate(PROBES):
            for ax, (label, x, of) in zip(axes[3 * row : 3 * row + 3], panels, strict=True):
                for attack in settings.attack:
                    curves = [of(one.paths[probe]) for one in of_attack(own, attack)]
                    _band(ax, x, curves, attack)
                _by_epoch(ax, epochs)
                ax.set(ylabel=label, title=f"{probe} probe")
            axes[3 * row].set_yscale("log")
        axes[0].legend()
    return Picture(
        save_figure(figure, folder, f"motion{suffix}")[0],
        f"Velocity, rotation and growth of the kernel over epochs{name}.",
        f"Mean and range over {_seeds(own)} seeds. Velocity: S between successive looks, an epoch.",
    )


def draw_distances(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Heat maps of S(K_s, K_t): a column a training, a row a probe, on one scale."""
    seed = own[0].seed
    shown = [one for one in own if one.seed == seed]
    largest = max(float(one.paths[p].distances.max()) for one in shown for p in PROBES)
    figure, axes = new_figure(len(shown), 2)
    mesh = None
    with house_style():
        for row, probe in enumerate(PROBES):
            for column, one in enumerate(shown):
                mesh = draw_distance_map(
                    axes[row * len(shown) + column],
                    one.epochs,
                    one.paths[probe].distances,
                    unit="epochs",
                    title=f"{TITLES[one.attack]} training, {probe} probe",
                    largest=largest,
                )
        assert mesh is not None
        figure.colorbar(mesh, ax=axes, label="kernel distance S(K_s, K_t) [1]", shrink=0.7)
    return Picture(
        save_figure(figure, folder, f"distances{suffix}")[0],
        f"Kernel distance between all pairs of times{name}.",
        f"Seed {seed}, all on one scale.",
    )


def draw_accuracies(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Accuracies on clean and attacked test samples over epochs."""
    panels = {
        "clean": "clean",
        "fgsm": "under FGSM",
        "robust": f"under PGD-{settings.eval_steps}",
    }
    figure, axes = new_figure(3)
    with house_style():
        for ax, (which, label) in zip(axes, panels.items(), strict=True):
            for attack in settings.attack:
                curves = [getattr(one, which) for one in of_attack(own, attack)]
                _band(ax, own[0].epochs, curves, attack)
            _by_epoch(ax, own[0].epochs)
            ax.set(ylabel=f"test accuracy, {label} [1]", ylim=(0, 1))
        axes[0].legend(loc="lower right")
    return Picture(
        save_figure(figure, folder, f"accuracies{suffix}")[0],
        f"Accuracy with and without an attack over epochs{name}.",
        f"Mean and range over {_seeds(own)} seeds; eps = {settings.eps:g}/255.",
    )


def draw_linearised(
    own: Sequence[Trained],
    settings: AdversarialTrainingSettings,
    folder: Path,
    suffix: str,
    name: str,
) -> Picture:
    """Accuracies of networks linearised at their spawn times, beside the full ones."""
    attacks = list(dict.fromkeys(one.attack for one in own if len(one.spawn)))
    figure, axes = new_figure(2)
    with house_style():
        for ax, which, label in zip(
            axes, ("clean", "worst"), ("clean", "under all attacks"), strict=True
        ):
            for attack in attacks:
                mine, colour = of_attack(own, attack), COLOUR[attack]
                spawn = mine[0].spawn
                linear = np.array([getattr(one, f"linear_{which}") for one in mine])
                known = np.isfinite(linear).any(0)
                mean = np.nanmean(linear[:, known], 0)
                spread = np.nanstd(linear[:, known], 0)
                ax.errorbar(
                    spawn[known], mean, yerr=spread, fmt="o-", color=colour, markersize=4,
                    elinewidth=0.7, label=f"{TITLES[attack]}, linearised there",
                )  # fmt: skip
                name_there = "clean" if which == "clean" else "robust"
                there = [[getattr(o, name_there)[o.at(float(e))] for e in spawn] for o in mine]
                ax.plot(
                    spawn, np.mean(there, 0), "s:", color=colour, markersize=3,
                    label=f"{TITLES[attack]}, the network itself there"
                    + ("" if which == "clean" else " (PGD)"),
                )  # fmt: skip
                ends = [o.clean[-1] if which == "clean" else o.worst for o in mine]
                end = float(np.mean(ends))
                ax.axhline(
                    end, color=colour, linestyle="--", linewidth=1,
                    label=f"{TITLES[attack]}, full network at the end",
                )  # fmt: skip
            ax.set(xlabel="linearised at [epochs]", ylabel=f"test accuracy, {label} [1]")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return Picture(
        save_figure(figure, folder, f"linearised{suffix}")[0],
        f"Adversarial training continued with the network linearised at some epoch{name}.",
        f"Mean and standard deviation over {_seeds(own)} seeds, after {settings.linear_epochs:g} "
        "epochs of linearised training. All attacks: PGD on two losses, also through the full "
        "network; the network itself there: PGD alone.",
    )


def _band(ax: Axes, x: Curve, curves: Sequence[Curve], attack: str) -> None:
    """Mean over seeds, and the range of them."""
    if not curves:
        return
    table = np.array(curves)
    colour = COLOUR[attack]
    ax.plot(x, table.mean(0), ".-", markersize=4, color=colour, label=f"{TITLES[attack]} training")
    ax.fill_between(x, table.min(0), table.max(0), color=colour, alpha=0.2, linewidth=0)


def _by_epoch(ax: Axes, epochs: Curve) -> None:
    """An axis that shows the first epoch as widely as the later ones."""
    ax.set_xscale("symlog", linthresh=1.0)
    ticks = [e for e in (0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128) if e < 0.8 * epochs[-1]]
    ticks = [*ticks, float(epochs[-1])]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(EPOCHS)


def _seeds(own: Sequence[Trained]) -> int:
    return len({one.seed for one in own})
