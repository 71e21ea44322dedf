# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Infinite width meets finite width: how wide is infinite?
#
# Theory of infinite width says what a network's kernels are before training (`infinite_width`)
# and what they do during it, lazy or rich (`dmft`, dynamical mean-field theory, arXiv
# 2205.09653). Where may a real network be replaced by it? Two numbers decide: the width N, whose
# corrections fall as N^−½, and γ₀, which sets how far the kernel moves however wide the network
# is.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import os

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from ntkscale import ntk, scaling
from ntkscale.experiments.dmft import Descent, at_times, compare, train_networks
from ntkscale.networks import MLP
from ntkscale.reporting import COLOURS, house_style, ladder, new_figure, scrub
from ntkscale.theory import dmft, infinite_width
from ntkscale.training import lazy_flow

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)
pio.renderers.default = "plotly_mimetype+notebook"  # in a page without network too

SEED = 0  # of data and theory; networks count theirs from 100 SEED
WIDTHS = (8, 16, 32, 64, 128) if TINY else (32, 64, 128, 256, 512, 1024)
SEEDS = range(100 * SEED, 100 * SEED + (2 if TINY else 16))

# %% [markdown]
# ## Before training: K of one network against K of all
#
# ReLU networks on the circle, x = (cos θ, sin θ). Each thin line is the kernel K(x(0), x(θ)) of
# one network, black is infinite width.

# %%
angles = 2 * np.pi * torch.arange(32, dtype=torch.float64) / 32
circle = torch.stack([angles.cos(), angles.sin()], dim=1)


def kernels_of(activation: str, depth: int, width: int) -> Tensor:
    """K = γ² ∂f/∂θ · ∂f′/∂θ on the circle, one a seed: (seeds, 32, 32)."""
    found = []
    for seed in SEEDS:
        net = MLP(
            2,
            1,
            width=width,
            depth=depth,
            activation=activation,
            bias=True,
            seed=seed,
            dtype=torch.float64,
        )
        found.append(net.gamma.detach() ** 2 * ntk.gram(net, circle))
    return torch.stack(found)


NETWORKS = {
    "ReLU, 1 layer": ("relu", 1),
    "GELU, 2 layers": ("gelu", 2),
    "tanh, 2 layers": ("tanh", 2),
}
distances, fits, profiles = {}, {}, {}
for name, (activation, depth) in NETWORKS.items():
    limit = infinite_width.kernels(
        circle, depth=depth, activation=activation, bias_variance=1.0
    ).ntk
    samples = {width: kernels_of(activation, depth, width) for width in WIDTHS}
    # Root mean square over networks of |K - K_inf| / |K_inf|.
    distances[name] = np.array(
        [
            float((k - limit).norm(dim=(1, 2)).square().mean().sqrt() / limit.norm())
            for k in samples.values()
        ]
    )
    fits[name] = scaling.fit_power_law(WIDTHS, distances[name], window=(WIDTHS[0], WIDTHS[-1]))
    profiles[name] = limit[0], samples

figure, (left, middle, right) = new_figure(3)
with house_style():
    limit, samples = profiles["ReLU, 1 layer"]
    half = np.degrees(angles.numpy()) - 180
    for ax, width in ((left, WIDTHS[1]), (middle, WIDTHS[-1])):
        for kernel in samples[width][:8]:
            ax.plot(half, kernel[0].roll(16), color=COLOURS[4], linewidth=0.8)
        ax.plot(half, limit.roll(16), color="#000000", label="N = ∞")
        ax.plot([], [], color=COLOURS[4], label=f"N = {width}, eight networks")
        ax.set(
            xlabel="θ [degrees]",
            ylabel="K(x(0), x(θ)) [1]",
            title=f"ReLU, N = {width}",
        )
        ax.set_xticks([-180, -90, 0, 90, 180])
        ax.legend(loc="upper left")
    for ax in (left, middle):
        ax.set_ylim(0, 1.5 * float(limit.max()))
    for (name, values), colour in zip(distances.items(), COLOURS, strict=False):
        fit = fits[name]
        low, high = fit.interval
        label = f"{name}: $N^{{-{fit.exponent:.2f}}}$ [{low:.2f}, {high:.2f}]"
        right.loglog(WIDTHS, values, "o", color=colour, markersize=4, label=label)
        right.loglog(WIDTHS, fit(WIDTHS), color=colour, linewidth=1)
    right.set(
        xlabel="width N [1]", ylabel="|K − K∞| / |K∞|, r.m.s. [1]", title="How fast it gets there"
    )
    right.legend()
figure

# %% [markdown]
# ## During training: infinite width that learns features
#
# Six points of two classes, tanh, two hidden layers, gradient descent. `dmft.solve` follows the
# infinitely wide network at each γ₀; networks of width N take the same steps. The lazy limit is
# `lazy_flow` of K at initialisation: nothing but a matrix exponential.

# %%
POINTS, STEPS, RATE = 6, (10 if TINY else 30), 0.3
GAMMAS = (0.1, 0.2, 1.0) if TINY else (0.05, 0.1, 0.2, 0.5, 1.0)
TRAINED = (16, 64) if TINY else (64, 512)
FEW = SEEDS[:2] if TINY else SEEDS[:6]
drawn = torch.Generator().manual_seed(SEED)
x = torch.randn(POINTS, 12, dtype=torch.float64, generator=drawn)
y = torch.tensor([-1.0] * (POINTS // 2) + [1.0] * (POINTS // 2), dtype=torch.float64)


def descent(gamma0: float) -> Descent:
    """What networks are trained on and how."""
    return Descent(x, y, depth=2, activation="tanh", gamma0=gamma0, learning_rate=RATE)


def theory_at(gamma0: float) -> dmft.Solution:
    """The same at infinite width."""
    return dmft.solve(
        x,
        y,
        depth=2,
        activation="tanh",
        gamma0=gamma0,
        learning_rate=RATE,
        steps=STEPS,
        samples=1024 if TINY else 4096,
        seed=SEED,
    )


theory = {gamma0: theory_at(gamma0) for gamma0 in GAMMAS}
trained = {
    (gamma0, width): list(
        train_networks(descent(gamma0), width=width, seeds=FEW, looks=range(STEPS + 1))
    )
    for gamma0 in GAMMAS
    for width in TRAINED
}
times = theory[GAMMAS[0]].times
infinite = infinite_width.kernels(x, depth=2, activation="tanh").ntk
lazy = lazy_flow(infinite, y[:, None], times, learning_rate=RATE).mse


def moved(solution: dmft.Solution) -> float:
    """|K(T) − K(0)| / |K(0)|, how far the tangent kernel went."""
    return float(ntk.kernel_change(solution.ntk[0], solution.ntk[-1]))


def off_own_lazy(network: dmft.Solution) -> float:
    """|log mse − log mse of the exact lazy flow of its own K(0)|, at the end."""
    own = lazy_flow(network.ntk[0], y[:, None], times, learning_rate=RATE).mse
    return abs(float((network.mse[-1] / own[-1]).log()))


def off_theory(network: dmft.Solution, gamma0: float) -> float:
    """|log mse − log mse of infinite width at the same γ₀|, at the end."""
    return abs(float((network.mse[-1] / theory[gamma0].mse[-1]).log()))


def mean_over(networks: list[dmft.Solution], measure) -> float:
    """Mean of a measure over the networks of several seeds."""
    return float(np.mean([measure(network) for network in networks]))


SHORT, WIDE = TRAINED
movement = {w: [mean_over(trained[g, w], moved) for g in GAMMAS] for w in TRAINED}
movement_theory = [moved(theory[g]) for g in GAMMAS]
from_lazy = {w: [mean_over(trained[g, w], off_own_lazy) for g in GAMMAS] for w in TRAINED}
from_theory = {
    w: [mean_over(trained[g, w], lambda one, g=g: off_theory(one, g)) for g in GAMMAS]
    for w in TRAINED
}

figure, (left, middle, right) = new_figure(3)
with house_style():
    left.semilogy(times, lazy, color="#000000", linestyle=":", label="lazy limit, γ₀ → 0")
    for gamma0, colour in zip(GAMMAS, ladder(len(GAMMAS)), strict=True):
        mse = torch.stack([network.mse for network in trained[gamma0, WIDE]]).mean(0)
        left.semilogy(times, theory[gamma0].mse, color=colour, label=f"γ₀ = {gamma0:g}")
        left.semilogy(times[::3], mse[::3], "o", color=colour, markersize=3.5)
    left.set(
        xlabel="flow time t [sum of learning rates]",
        ylabel="mse [target²]",
        title=f"Lines: N = ∞; dots: N = {WIDE}, mean of {len(FEW)}",
    )
    left.legend()
    middle.loglog(GAMMAS, movement_theory, color="#000000", label="N = ∞")
    for width, colour in zip(TRAINED, COLOURS, strict=False):
        middle.loglog(
            GAMMAS, movement[width], "o-", color=colour, linewidth=0.8, label=f"N = {width}"
        )
        right.loglog(
            GAMMAS,
            from_lazy[width],
            "o-",
            color=colour,
            label=f"N = {width}: lazy flow of its K(0)",
        )
        right.loglog(
            GAMMAS, from_theory[width], "s--", color=colour, label=f"N = {width}: infinite width"
        )
    middle.set(
        xlabel="γ₀ [1]", ylabel="|K(T) − K(0)| / |K(0)| [1]", title="How far the kernel moves"
    )
    middle.legend()
    right.set(
        xlabel="γ₀ [1]", ylabel="|Δ log mse| at the end, mean [1]", title="Which theory fails where"
    )
    right.legend(fontsize=6.5)
figure

# %% [markdown]
# On the right the two ways to be wrong. The lazy flow of a network's *own* K(0) knows its width
# and fails by richness; infinite width knows richness and fails by width, much the same at every
# γ₀. Theory samples its neurons, so that at the smallest γ₀ its kernel movement carries an error
# of its own, as a network of so many neurons would.
#
# ## The features themselves
#
# The kernel of the last layer's features, Φ²(t, t), of infinite width and of one network at the
# largest γ₀. Points 0 to 2 are one class, 3 to 5 the other. Scrub through time.

# %%
rich = GAMMAS[-1]
wide = trained[rich, WIDE][0]
pictures = [
    tuple(one.phi[-1][step, :POINTS, step, :POINTS].numpy() for one in (theory[rich], wide))
    for step in range(STEPS + 1)
]
largest = float(np.max(np.abs(pictures)))


def heat(matrix: np.ndarray) -> go.Heatmap:
    """One kernel, on the colour scale of all."""
    return go.Heatmap(
        z=matrix,
        zmin=-largest,
        zmax=largest,
        colorscale="RdBu_r",
        colorbar={"title": "Φ² [1]", "thickness": 12},
        hovertemplate="points %{x}, %{y}: %{z:.2f}<extra></extra>",
    )


moving = make_subplots(1, 2, subplot_titles=("N = ∞", f"N = {WIDE}"), horizontal_spacing=0.08)
for column, matrix in enumerate(pictures[-1]):
    moving.add_trace(heat(matrix), 1, column + 1)
moving.update_xaxes(title="point [index]", dtick=1, constrain="domain")
moving.update_yaxes(autorange="reversed", dtick=1, constrain="domain")
moving.update_yaxes(title="point [index]", scaleanchor="x", col=1)
moving.update_yaxes(scaleanchor="x2", col=2)
moving.update_layout(height=460, margin={"l": 55, "r": 10, "t": 45, "b": 20})
scrub(
    moving,
    [[heat(matrix) for matrix in pair] for pair in pictures],
    [f"{time:.2g}" for time in times.tolist()],
    start=STEPS,
)

# %% [markdown]
# ## How wide is infinite while features are learned?
#
# Outputs and kernels of networks against theory over all pairs of times, at the largest γ₀.
# Theory is an average over sampled neurons, and its own error does not fall with N.

# %%
compared = compare(at_times(theory[rich], 6), descent(rich), widths=WIDTHS, seeds=FEW)
single = compared.errors.drop_nulls("seed").filter(part="all")
SHOWN = {"outputs": "f", "phi2": "Φ², features", "g1": "G¹, gradients", "ntk": "tangent kernel"}
dynamic = {}
figure, (axes,) = new_figure()
figure.set_size_inches(6.4, 4.0)
with house_style():
    for (kernel, name), colour in zip(SHOWN.items(), COLOURS, strict=False):
        rows = single.filter(kernel=kernel)
        errors = np.array([rows.filter(width=width)["error"].mean() for width in WIDTHS])
        fit = scaling.fit_power_law(WIDTHS, errors, window=(WIDTHS[0], WIDTHS[-1]))
        dynamic[name] = fit, errors
        low, high = fit.interval
        label = f"{name}: $N^{{-{fit.exponent:.2f}}}$ [{low:.2f}, {high:.2f}]"
        axes.loglog(WIDTHS, errors, "o", color=colour, markersize=4, label=label)
        axes.loglog(WIDTHS, fit(WIDTHS), color=colour, linewidth=1)
    axes.set(
        xlabel="width N [1]",
        ylabel="relative error against theory [1]",
        title=f"Networks at γ₀ = {rich:g} against infinite width",
    )
    axes.legend()
figure

# %% [markdown]
# ## What was found

# %%
print("error ~ N^-p; p with its 95 % interval:")
for name, fit in {**fits, **{f"trained, {n}": f for n, (f, _) in dynamic.items()}}.items():
    verdict = "" if fit.is_power_law else f"   no power law: {fit.reason}"
    print("  {:28} {:.2f} [{:.2f}, {:.2f}]{}".format(name, fit.exponent, *fit.interval, verdict))
print(f"error at N = {WIDTHS[-1]}:")
for name, values in {**distances, **{f"trained, {n}": e for n, (_, e) in dynamic.items()}}.items():
    print(f"  {name:28} {values[-1]:.3f}")
growth = np.log2(movement_theory[GAMMAS.index(0.2)] / movement_theory[GAMMAS.index(0.1)])
print(f"from gamma0 = 0.1 to 0.2 kernel movement at infinite width grows as gamma0^{growth:.2f}")
header = "".join(f"{g:>9g}" for g in GAMMAS)
print(f"{'gamma0':34}{header}")
lines = {"kernel movement, N = inf": movement_theory}
for width in TRAINED:
    lines[f"kernel movement, N = {width}"] = movement[width]
    lines[f"log mse off own lazy flow, N = {width}"] = from_lazy[width]
    lines[f"log mse off theory, N = {width}"] = from_theory[width]
for name, values in lines.items():
    print(f"{name:34}" + "".join(f"{value:9.3f}" for value in values))

# %% [markdown]
# **Where to go on**
# - three layers, 10 points, eight seeds, verdict and figures: `python train.py dmft` (minutes)
# - where approximations fail: `python train.py dmft --preset approximations`
# - the equations: [theory/dmft](../ntkscale/theory/dmft/README.md),
#   [theory/infinite_width](../ntkscale/theory/infinite_width/README.md)
