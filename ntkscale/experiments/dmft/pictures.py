"""Pictures of `train.py dmft` from the run's `solutions/`: what neurons see, and whole kernels.

As in arXiv 2205.09653, figure 1: densities of preactivations at the start and the end (b, c), the
kernels of the last time (d, g), and kernels traced over points at all pairs of times (e, h).
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from ntkscale.experiments.dmft.cells import kept
from ntkscale.experiments.dmft.finite_width import same_times
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings
from ntkscale.reporting import COLOURS, Picture, house_style, new_figure, save_figure
from ntkscale.theory.dmft import Solution

_BINS = 60
_COLUMNS = 3


def draw_densities(run: Path, settings: DmftSettings, folder: Path) -> list[Picture]:
    """Densities of h of every layer, deepest and richest; none before networks are trained."""
    depth, gamma0, width = settings.depth[-1], settings.gamma0[-1], settings.width[-1]
    paths = [
        kept(run, f"{FULL} ends", depth, gamma0),
        kept(run, "network ends", depth, gamma0, width),
    ]
    if not all(path.exists() for path in paths):
        return []
    theory, network = (Solution.load(path).fields for path in paths)
    if theory is None or network is None:
        return []
    columns = min(depth, _COLUMNS)
    figure, axes = new_figure(columns, -(-depth // columns))
    with house_style():
        for ax in axes[depth:]:
            ax.set_axis_off()
        for layer, ax in enumerate(axes[:depth]):
            both = [one.h[layer] for one in (theory, network)]
            reach = float(torch.cat([h.abs().flatten() for h in both]).quantile(0.999))
            edges = np.linspace(-reach, reach, _BINS + 1)
            for moment, colour, when in ((0, COLOURS[0], "start"), (-1, COLOURS[1], "end")):
                for h, style, name in zip(
                    both, ("--", "-"), ("theory", f"one network, N = {width:,}"), strict=True
                ):
                    counts, _ = np.histogram(h[moment].flatten().numpy(), bins=edges)
                    density = counts / (h[moment].numel() * np.diff(edges))
                    ax.stairs(
                        np.where(density > 0, density, np.nan),
                        edges,
                        baseline=None,
                        color=colour,
                        linestyle=style,
                        linewidth=1.1,
                        label=f"{name}, {when}",
                    )
            ax.set(
                xlabel=f"preactivation h of layer {layer + 1} [1]",
                ylabel="density [1]",
                yscale="log",
                title=f"layer {layer + 1}",
            )
        axes[0].legend(fontsize=6)
    return [
        Picture(
            save_figure(figure, folder, "densities")[0],
            "Densities of preactivations at the start and the end, theory and a network.",
            f"L = {depth}, gamma0 = {gamma0:g}; all training points together. Dashed: theory.",
        )
    ]


def draw_kernels(run: Path, settings: DmftSettings, folder: Path) -> list[Picture]:
    """Final Phi and G of the last and the first layer, and traced Phi, theory beside networks.

    In linear networks all points have the same G: it is drawn at all pairs of times instead.
    """
    depth, gamma0, width = settings.depth[-1], settings.gamma0[-1], settings.width[-1]
    paths = [kept(run, FULL, depth, gamma0), kept(run, "networks", depth, gamma0, width)]
    if not all(path.exists() for path in paths):
        return []
    theory, network = (Solution.load(path) for path in paths)
    if not same_times(theory, network) or theory.g[0].ndim != 4:
        return []  # ended early; with several outputs G has no one picture
    last = float(theory.times[-1])
    both = (theory, network)
    traced = [torch.einsum("tmsm->ts", s.phi[-1]) / s.num_train for s in both]
    pairs = [
        (f"Phi^{depth}, t = {last:.3g}", False, [s.phi[-1][-1, :, -1] for s in both]),
        (f"G^1, t = {last:.3g}", False, [s.g[0][-1, :, -1] for s in both]),
        (f"mean over points of Phi^{depth}", True, traced),
    ]
    if settings.activation == "linear":
        pairs[1] = ("G^1", True, [s.g[0][:, 0, :, 0] for s in both])
    figure, axes = new_figure(2, len(pairs))
    names = ("theory", "networks")
    with house_style():
        for row, (title, in_time, kernels) in enumerate(pairs):
            largest = max(float(k.abs().max()) for k in kernels)
            signed = any(bool((k < 0).any()) for k in kernels)
            scale = Normalize(-largest if signed else 0.0, largest)
            colours = ScalarMappable(scale, "RdBu_r" if signed else "viridis")
            extent = (0.0, last, last, 0.0) if in_time else None
            for ax, kernel, name in zip(axes[2 * row :], kernels, names, strict=False):
                ax.imshow(kernel.numpy(), norm=scale, cmap=colours.cmap, extent=extent)
                ax.grid(visible=False)
                what = ("flow time s", "flow time t") if in_time else ("point [index]",) * 2
                if not in_time:
                    for axis in (ax.xaxis, ax.yaxis):
                        axis.set_major_locator(MaxNLocator(integer=True))
                ax.set(xlabel=what[0], ylabel=what[1], title=f"{title}, {name}")
            figure.colorbar(colours, ax=axes[2 * row : 2 * row + 2], label="kernel [1]", shrink=0.8)
    return [
        Picture(
            save_figure(figure, folder, "kernels")[0],
            "Kernels of theory beside those of networks.",
            f"L = {depth}, gamma0 = {gamma0:g}; one colour scale a row. Networks: mean of "
            f"{len(settings.seed)} of width {width:,}.",
        )
    ]
