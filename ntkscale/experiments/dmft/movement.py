"""How far kernels move: A(Phi^l(0, 0), Phi^l(T, T)), mean over layers (2205.09653, fig. 2)."""

from pathlib import Path

import numpy as np

from ntkscale import ntk
from ntkscale.experiments.dmft.cells import kept
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings, grid
from ntkscale.reporting import Entry, Picture, Table, house_style, new_figure, save_figure
from ntkscale.theory.dmft import Solution

Movements = dict[tuple[int, float], tuple[float, float | None]]
"""Depth and gamma0 to the movement of theory and of the mean network, where it is trained."""


def movements(run: Path, settings: DmftSettings) -> Movements:
    """Of all that is solved, from the run's `solutions/`."""
    found: Movements = {}
    for depth, gamma0 in grid(settings):
        theory = kept(run, FULL, depth, gamma0)
        networks = kept(run, "networks", depth, gamma0, settings.width[-1])
        if theory.exists():
            trained = _movement(Solution.load(networks)) if networks.exists() else None
            found[depth, gamma0] = _movement(Solution.load(theory)), trained
    return found


def _movement(solution: Solution) -> float:
    ends = [(phi[0, :, 0], phi[-1, :, -1]) for phi in solution.phi]
    return float(np.mean([1 - float(ntk.kernel_distance(*pair)) for pair in ends]))


def movement_table(found: Movements, settings: DmftSettings) -> Table:
    """One row for each depth and gamma0."""
    networks = f"networks, N = {settings.width[-1]:,}"
    rows = [
        {
            "L": str(depth),
            "gamma0": Entry(gamma0, digits=2),
            "theory": Entry(theory, digits=3),
            networks: Entry(trained, digits=3),
        }
        for (depth, gamma0), (theory, trained) in found.items()
    ]
    note = "1: features are where they were. Of lazy networks it is 1."
    title = "Alignment of Phi at the start and at the end, mean over layers"
    return Table(title, ["L", "gamma0", "theory", networks], rows, note)


def draw_movement(found: Movements, settings: DmftSettings, folder: Path) -> list[Picture]:
    """Movement against depth at the last gamma0 and against gamma0 at the last depth."""
    deepest, richest = settings.depth[-1], settings.gamma0[-1]
    by_depth = sorted(d for d, g in found if g == richest)
    by_gamma = sorted(g for d, g in found if d == deepest)
    panels = [
        (by_depth, [found[d, richest] for d in by_depth], "hidden layers L", richest),
        (by_gamma, [found[deepest, g] for g in by_gamma], "gamma0 [1]", deepest),
    ]
    panels = [panel for panel in panels if len(panel[0]) > 1]
    if not panels:
        return []
    figure, axes = new_figure(len(panels))
    with house_style():
        for ax, (places, pairs, label, other) in zip(axes, panels, strict=True):
            ax.plot(places, [theory for theory, _ in pairs], "k--x", label="theory")
            trained = [(x, pair[1]) for x, pair in zip(places, pairs, strict=True) if pair[1]]
            ax.plot(
                [x for x, _ in trained], [y for _, y in trained], "o",
                label=f"networks, N = {settings.width[-1]:,}",
            )  # fmt: skip
            title = f"gamma0 = {other:g}" if label.startswith("hidden") else f"L = {other}"
            ax.set(xlabel=label, ylabel="A(Phi(0, 0), Phi(T, T)) [1]", title=title)
            if label.startswith("hidden"):
                ax.set_xticks(places)
            ax.legend()
    return [
        Picture(
            save_figure(figure, folder, "movement")[0],
            "How far kernels move in training, theory and networks.",
            "Alignment of each Phi at the start with itself at the end, mean over layers.",
        )
    ]
