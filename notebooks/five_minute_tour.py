# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Five-minute tour: how far is a network from its kernel limit, and what does that change?
#
# Two networks of one shape learn one target. One is *lazy* (γ₀ = 0.001: its tangent kernel K stays
# what it was), one is *rich* (γ₀ = 1: it learns features, so K moves). From K at initialisation
# alone theory says how fast each of them must learn. We train both and see whether that is right.
#
# The target on the circle is y(θ) = Σₖ k^−q cos kθ, with q chosen so that the task is *hard*:
# β = ½ < 1.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import os

import numpy as np
import torch

from ntkscale import ntk, scaling
from ntkscale.networks import MLP
from ntkscale.reporting import (
    COLOURS,
    Curve,
    Entry,
    Spectrum,
    Table,
    draw_curves,
    draw_kernel_pictures,
    draw_source,
    draw_spectrum,
    house_style,
    new_figure,
    show,
)
from ntkscale.tasks import circle, circle_q
from ntkscale.tracking import KernelTracker, log_spaced
from ntkscale.training import Optimisation, Trainer, lazy_flow

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)

BETA = 0.5
WIDTH = 256 if TINY else 2048
POINTS = 64 if TINY else 256
HORIZON = 30.0 if TINY else 300.0
SEED = 0
task = circle(q=circle_q(BETA), points=POINTS, dtype=torch.float64)


def network(gamma0: float) -> MLP:
    """Two layers, ReLU; on a ring of directions, so that its kernel is even round the circle."""
    return MLP(
        2,
        1,
        width=WIDTH,
        bias=True,
        gamma0=gamma0,
        init="ring",
        angles=POINTS // 2,
        scale_input=False,
        seed=SEED,
        dtype=torch.float64,
    )


# %% [markdown]
# ## Before training: two numbers from K₀
#
# **α** says how fast the kernel's eigenvalues fall, λₖ ~ k^−α. **β** says how fast the target's
# power falls along them: what lies above k goes as λₖ^β. For this network and target both are
# known, α = 2 and β = ½; here they are *measured* on the network's own kernel.

# %%
untrained = network(gamma0=1.0)
kernel = untrained.gamma.detach() ** 2 * ntk.gram(untrained, task.inputs)
values, vectors = ntk.eigensystem(kernel / POINTS)
power = ntk.target_power(vectors, task.targets)
found = scaling.source_capacity(values, power, tail=task.tail)
said = scaling.predict(found.alpha, found.beta)

print("alpha = {:.2f} [{:.2f}, {:.2f}]".format(found.alpha, *found.alpha_interval))
print("beta  = {:.2f} [{:.2f}, {:.2f}]".format(found.beta, *found.beta_interval))
print(f"a {said.regime} task: lazy mse ~ t^-{said.time_lazy:.2f}, rich ~ t^-{said.time_rich:.2f}")

figure, (left, right) = new_figure(2)
measured = Spectrum("K at initialisation", values, power, tail=task.tail, measured=found)
draw_spectrum(left, [measured], title="Capacity: eigenvalues of the kernel")
draw_source(right, [measured], title="Source: what is left of the target")
figure

# %% [markdown]
# The lines are drawn over the window in which they were fitted. The intervals allow for the choice
# of that window, which moves the numbers more than any statistical error.
#
# ## Training, with the kernel followed
#
# Gradient flow on all points. `KernelTracker` measures K at log-spaced times and leaves the network
# as it was. Time t is flow time, the sum of learning rates, in which a lazy and a rich network of
# any width lie on one axis.

# %%
times = log_spaced(0.1, HORIZON, 30)
flow = Optimisation(method="flow", horizon=HORIZON, steps=20_000)
rows, kernels = {}, {}
for gamma0 in (0.001, 1.0):
    net = network(gamma0)
    tracker = KernelTracker(net, task.inputs, task.targets)
    rows[gamma0], kernels[gamma0] = [], []

    def look(
        trainer: Trainer,
        tracker: KernelTracker = tracker,
        rows: list = rows[gamma0],
        kernels: list = kernels[gamma0],
    ) -> None:
        row = tracker.measure(time=trainer.time, step=trainer.step)
        rows.append({**trainer.evaluate(), **row})
        kernels.append(tracker.kernel)

    outcome = Trainer(net, task, flow).run(measure_at=times, on_measure=look)
    last = rows[gamma0][-1]
    print(
        f"gamma0 = {gamma0:<5g} {outcome.status} after {outcome.step:,} steps: "
        f"mse {last['mse'] + task.tail:.4f}, kernel distance {last['kernel_distance']:.1e}"
    )

# %% [markdown]
# ## Does the kernel move?
#
# S(K₀, Kₜ) = 1 − ⟨K₀, Kₜ⟩ / (|K₀| |Kₜ|) is 0 for a kernel that kept its shape. On the right, how
# much the kernel grew along the tenth eigenvector of K₀: a hard task keeps pulling at the kernel,
# and theory has it grow as a power of t.

# %%
NAMES = {0.001: "lazy, γ₀ = 0.001", 1.0: "rich, γ₀ = 1"}


def column(gamma0: float, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows[gamma0]])


figure, (left, right) = new_figure(2)
draw_curves(
    left,
    [
        Curve(NAMES[g], column(g, "time"), column(g, "kernel_distance"), colour=COLOURS[i])
        for i, g in enumerate(rows)
    ],
    quantity="kernel_distance",
    title="The shape of the kernel",
)
draw_curves(
    right,
    [
        Curve(NAMES[g], column(g, "time"), column(g, "kernel_growth")[:, 9], colour=COLOURS[i])
        for i, g in enumerate(rows)
    ],
    quantity="kernel_growth",
    title="Growth along the tenth eigenvector of K₀",
)
figure

# %% [markdown]
# The rich kernel itself, on the points of the circle in order, each over its mean diagonal. Look at
# the corners: they are θ = 0, where the target has its cusp, and the kernel makes a block of its
# own there. Resolution goes where it is needed.

# %%
shown = [0, len(times) // 2, len(times)]
draw_kernel_pictures(
    [kernels[1.0][i] / kernels[1.0][i].diagonal().mean() for i in shown],
    [rows[1.0][i]["time"] for i in shown],
    title="K of the rich network over its mean diagonal",
    samples="point of the circle",
)

# %% [markdown]
# ## The exponents
#
# Slopes are compared over the same piece of the target. The window (grey) is one of late
# *lazy* times; every curve is read where it has the losses that the exact flow of K₀ has in it.
# Losses carry the power of the modes that the points do not resolve (`task.tail`); without it a
# finite sum fakes a faster law.

# %%
window = np.geomspace(HORIZON / 5, HORIZON, 25)
exact = lazy_flow(kernel, task.targets, list(window)).mse.numpy() + task.tail  # from K_0 alone
fits = {"exact flow of K₀": scaling.fit_power_law(window, exact, window=(window[0], HORIZON))}
curves = [Curve("exact flow of K₀", window, exact, theory=True, colour="#000000")]
for i, gamma0 in enumerate(rows):
    t, mse = column(gamma0, "time")[1:], column(gamma0, "mse")[1:] + task.tail
    reached = np.geomspace(exact[0], max(exact[-1], mse[-1]), 25)
    at = np.exp(np.interp(-np.log(reached), -np.log(mse), np.log(t)))
    fit = scaling.fit_power_law(at, reached, window=(at[0], at[-1]))
    fits[NAMES[gamma0]] = fit
    curves.append(Curve(NAMES[gamma0], t, mse, fit=fit, colour=COLOURS[i]))

figure, (axes,) = new_figure()
figure.set_size_inches(6.4, 4.0)
draw_curves(axes, curves, window=(window[0], HORIZON), title="Loss of the two networks")
with house_style():
    axes.legend(loc="lower left")
figure

# %%
theory = {
    "exact flow of K₀": said.time_lazy,
    NAMES[0.001]: said.time_lazy,
    NAMES[1.0]: said.time_rich,
}
show(
    Table(
        "mse ~ t^-exponent",
        ["", "theory", "measured", "a power law"],
        [
            {
                "": name,
                "theory": theory[name],
                "measured": Entry(fit.exponent, fit.interval),
                "a power law": "yes" if fit.is_power_law else f"no: {fit.reason}",
            }
            for name, fit in fits.items()
        ],
    )
)

# %% [markdown]
# ## The verdict

# %%
lazy, rich = fits[NAMES[0.001]].exponent, fits[NAMES[1.0]].exponent
ratio = rows[1.0][-1]["mse"] + task.tail, rows[0.001][-1]["mse"] + task.tail
distances = [rows[gamma0][-1]["kernel_distance"] for gamma0 in rows]
print(f"kernel distance at the end: lazy {distances[0]:.1e}, rich {distances[1]:.1e}")
print(f"lazy exponent {lazy:.3f}: {lazy - said.time_lazy:+.3f} against beta")
print(
    f"feature learning: {rich - lazy:+.3f} in the exponent, where theory expects "
    f"{said.time_rich - said.time_lazy:+.3f}"
)
print(f"mse at t = {HORIZON:g}, rich over lazy: {ratio[0] / ratio[1]:.3f}")

# %% [markdown]
# The lazy curve follows from K₀: its exponent is that of the exact flow. The rich network is
# faster, by less than theory says. How much less depends on the seed at this width and in this
# short window (try another `SEED`); the command below averages over seeds, at twice the width.
#
# **Where to go on**
# - three seeds, width 4,096, four values of β: `python train.py circle --preset table`
# - what the kernel does in detail: `kernel_dynamics.ipynb`
# - your own data: `hard_or_easy.ipynb`; your own model and loop: `my_own_model.ipynb`
