# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Kernel dynamics: what does the kernel do while a network learns, when, and where in the network?
#
# Two networks of one shape (lazy, γ₀ = 0.05, and rich, γ₀ = 1) learn handwritten digits. We look at
# Kₜ(x, x′) = γ² ∂f/∂θ · ∂f′/∂θ on a *probe*: test images sorted by their class, so that a kernel
# which has found the classes shows blocks. K is averaged over the ten outputs.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import os

import numpy as np
import plotly.graph_objects as go
import torch

from ntkscale import ntk
from ntkscale.networks import MLP
from ntkscale.reporting import (
    COLOURS,
    Curve,
    axis_label,
    draw_curves,
    draw_distance_map,
    house_style,
    ladder,
    new_figure,
    scrub,
)
from ntkscale.tasks import images
from ntkscale.tracking import DistanceMap, KernelTracker, log_spaced
from ntkscale.training import Optimisation, Trainer

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)

SEED = 0
WIDTH = 64 if TINY else 128
HORIZON = 3.0 if TINY else 400.0
LOOKS = 6 if TINY else 24
task = images("digits", size=100 if TINY else 300, seed=SEED)
EACH = 8  # probe images a class

# Test images, sorted by class: what the kernel does on data it was not trained on.
assert task.test_labels is not None and task.test_inputs is not None
assert task.test_targets is not None
order = torch.cat([torch.nonzero(task.test_labels == c).flatten()[:EACH] for c in range(10)])
probe, probe_targets = task.test_inputs[order], task.test_targets[order]

# %% [markdown]
# ## Train, and look at log-spaced times
#
# `by_layer=True` also gives the kernel of every parameter; K is their sum. `DistanceMap` keeps the
# distances between the kernels of all pairs of times.

# %%
NAMES = {0.05: "lazy, γ₀ = 0.05", 1.0: "rich, γ₀ = 1"}
times = log_spaced(0.05, HORIZON, LOOKS)
flow = Optimisation(method="flow", horizon=HORIZON, steps=10_000)
rows: dict = {}
kernels: dict = {}
images_of: dict = {}
maps: dict = {}
layers: list[str] = []


def gradient_images(net: MLP) -> np.ndarray:
    """Mean of ∂f_c/∂x over the probe images of class c: (10, 8, 8)."""
    x = probe.clone().requires_grad_()
    own = (net(x).reshape(10, EACH, 10) * torch.eye(10)[:, None]).sum()
    (gradient,) = torch.autograd.grad(own, x)
    return gradient.reshape(10, EACH, 8, 8).mean(1).numpy()


for gamma0 in NAMES:
    net = MLP(64, 10, width=WIDTH, depth=2, gamma0=gamma0, seed=SEED)
    tracker = KernelTracker(net, probe, probe_targets, by_layer=True)
    rows[gamma0], kernels[gamma0], images_of[gamma0] = [], [], []
    maps[gamma0] = DistanceMap()

    def look(
        trainer: Trainer, gamma0: float = gamma0, tracker: KernelTracker = tracker, net: MLP = net
    ) -> None:
        row = tracker.measure(time=trainer.time, step=trainer.step)
        rows[gamma0].append({**trainer.evaluate(), **row})
        kernels[gamma0].append(tracker.kernel)
        images_of[gamma0].append(gradient_images(net))
        maps[gamma0].add(tracker.kernel)

    outcome = Trainer(net, task, flow).run(measure_at=times, on_measure=look)
    layers = tracker.layers
    print(
        f"{NAMES[gamma0]:16} {outcome.step:,} steps, t = {outcome.time:g}: training mse "
        f"{rows[gamma0][-1]['mse']:.4f}, test accuracy {rows[gamma0][-1]['test_accuracy']:.3f}"
    )


def column(gamma0: float, name: str) -> np.ndarray:
    """A quantity over time, without t = 0."""
    return np.array([row[name] for row in rows[gamma0][1:]])


# %% [markdown]
# ## Four numbers over time
#
# The *distance* S from K₀ and the *velocity* S(Kₛ, Kₜ) / (t − s) say whether and when the kernel
# moves. The *alignment* ⟨K, YYᵀ⟩ / (|K| |YYᵀ|) says whether it moves towards the targets, the
# *effective rank* (tr K)² / tr K² in how many directions it lives.

# %%
figure, (first, second, third, fourth) = new_figure(2, 2)
for axes, name in ((first, "kernel_distance"), (second, "kernel_velocity")):
    draw_curves(
        axes,
        [
            Curve(NAMES[g], column(g, "time"), column(g, name), colour=COLOURS[i])
            for i, g in enumerate(NAMES)
        ],
        quantity=name,
    )
with house_style():
    for axes, name in ((third, "kernel_alignment"), (fourth, "effective_rank")):
        for i, g in enumerate(NAMES):
            axes.plot(column(g, "time"), column(g, name), label=NAMES[g], color=COLOURS[i])
        axes.set(xscale="log", xlabel=axis_label("time"), ylabel=axis_label(name))
        axes.legend()
figure

# %%
for gamma0 in NAMES:
    start, end = rows[gamma0][0], rows[gamma0][-1]
    fastest = int(np.argmax(column(gamma0, "kernel_velocity")))
    print(
        f"{NAMES[gamma0]}: distance {end['kernel_distance']:.1e}, alignment "
        f"{start['kernel_alignment']:.3f} to {end['kernel_alignment']:.3f}, effective rank "
        f"{start['effective_rank']:.1f} to {end['effective_rank']:.1f}; "
        f"fastest at t = {column(gamma0, 'time')[fastest]:.2g}"
    )

# %% [markdown]
# ## Scrub through time
#
# The rich kernel on the probe, each Kₜ divided by its largest entry. Drag the slider, or press
# play: blocks on the diagonal are classes that the kernel tells apart.

# %%
scaled = [(k / k.abs().max()).numpy().astype(np.float32) for k in kernels[1.0]]
captions = [
    f"t = {row['time']:.3g}   S = {row['kernel_distance']:.3f}   "
    f"alignment {row['kernel_alignment']:.3f}"
    for row in rows[1.0]
]
class_ticks = {"tickvals": [EACH * c + EACH / 2 - 0.5 for c in range(10)], "ticktext": [*range(10)]}
moving = go.Figure(
    go.Heatmap(
        z=scaled[0],
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        colorbar={"title": "K / max [1]", "thickness": 12},
        hovertemplate="probe %{x}, %{y}: %{z:.2f}<extra></extra>",
    )
)
moving.update_layout(
    height=560,
    margin={"l": 55, "r": 10, "t": 45, "b": 20},
    xaxis={"title": "probe image, by class [digit]", **class_ticks, "constrain": "domain"},
    yaxis={
        "title": "probe image, by class [digit]",
        **class_ticks,
        "autorange": "reversed",
        "scaleanchor": "x",
        "constrain": "domain",
    },
)
scrub(
    moving,
    [[go.Heatmap(z=z)] for z in scaled],
    [f"{row['time']:.3g}" for row in rows[1.0]],
    titles=captions,
)

# %% [markdown]
# ## Where in the network
#
# The same distance for the kernel of each parameter, and each parameter's share of the trace.

# %%
figure, (left, right) = new_figure(2)
by_layer = np.array([row["kernel_distance_by_layer"] for row in rows[1.0][1:]])
traces = np.array([row["kernel_trace_by_layer"] for row in rows[1.0][1:]])
draw_curves(
    left,
    [
        Curve(name, column(1.0, "time"), by_layer[:, i], colour=COLOURS[i])
        for i, name in enumerate(layers)
    ],
    quantity="kernel_distance",
    title="Rich network: the kernel of each parameter",
)
with house_style():
    for i, name in enumerate(layers):
        share = traces[:, i] / traces.sum(1)
        right.plot(column(1.0, "time"), share, label=name, color=COLOURS[i])
    right.set(xscale="log", xlabel=axis_label("time"), ylabel="share of the trace [1]", ylim=(0, 1))
    right.set_title("Who makes the kernel")
    right.legend()
figure

# %% [markdown]
# ## Between all pairs of times
#
# A kernel that moved early and then stands still is dark along late times; one that keeps moving is
# bright away from the diagonal. The two maps have scales of their own.

# %%
figure, panels = new_figure(2)
with house_style():
    for axes, gamma0 in zip(panels, NAMES, strict=True):
        clock = np.array([row["time"] for row in rows[gamma0]])
        mesh = draw_distance_map(
            axes,
            np.log10(clock[1:]),
            maps[gamma0].distances()[1:, 1:].numpy(),
            unit="log₁₀ of flow time",
            title=NAMES[gamma0],
        )
        figure.colorbar(mesh, ax=axes, label="S(Kₛ, Kₜ) [1]", shrink=0.85)
figure

# %% [markdown]
# ## Eigenvectors as pictures
#
# An eigenvector u of K on the probe has one entry an image. Above, its entries, coloured by class:
# an eigenvector that has found classes is constant on each of them. Below, the picture Σᵢ uᵢ xᵢ:
# which pattern of pixels it tells from which (red from blue).

# %%
SHOWN = 6


def draw_eigenvectors(kernel: torch.Tensor, title: str):
    values, vectors = ntk.eigensystem(kernel / len(kernel))
    share = values / values.sum()
    figure, axes = new_figure(SHOWN, 2)
    figure.set_size_inches(10.0, 3.6)
    shades = [*ladder(10)]
    with house_style():
        for i in range(SHOWN):
            top, bottom = axes[i], axes[SHOWN + i]
            u = vectors[:, i].numpy()
            top.bar(range(len(u)), u, width=1.0, color=[shades[j // EACH] for j in range(len(u))])
            top.set(xticks=[], yticks=[0.0])
            top.set_title(f"u{i + 1}: {share[i]:.1%}")
            top.set_xlabel("image, 0 to 9")
            picture = (u @ probe.flatten(1).numpy()).reshape(8, 8)
            largest = np.abs(picture).max()
            bottom.imshow(picture, cmap="RdBu_r", vmin=-largest, vmax=largest)
            bottom.set(xticks=[], yticks=[])
            bottom.grid(visible=False)
        axes[0].set_ylabel("entry of u [1]")
        axes[SHOWN].set_ylabel("Σ uᵢ xᵢ")
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


draw_eigenvectors(kernels[1.0][0], "K₀, with each eigenvalue's share of the trace")

# %%
draw_eigenvectors(kernels[1.0][-1], f"K of the rich network at t = {HORIZON:g}")

# %% [markdown]
# How much of the variance of an eigenvector's entries lies *between* classes (1: it depends on the
# class alone), and how much of the trace the nine leading ones after the first hold (nine are what
# ten classes need, and the first is the mean):


# %%
def between(vectors: torch.Tensor) -> torch.Tensor:
    """Share of the entries' variance between classes, for each column."""
    u = vectors.reshape(10, EACH, -1)
    return u.mean(1).var(0, correction=0) / vectors.var(0, correction=0)


for name, kernel in (
    ("K_0", kernels[1.0][0]),
    ("lazy, end", kernels[0.05][-1]),
    ("rich, end", kernels[1.0][-1]),
):
    values, vectors = ntk.eigensystem(kernel)
    print(
        f"{name:10} between classes {between(vectors[:, 1:10]).mean():.2f}, "
        f"share of the trace {values[1:10].sum() / values.sum():.2f}"
    )

# %% [markdown]
# ## Gradients as images
#
# The mean of ∂f_c/∂x over the probe images of class c: pixels that speak for the class (red) or
# against it (blue). Early on both networks have the gradient that K₀ gives them.

# %%
figure, axes = new_figure(10, 3)
figure.set_size_inches(10.0, 3.6)
strips = [
    (f"t = {rows[1.0][1]['time']:.2g}", images_of[1.0][1]),
    ("lazy, end", images_of[0.05][-1]),
    ("rich, end", images_of[1.0][-1]),
]
with house_style():
    for r, (name, pictures) in enumerate(strips):
        for c in range(10):
            ax = axes[10 * r + c]
            largest = np.abs(pictures[c]).max()
            ax.imshow(pictures[c], cmap="RdBu_r", vmin=-largest, vmax=largest)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            if r == 0:
                ax.set_title(f"digit {c}", loc="center")
        axes[10 * r].set_ylabel(name)
figure

# %% [markdown]
# ## What was found

# %%
start, end = rows[1.0][0], rows[1.0][-1]
still = rows[0.05][-1]
moved = dict(zip(layers, end["kernel_distance_by_layer"], strict=True))
most = max(moved, key=lambda name: moved[name])
half = next(
    row["time"] for row in rows[1.0] if 2 * row["kernel_distance"] >= end["kernel_distance"]
)
ratio = end["kernel_distance"] / still["kernel_distance"]
print(f"the rich kernel moved {ratio:.0f} times as far as the lazy one,")
print(f"half of it by t = {half:.2g}, {half / HORIZON:.0%} of the training")
print(
    f"alignment x {end['kernel_alignment'] / start['kernel_alignment']:.2f} (lazy: x "
    f"{still['kernel_alignment'] / rows[0.05][0]['kernel_alignment']:.2f})"
)
print(f"it moved most in {most}: S = {moved[most]:.3f}")

# %% [markdown]
# **Where to go on**
# - such kernels beside their theory at infinite width: `infinite_meets_finite.ipynb`
# - when is the basin sealed, children and barriers: `chaotic_youth.ipynb`,
#   `python train.py kernel-evolution`
# - in your own loop: `my_own_model.ipynb`; every quantity and its unit: `ntkscale/schema.py`
