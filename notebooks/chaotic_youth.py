# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Chaotic youth: when is a network's fate sealed, and when has its kernel learned?
#
# Fort et al. 2020 (arXiv 2010.15110): a *parent* is trained, and at several *spawn times* tₛ its
# whole state (weights, momentum) goes to *children*, which see the samples in orders of their
# own. If the children of tₛ end in one linearly connected basin, the noise after tₛ no longer
# decides where the network ends. Before that time it does: the chaotic youth. Does it end when
# the tangent kernel slows down, and when the kernel has learned what the task needs?

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import itertools
import os
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import torch
from scipy.stats import spearmanr
from torch import Tensor

from ntkscale import landscape, ntk
from ntkscale.networks import MLP
from ntkscale.reporting import COLOURS, draw_distance_map, house_style, ladder, new_figure, scrub
from ntkscale.tasks import Task, images, two_xor
from ntkscale.tracking import DistanceMap
from ntkscale.training import Linearised, Optimisation, Trainer, spawn

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)
pio.renderers.default = "plotly_mimetype+notebook"  # in a page without network too

SEED = 0  # of the parent; its own weights and order of samples
SPAWN = (0.0, 0.5) if TINY else (0.0, 0.1, 0.25, 0.5, 1.0, 3.0)  # epochs
CHILDREN = 2 if TINY else 3  # a spawn time
EPOCHS = 2.0 if TINY else 10.0
SIZE, TEST = (320, 100) if TINY else (4000, 2000)
WIDTH, BATCH = (32 if TINY else 128), 64
SPACING = 0.4  # epochs over which kernel velocity is read
try:
    task = images("fashion-mnist", size=SIZE, test_size=TEST, loss="cross-entropy")
except FileNotFoundError as missing:
    print(missing, "Going on with digits, which are too easy to tell the story as clearly.")
    task = images("digits", size=min(SIZE, 1400), loss="cross-entropy")
PER_EPOCH = len(task.inputs) // BATCH

assert task.labels is not None and task.test_inputs is not None and task.test_labels is not None
probe = task.inputs[:100]  # on which kernels and ReLU patterns are compared
sets = {"train": (task.inputs, task.labels), "test": (task.test_inputs, task.test_labels)}

# %% [markdown]
# ## A parent and its children
#
# Four hidden layers in the standard parameterization, where steps are large enough for a chaotic
# phase: at small steps, or in the lazy limit, there is none.


# %%
def network() -> MLP:
    """The parent at its initialisation."""
    return MLP(
        task.inputs[0].numel(),
        task.outputs,
        width=WIDTH,
        depth=4,
        bias=True,
        parameterization="standard",
        centered=False,
        seed=SEED,
    )


def weights(net: MLP) -> dict[str, Tensor]:
    """A copy of its state dict."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def steps_of(epochs: float) -> int:
    """The step at that many epochs."""
    return round(epochs * PER_EPOCH)


descent = Optimisation(
    method="momentum",
    momentum=0.9,
    learning_rate=0.07,
    batch_size=BATCH,
    steps=steps_of(EPOCHS),
)
born = {steps_of(epochs): epochs for epochs in SPAWN}
path = [steps_of(EPOCHS * (i / 24) ** 2) for i in range(25)]  # looks at the weights
gap = steps_of(SPACING)
even = [steps_of(EPOCHS * (i / 14) ** 1.5) for i in range(15)]  # looks at the kernel
kernel_looks = sorted({*even, *born, *(step + gap for step in born)})
kernel_looks = [step for step in kernel_looks if step <= descent.steps]

parent = network()
states: dict[int, Any] = {}
kernels: dict[int, Tensor] = {}
parent_walk: dict[int, dict[str, Tensor]] = {}
walks: dict[tuple, dict[int, dict[str, Tensor]]] = {("parent",): parent_walk}
errors_of_parent: dict[int, float] = {}


def look_at_parent(now: Trainer) -> None:
    if now.step in kernel_looks:
        kernels[now.step] = ntk.gram(parent, probe)
        errors_of_parent[now.step] = 1 - now.evaluate()["test_accuracy"]
    if now.step in path:
        parent_walk[now.step] = weights(parent)
    if now.step in born:
        states[now.step] = now.state()


looks = sorted({*kernel_looks, *path})
trainer = Trainer(parent, task, descent, seed=SEED)
trainer.run(measure_at=looks, by_step=True, on_measure=look_at_parent)
full_error = 1 - trainer.evaluate()["test_accuracy"]
print(f"the parent after {EPOCHS:g} epochs: test error {full_error:.3f}")

# %%
for step, number in itertools.product(states, range(CHILDREN)):
    net, walk = network(), {}

    def look_at_child(now: Trainer, net: MLP = net, walk: dict = walk) -> None:
        if now.step in path or now.complete:
            walk[now.step] = weights(net)

    order = 1000 * (SEED + 1) + 10 * step + number
    spawn(net, task, states[step], seed=order).run(
        measure_at=path, by_step=True, on_measure=look_at_child
    )
    walks[step, number] = walk
print(f"{len(walks) - 1} children of {len(states)} spawn times")

# %% [markdown]
# ## The error barrier between children
#
# B = max over α of R((1 − α)w + αw′), minus the mean of both ends, R the training error. The
# basin counts as sealed where the mean barrier stays below 2 %. On the right, one dot a pair.


# %%
def kernel_at(end: dict[str, Tensor]) -> Tensor:
    """Its tangent kernel on the probe, summed over classes."""
    return ntk.gram((parent, end), probe)


pairs = list(itertools.combinations(range(CHILDREN), 2))
measures: dict[str, list[list[float]]] = {}
lines = []
for step in states:
    own: dict[str, list[float]] = {}
    line = []
    for first, second in pairs:
        ends = [walks[step, child][descent.steps] for child in (first, second)]
        between = landscape.error_barrier(parent, ends[0], ends[1], sets)
        outputs = [landscape.outputs_at(parent, end, task.test_inputs) for end in ends]
        found = {
            "train barrier": between["train"].barrier,
            "test barrier": between["test"].barrier,
            "Hamming distance of ReLU patterns": landscape.pattern_distance(
                parent, ends[0], ends[1], probe
            ),
            "function distance, mean |p − p′|": landscape.function_distance(*outputs),
            "share of other classes": landscape.disagreement(*outputs),
            "kernel distance S": float(ntk.kernel_distance(kernel_at(ends[0]), kernel_at(ends[1]))),
        }
        for name, value in found.items():
            own.setdefault(name, []).append(value)
        line.append(between["train"])
    lines.append((line[0].alphas, np.mean([one.errors for one in line], axis=0)))
    for name, values in own.items():
        measures.setdefault(name, []).append(values)
table = {name: np.array(rows) for name, rows in measures.items()}  # (spawn times, pairs)
spawn_times = np.array(list(born.values()))


def spawn_axis(ax: Any) -> None:
    """Spawn times from 0 on, as a logarithm from the first one above it."""
    ax.set_xscale("symlog", linthresh=SPAWN[1], linscale=0.6)
    ax.set_xticks(SPAWN, [f"{s:g}" for s in SPAWN])
    ax.minorticks_off()
    ax.set_xlim(-SPAWN[1] / 4, 1.2 * SPAWN[-1])
    ax.set_xlabel("spawn time tₛ [epochs]")


figure, (left, right) = new_figure(2)
with house_style():
    for (alphas, errors), epochs, colour in zip(lines, SPAWN, ladder(len(SPAWN)), strict=True):
        left.plot(alphas, errors, marker="o", markersize=3, color=colour, label=f"tₛ = {epochs:g}")
    left.set(
        xlabel="α, from one child to the other [1]",
        ylabel="training error R [1]",
        title="On the straight line, mean over pairs",
    )
    left.legend()
    for name, colour in zip(("train barrier", "test barrier"), COLOURS, strict=False):
        right.plot(spawn_times, table[name].mean(1), color=colour, label=name)
        right.plot(
            np.repeat(spawn_times, len(pairs)), table[name].ravel(), ".", color=colour, alpha=0.5
        )
    right.axhline(0.02, color="#000000", linestyle=":", label="connected below")
    right.set(ylabel="error barrier B [1]", title="The barrier by spawn time")
    spawn_axis(right)
    right.legend()
figure

# %% [markdown]
# ## The walks
#
# Parent and children in the plane in which they move most. Scrub through the epochs: children of
# one spawn time (one colour) leave the parent where it then is, and part.

# %%
order = [(who, step) for who, walk in walks.items() for step in sorted(walk)]
plane = landscape.principal_plane([walks[who][step] for who, step in order])
at = dict(zip(order, plane.coordinates.numpy(), strict=True))
hues = dict(zip(states, ladder(len(states)), strict=True))
moments = sorted({step for _, step in order})


def walked(who: tuple, until: int) -> np.ndarray:
    """(n, 2) points of that walk so far; a single nan where it has not begun."""
    points = [at[who, step] for step in sorted(walks[who]) if step <= until]
    return np.array(points) if points else np.full((1, 2), np.nan)


def traces(until: int) -> list[go.Scatter]:
    """One line a walk, with a dot where it is now."""
    found = []
    for who in [*[key for key in walks if len(key) > 1], ("parent",)]:
        points, child = walked(who, until), len(who) > 1
        sizes = [0] * (len(points) - 1) + [7 if child else 10]
        found.append(
            go.Scatter(
                x=points[:, 0],
                y=points[:, 1],
                mode="lines+markers",
                line={
                    "color": hues[who[0]] if child else "#D55E00",
                    "width": 1.2 if child else 2.5,
                },
                marker={"size": sizes, "opacity": 1},
                name=f"tₛ = {born[who[0]]:g}" if child else "parent",
                showlegend=not child or who[1] == 0,
                legendgroup=str(who[0]),
                hoverinfo="name",
            )
        )
    return found


x_range, y_range = (
    [float(c.min()) - 0.06 * float(np.ptp(c)), float(c.max()) + 0.06 * float(np.ptp(c))]
    for c in plane.coordinates.numpy().T
)
moving = go.Figure(traces(moments[-1]))
moving.update_layout(
    template="simple_white",
    height=560,
    margin={"l": 60, "r": 10, "t": 20, "b": 20},
    xaxis={"title": f"1st component [weights], {plane.explained[0]:.0%}", "range": x_range},
    yaxis={"title": f"2nd component [weights], {plane.explained[1]:.0%}", "range": y_range},
    legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
)
scrub(
    moving,
    [traces(step) for step in moments],
    [f"{step / PER_EPOCH:.2g}" for step in moments],
    prefix="epoch ",
    start=len(moments) - 1,
)

# %% [markdown]
# ## The kernel's own youth
#
# S(K, K′) = 1 − ⟨K, K′⟩ / (|K| |K′|) of the parent; a bright cross in the map is a lurch, from
# which the kernel comes back. Velocity is v(t) = S(K(t), K(t + Δ)) / Δ with Δ = 0.4 epochs. Look
# whether barrier and velocity fall together, and what is left of velocity late: the noise of
# batches keeps the kernel moving.

# %%
distances = DistanceMap()
for step in kernel_looks:
    distances.add(kernels[step])
between_times = distances.distances().numpy()
velocity = np.array([float(ntk.kernel_distance(kernels[s], kernels[s + gap])) for s in born])
velocity = velocity / SPACING
barrier = table["train barrier"].mean(1)

figure, (left, middle, right) = new_figure(3)
with house_style():
    mesh = draw_distance_map(
        left,
        np.array(kernel_looks) / PER_EPOCH,
        between_times,
        unit="epochs",
        title="Kernel distance of the parent",
    )
    figure.colorbar(mesh, ax=left, label="S(K(s), K(t)) [1]")
    for values, name, colour in (
        (barrier, "train barrier", COLOURS[0]),
        (velocity, "kernel velocity", COLOURS[1]),
    ):
        middle.plot(spawn_times, values / values.max(), "o-", color=colour, label=name)
    middle.set(ylabel="relative to its largest value [1]", title="Do they fall together?")
    spawn_axis(middle)
    middle.legend()
    for name, colour in zip(list(table)[2:], COLOURS, strict=False):
        right.plot(spawn_times, table[name].mean(1), "o-", color=colour, label=name)
    right.set(ylabel="between finished children [1]", title="How different they end")
    right.set_ylim(0, 1.45 * right.get_ylim()[1])
    spawn_axis(right)
    right.legend(loc="upper right")
figure

# %% [markdown]
# Children that are linearly connected are still different functions: all curves on the right stay
# well above zero where the barrier is gone.
#
# ## When has the kernel learned?
#
# The network linearised at t, f(x; wₜ) + J(x; wₜ)d, has the kernel Kₜ for good. It learns by d
# alone, so what it reaches shows what Kₜ knows. The task is one that no kernel of a fresh network
# solves: two exclusive ors, y = [x₁x₂ > 0] + 2[x₃x₄ > 0], in 40 dimensions, of which 36 say
# nothing.

# %%
XOR_SPAWN = (0.0, 1.0) if TINY else (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
XOR_EPOCHS = 2.0 if TINY else 12.0
xor = two_xor(320 if TINY else 2000, test_size=200 if TINY else 2000)
xor_epoch = len(xor.inputs) // 32
xor_descent = Optimisation(
    method="sgd", learning_rate=0.1, batch_size=32, steps=round(XOR_EPOCHS * xor_epoch)
)


def xor_network() -> MLP:
    """Two hidden layers."""
    return MLP(
        40,
        4,
        width=WIDTH,
        depth=2,
        bias=True,
        parameterization="standard",
        centered=False,
        seed=SEED,
    )


def test_error(now: Trainer) -> float:
    """Share of test samples that get another class."""
    return 1 - now.evaluate()["test_accuracy"]


learner, left_at, own_error = xor_network(), {}, {}


def look_at_learner(now: Trainer) -> None:
    left_at[now.step], own_error[now.step] = weights(learner), test_error(now)


xor_steps = {round(epochs * xor_epoch): epochs for epochs in XOR_SPAWN}
xor_trainer = Trainer(learner, xor, xor_descent, seed=SEED)
xor_trainer.run(measure_at=list(xor_steps), by_step=True, on_measure=look_at_learner)
xor_error = test_error(xor_trainer)


def linearised_error(task: Task, start: dict[str, Tensor]) -> tuple[float, float]:
    """Test and training error of the network linearised at those weights, trained."""
    net = xor_network()
    net.load_state_dict(start)
    linear = Trainer(Linearised(net), task, xor_descent, seed=SEED)
    linear.run()
    return test_error(linear), 1 - linear.evaluate()["accuracy"]


reached = np.array([linearised_error(xor, left_at[step]) for step in xor_steps])
linear_error, linear_left = reached.T

# %%
figure, (axes,) = new_figure()
figure.set_size_inches(6.4, 4.0)
with house_style():
    floor = 1 / len(xor.test_targets if xor.test_targets is not None else xor.inputs)
    axes.plot(
        XOR_SPAWN, np.maximum(linear_error, floor / 2), "o-", label="linearised at t, trained"
    )
    axes.plot(
        XOR_SPAWN,
        [max(own_error[step], floor / 2) for step in xor_steps],
        "s-",
        label="the network itself at t",
    )
    axes.axhline(
        max(xor_error, floor / 2),
        color="#000000",
        linestyle=":",
        label=f"the network at {XOR_EPOCHS:g} epochs",
    )
    axes.set(
        xlabel="t [epochs]",
        ylabel="test error [1]",
        yscale="log",
        title="Two exclusive ors: what the kernel at t can learn",
    )
    axes.legend()
figure

# %% [markdown]
# ## What was found

# %%
sealed = landscape.basin_time(spawn_times, table["train barrier"])
late = barrier[spawn_times >= 1].max(initial=0.0)
rank: Any = spearmanr(barrier, velocity)
print("spawn time [epochs]  ", *(f"{s:7g}" for s in SPAWN))
for name in ("train barrier", "test barrier", "share of other classes"):
    print(f"{name:22}", *(f"{v:7.3f}" for v in table[name].mean(1)))
print(f"{'velocity [1 / epoch]':22}", *(f"{v:7.3f}" for v in velocity))
when = "not by the last spawn time" if np.isinf(sealed.time) else f"from {sealed.time:g} epochs on"
print(f"basin sealed {when}, of {EPOCHS:g} (one parent)")
print(f"barrier at 0: {barrier[0]:.3f}; largest from one epoch on: {late:.3f}")
print(f"Spearman's correlation of barrier and velocity over spawn times: {rank.statistic:.2f}")
print()
print("linearised at [epochs]", *(f"{s:7g}" for s in XOR_SPAWN))
print(f"{'its test error':22}", *(f"{e:7.4f}" for e in linear_error))
print(f"{'its training error':22}", *(f"{e:7.4f}" for e in linear_left))
print(f"{'the network there':22}", *(f"{own_error[s]:7.4f}" for s in xor_steps))
print(f"the network after {XOR_EPOCHS:g} epochs: {xor_error:.4f}")

# %% [markdown]
# One parent says little: barriers near zero are noise, velocities over 0.4 epochs carry the noise
# of batches, and rank correlations of single parents scatter. Networks linearised early do not
# even fit the training set in the time given: read their test error beside the training error.
#
# **Where to go on**
# - six parents, with intervals: `python train.py kernel-evolution --preset fashion-mlp` (minutes)
# - is there a chaotic youth in the lazy limit? `python train.py kernel-evolution --preset ladder`
# - ResNet20 on CIFAR-10, on a GPU: `python train.py kernel-evolution --preset resnet20`
# - the measures: [ntkscale/landscape](../ntkscale/landscape/README.md)
