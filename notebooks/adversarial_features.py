# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Adversarial features: can a kernel break a network that nobody has trained yet?
#
# Tsilivis & Kempe 2022 (arXiv 2210.05577): the tangent kernel Θ of an infinitely wide network
# says what gradient flow has learned by time t, and the eigenvectors of Θ take that apart into
# features:
#
#     fₜ(x) = Θ(x, X) V diag[(1 − exp(−λᵢ t)) / (λᵢ P)] Vᵀ y,     f∞ = Σᵢ fᵢ
#
# Both have their gradient in x in closed form, so both can be attacked with nothing trained.
# Which features are *useful* (right more often than chance), which are *robust* (still right
# under attack), and does the kernel's attack break a network?

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkscale import robustness
from ntkscale.networks import MLP
from ntkscale.reporting import (
    COLOURS,
    Entry,
    Spectrum,
    Table,
    draw_spectrum,
    house_style,
    new_figure,
    show,
)
from ntkscale.tasks import images
from ntkscale.training import Optimisation, Trainer

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)

SEED = 0  # of samples and weights
P = 100 if TINY else 500  # training images
HELD_OUT = 100 if TINY else 4000  # images that the kernel has not seen, to count useful features on
TEST = 60 if TINY else 500
try:
    task = images(
        "fashion-mnist",
        size=P + HELD_OUT,
        test_size=TEST,
        classes=(2, 4),
        scale="pixels",
        seed=SEED,
        dtype=torch.float64,
    )
    NAMES, GREY = ("pullover", "coat"), 8
except FileNotFoundError as missing:
    print(missing, "Going on with digits: fewer images, and a larger attack.")
    task = images("digits", classes=(3, 8), scale="pixels", seed=SEED, dtype=torch.float64)
    NAMES, GREY, P = ("3", "8"), 25, min(P, 150)

assert task.labels is not None and task.test_inputs is not None and task.test_labels is not None
x, y, labels = task.inputs[:P], task.targets[:P], task.labels[:P]
held_out, held_out_labels = task.inputs[P:], task.labels[P:]
test, test_labels = task.test_inputs, task.test_labels
threat = robustness.Threat(GREY / 255)  # largest change of a pixel, pixels from 0 to 1
print(f"{NAMES[0]} or {NAMES[1]}: {P} training, {len(test)} test, {len(held_out)} held-out images")

# %% [markdown]
# ## The kernel, and what it has learned by time t
#
# One hidden layer without biases: the limit of `networks.MLP`, so that it can be tried on
# networks below. λᵢ are eigenvalues of Θ / P; a direction is learned at t ~ 1/λᵢ. The attack is
# one step of FGSM.

# %%
kernel = robustness.InfiniteWidthKernel(
    depth=1, weight_variance=1.0, bias_variance=0.0, readout_bias=False, normalised=None
)
predictor = robustness.KernelPredictor(kernel, x, y)

TIMES = (10.0, 1e3, math.inf) if TINY else (10.0, 100.0, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6, math.inf)
ROWS = {"clean": "clean", "random signs": "random signs", "own": f"FGSM {GREY}/255"}
stopped = {t: robustness.transfer(predictor.at(t), {}, test, test_labels, threat) for t in TIMES}
counts = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k < P] + [P]
leading = robustness.cumulative_accuracy(predictor, counts, test, test_labels, threat)

figure, (left, middle, right) = new_figure(3)
spectrum = Spectrum("", predictor.eigenvalues.numpy())
draw_spectrum(left, [spectrum], title="How fast features are learned")
left.set_ylabel("eigenvalue λ of Θ / P, k-th [1]")
with house_style():
    finite = [t for t in TIMES if math.isfinite(t)]
    for (row, name), colour in zip(ROWS.items(), COLOURS, strict=False):
        values = [stopped[t].accuracy(row).value for t in TIMES]
        middle.plot([*finite, 10 * finite[-1]], values, "o-", color=colour, label=name)
    middle.set_xscale("log")
    ticks = [finite[0], 1e3, finite[-1], 10 * finite[-1]]
    middle.set_xticks(ticks, [*(f"$10^{{{math.log10(t):.0f}}}$" for t in ticks[:-1]), "∞"])
    middle.minorticks_off()
    middle.set(
        xlabel="flow time t at which learning stops",
        ylabel="accuracy on test images [1]",
        title="Stopped early",
        ylim=(0, 1),
    )
    middle.legend()
    right.plot(counts, leading.clean.value, "o-", color=COLOURS[0], label="clean")
    right.plot(counts, leading.robust.value, "o-", color=COLOURS[2], label=f"FGSM {GREY}/255")
    right.set(
        xscale="log",
        xlabel="number k of leading features [1]",
        ylabel="accuracy on test images [1]",
        title="The first k features alone",
        ylim=(0, 1),
    )
    right.legend()
figure

# %% [markdown]
# Look how little the late, small eigenvalues add to clean accuracy, and what they cost in
# robustness.
#
# ## Adversarial images, with nothing trained
#
# Images that f∞ gets right, and the attack's answer. The change is shown ten times as large.

# %%
f = predictor.at(math.inf)
right_ones = robustness.correct(f(test), test_labels)
shown = [
    int(torch.nonzero(right_ones & (test_labels == c)).flatten()[i]) for c in (0, 1) for i in (0, 1)
]
clean, answers = test[shown], test_labels[shown]
attacked = robustness.fgsm(f, clean, answers, threat)
before, after = f(clean)[:, 0], f(attacked)[:, 0]


def picture(ax: Any, image: Tensor, title: str = "", label: str = "") -> None:
    """One image from 0 (black) to 1 (white)."""
    ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.set_title(title, loc="center", fontsize=8)
    ax.set_ylabel(label, fontsize=8)


figure, axes = new_figure(len(shown), 3)
figure.set_size_inches(1.5 * len(shown), 5.2)
with house_style():
    grid = np.reshape(np.array(axes, dtype=object), (3, len(shown)))
    for column, (a, b, old, new) in enumerate(zip(clean, attacked, before, after, strict=True)):
        label = ("x", "10 (x′ − x) + ½", "x′") if column == 0 else ("", "", "")
        picture(grid[0, column], a, f"{NAMES[int(old > 0)]}, f = {old:+.2f}", label[0])
        picture(grid[1, column], 10 * (b - a) + 0.5, "", label[1])
        picture(grid[2, column], b, f"{NAMES[int(new > 0)]}, f = {new:+.2f}", label[2])
figure

# %% [markdown]
# ## Single features: useful, robust, both?
#
# Every fᵢ alone as a classifier, attacked through itself. Its sign is the one that the training
# labels gave it.

# %%
indices = np.unique(np.geomspace(1, P, 12 if TINY else 40).round().astype(int)) - 1
some = predictor.each_feature(indices)
useful = robustness.useful(some, test, test_labels)
robust = robustness.robust(some, test, test_labels, threat)
rank = robustness.rank_correlation(indices, robust.value)

# How many useful ones there are takes more images than that: of P coin tosses some look useful.
every = robustness.useful(predictor.each_feature(range(P)), held_out, held_out_labels)
is_useful = robustness.useful_features(every)
generator = torch.Generator().manual_seed(SEED)
shuffled = held_out_labels[torch.randperm(len(held_out_labels), generator=generator)]
by_luck = robustness.useful_features(
    robustness.useful(predictor.each_feature(range(P)), held_out, shuffled)
)
LATE = P // 5
best = LATE + int(every.value[LATE:].argmax())
best_robust = robustness.robust(predictor.each_feature([best]), test, test_labels, threat)

figure, (left, right) = new_figure(2)
with house_style():
    dots = left.scatter(
        useful.value, robust.value, c=indices + 1, norm="log", cmap="viridis", s=22, zorder=3
    )
    figure.colorbar(dots, ax=left, label="index i + 1 of the feature [1]")
    left.axvline(0.5, color="#000000", linestyle=":", linewidth=1)
    left.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8, zorder=1)
    left.set(
        xlabel="useful: share right, clean [1]",
        ylabel="robust: share right, attacked [1]",
        xlim=(0.35, 0.75),
        ylim=(-0.03, 0.75),
        title="Single features, on test images",
    )
    right.plot(np.arange(1, P + 1), every.value, ".", color="#BBBBBB", label="not told from chance")
    right.plot(
        1 + np.flatnonzero(is_useful),
        every.value[is_useful],
        ".",
        color=COLOURS[1],
        label="useful (5 % false discoveries)",
    )
    right.axhline(0.5, color="#000000", linestyle=":", linewidth=1)
    right.set(
        xscale="log",
        xlabel="index i + 1 of the feature [1]",
        ylabel="share right, clean [1]",
        title=f"Which are useful, on {len(held_out):,} held-out images",
    )
    right.legend()
figure

# %% [markdown]
# ## What features look like
#
# The gradient of a feature's loss at one image, and an image that was pulled, from grey, towards
# the feature. Early features look like the classes; look for where they turn into noise.

# %%
pictured = [i for i in (0, 1, 2, 5, 10, 50, 100, 200, 400) if i < P][:: 3 if TINY else 1]
optimised, cosines = robustness.feature_images(
    predictor, pictured, steps=10 if TINY else 120, step=0.005
)
figure, axes = new_figure(len(pictured), 2)
figure.set_size_inches(1.15 * len(pictured), 2.9)
with house_style():
    grid = np.reshape(np.array(axes, dtype=object), (2, len(pictured)))
    for column, index in enumerate(pictured):
        gradient = robustness.gradient_images(predictor.feature(index), clean[:1], answers[:1])
        first = column == 0
        picture(grid[0, column], gradient[0], f"i = {index}", "gradient" if first else "")
        cosine = f"cos {cosines[column]:.2f}"
        picture(grid[1, column], optimised[column], cosine, "optimised" if first else "")
figure

# %% [markdown]
# ## Does the kernel's attack break networks?
#
# Networks of the same architecture, lazy (γ₀ = 1 / √(4N), weights hardly move) and rich (γ₀ = 1),
# are trained until they fit as well as the kernel at time t. That kernel makes the attack; it has
# never seen them. Random signs of the same size are the control.

# %%
TRAINED = 100.0 if TINY else 3000.0
LADDER = ((32, None),) if TINY else ((32, None), (128, None), (512, None), (128, 1.0))
source = predictor.at(TRAINED)
goal = float((source(x) - y).square().mean())  # the kernel's training mse
stable = float(0.4 / predictor.eigenvalues[0])
tried, cosine = (
    {"the kernel itself": robustness.transfer(source, {}, test, test_labels, threat)},
    {},
)
for width, gamma0 in LADDER:
    name = f"N = {width}, " + ("lazy" if gamma0 is None else f"γ₀ = {gamma0:g}")
    net = MLP(x[0].numel(), 1, width=width, gamma0=gamma0 or (4 * width) ** -0.5, seed=SEED)
    rate = stable if gamma0 is None else stable / 10  # a rich network's kernel grows
    descent = Optimisation(method="momentum", momentum=0.9, learning_rate=rate, steps=2000)
    trainer = Trainer(net, task.first(P), descent)
    outcome = trainer.run(stop_below=goal)
    mse = trainer.evaluate()["mse"]
    print(f"{name}: {outcome.status} at t = {outcome.time:,.0f}, mse {mse:.3f} (kernel {goal:.3f})")
    inputs = test.float()
    tried[name] = robustness.transfer(net, {"kernel": source}, inputs, test_labels, threat)
    gradients = robustness.gradient_cosine(net, source, inputs, test_labels)
    cosine[name] = robustness.Mean.of(gradients).value

COLUMNS = {
    "clean": "clean",
    "random signs": "random signs",
    "own": "own attack",
    "kernel": "kernel's attack",
}
figure, (left, right) = new_figure(2)
with house_style():
    for position, ((row, title), colour) in enumerate(zip(COLUMNS.items(), COLOURS, strict=False)):
        bars = [
            found.accuracy(row if row in found.right else "own").value for found in tried.values()
        ]
        place = np.arange(len(tried)) + 0.2 * (position - 1.5)
        left.bar(place, bars, width=0.18, color=colour, label=title)
    left.set_xticks(range(len(tried)), [name.replace(", ", "\n") for name in tried])
    left.set(ylabel="accuracy on test images [1]", ylim=(0, 1.3), title=f"Attacks of {GREY}/255")
    left.set_yticks(np.linspace(0, 1, 6))
    left.legend(ncols=2)
    right.bar(range(len(cosine)), list(cosine.values()), width=0.5, color=COLOURS[0])
    right.set_xticks(range(len(cosine)), [name.replace(", ", "\n") for name in cosine])
    right.set(ylabel="cosine of input gradients, mean [1]", title="Network and kernel", ylim=(0, 1))
figure

# %% [markdown]
# ## What was found

# %%
show(
    Table(
        f"Accuracy, attacks of {GREY}/255",
        ["", *COLUMNS.values(), "cosine"],
        [
            {
                "": name,
                **{
                    title: Entry(found.accuracy(row).value)
                    for row, title in COLUMNS.items()
                    if row in found.right
                },
                "cosine": Entry(cosine.get(name)),
            }
            for name, found in tried.items()
        ],
    )
)
few = leading.counts.index(min(leading.counts, key=lambda k: abs(k - 20)))
print(
    f"first {leading.counts[few]} features: {leading.clean.value[few]:.3f} clean, "
    f"{leading.robust.value[few]:.3f} attacked; all {P}: {leading.clean.value[-1]:.3f}, "
    f"{leading.robust.value[-1]:.3f}"
)
early = max(stopped, key=lambda t: stopped[t].accuracy("own").value)
print(
    f"stopped at t = {early:g}: {stopped[early].accuracy('clean').value:.3f} clean, "
    f"{stopped[early].accuracy('own').value:.3f} attacked"
)
print(
    "Spearman(index, robustness) of single features: {:.3f} [{:.3f}, {:.3f}]".format(
        rank.value, *rank.interval
    )
)
print(
    f"useful features from {LATE} on: {is_useful[LATE:].sum()} of {P - LATE} "
    f"(held-out labels shuffled: {by_luck[LATE:].sum()})"
)
print(
    f"the most useful of them, i = {best}: {every.value[best]:.3f} clean on held-out images, "
    f"{best_robust.value[0]:.3f} attacked on test images"
)
for name in cosine:
    cost, noise = (tried[name].drop(row).value for row in ("kernel", "random signs"))
    print(f"{name}: the kernel's attack costs {cost:.3f} of accuracy, random signs {noise:+.3f}")

# %% [markdown]
# Features far down the spectrum can be useful and not robust at all: each is right a little more
# often than chance, which only thousands of held-out images can tell, and none survives its
# attack.
#
# **Where to go on**
# - three pairs, 1,000 images, with intervals and claims: `python train.py adversarial-kernel`
# - widths and richness, five seeds: `python train.py adversarial-kernel --preset transfer`
# - kernels *under* adversarial training: `python train.py adversarial-training`
# - the attacks: [ntkscale/robustness](../ntkscale/robustness/README.md)
