"""Lazy to rich: what adversarial training does to the kernel, as gamma0 grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ntkscale.experiments.adversarial_training.figures import COLOUR
from ntkscale.experiments.adversarial_training.kernels import CLEAN
from ntkscale.experiments.adversarial_training.measures import Trained, of_attack
from ntkscale.experiments.adversarial_training.pieces import TITLES
from ntkscale.experiments.adversarial_training.settings import AdversarialTrainingSettings
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.reporting import Entry, Picture, Table, house_style, new_figure, save_figure

Ladder = Mapping[float | None, Sequence[Trained]]


def ladder_table(by_richness: Ladder, settings: AdversarialTrainingSettings) -> Table:
    """One row for each gamma0 and training."""
    rows = []
    for gamma0, own in by_richness.items():
        for attack in settings.attack:
            mine = of_attack(own, attack)
            if not mine:
                continue
            paths = [one.paths[CLEAN] for one in mine]
            rows.append(
                {
                    "gamma0": f"{gamma0:g}",
                    "training": TITLES[attack],
                    "clean": mean_over_seeds([one.clean[-1] for one in mine]),
                    "robust": mean_over_seeds([one.robust[-1] for one in mine]),
                    "trace share, end": mean_over_seeds(
                        [path.shares["trace_share"][-1] for path in paths]
                    ),
                    "|K_T|/|K_0|": mean_over_seeds([path.growth for path in paths], digits=2),
                    "S(K_0, K_T)": mean_over_seeds(
                        [float(path.distances[0, -1]) for path in paths], digits=4
                    ),
                    "angle at 2 / end": mean_over_seeds(
                        [path.early_rotation for path in paths], digits=2
                    ),
                    "late velocity": mean_over_seeds(
                        [path.late_velocity for path in paths], digits=4
                    ),
                }
            )
    columns: list[str] = list(rows[0])
    note = "Means over seeds with 95 % intervals; kernels on the clean probe."
    typed: list[Mapping[str, Entry | str | float | int | None]] = [dict(row) for row in rows]
    return Table("Lazy to rich", columns, typed, note)


def draw_ladder(
    by_richness: Ladder, settings: AdversarialTrainingSettings, folder: Path
) -> Picture:
    """Accuracies, share, growth and distance of the kernel over gamma0, a colour a training."""
    figure, axes = new_figure(3, 2)
    measures = (
        ("test accuracy, clean [1]", lambda one: one.clean[-1]),
        (f"test accuracy, PGD-{settings.eval_steps} [1]", lambda one: one.robust[-1]),
        (
            f"top-{settings.top} trace share at the end [1]",
            lambda one: one.paths[CLEAN].shares["trace_share"][-1],
        ),
        ("|K_T| / |K_0| [1]", lambda one: one.paths[CLEAN].growth),
        ("S(K_0, K_T) [1]", lambda one: one.paths[CLEAN].distances[0, -1]),
        ("angle at 2 epochs, over the end [1]", lambda one: one.paths[CLEAN].early_rotation),
    )
    gammas = [float(gamma0) for gamma0 in by_richness if gamma0 is not None]
    with house_style():
        for ax, (label, of) in zip(axes, measures, strict=True):
            for attack in settings.attack:
                found = [
                    [of(one) for one in of_attack(own, attack)] for own in by_richness.values()
                ]
                if not all(found):
                    continue
                ax.errorbar(
                    gammas, [np.mean(values) for values in found],
                    yerr=[np.std(values) for values in found], fmt="o-", markersize=4,
                    elinewidth=0.7, color=COLOUR[attack], label=f"{TITLES[attack]} training",
                )  # fmt: skip
            ax.set(xscale="log", xlabel="gamma0 [1]", ylabel=label)
            ax.set_xticks(gammas, [f"{gamma0:g}" for gamma0 in gammas])
            ax.set_xticks([], minor=True)
        axes[0].legend()
    seeds = len({one.seed for own in by_richness.values() for one in own})
    return Picture(
        save_figure(figure, folder, "lazy_to_rich")[0],
        "Accuracy and kernel under adversarial training from lazy to rich.",
        f"Mean and standard deviation over {seeds} seeds; kernels on the clean probe.",
    )
