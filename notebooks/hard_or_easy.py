# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Hard or easy: what does the kernel at initialisation say of *my* data?
#
# Bring two arrays, `inputs` (P, D) and `targets` (P, C). The tangent kernel K₀ of an untrained
# network on them gives α, how fast eigenvalues fall, and β, how fast the power of the targets falls
# along them. The two place the task as *hard* (β < 1), *easy* or *super-easy* and predict the
# exponents of training. Then we train and look. At the end: what to do where there is no power law.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntkscale import ntk, scaling
from ntkscale.networks import MLP
from ntkscale.reporting import (
    COLOURS,
    Curve,
    Entry,
    Spectrum,
    Table,
    draw_curves,
    draw_source,
    draw_spectrum,
    new_figure,
    show,
)
from ntkscale.tasks import Task, images
from ntkscale.theory import scaling_model
from ntkscale.tracking import log_spaced
from ntkscale.training import Optimisation, Trainer

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)

WIDTH = 64 if TINY else 128
SEED = 0

# %% [markdown]
# ## Your data
#
# Put your arrays here. Inputs should have |x|² / D near 1 and targets a power near 1. Two or three
# hundred samples give a first answer, a thousand a good one. The example: is a handwritten digit
# odd (+1) or even (−1)?

# %%
digits = images("digits", size=120 if TINY else 300, seed=SEED, dtype=torch.float64)
assert digits.labels is not None
inputs = digits.inputs.flatten(1)  # (P, D)
targets = 2.0 * (digits.labels % 2)[:, None].double() - 1.0  # (P, C)

print(f"P = {len(inputs)} samples, D = {inputs.shape[1]}, C = {targets.shape[1]}")
print(f"|x|^2 / D = {inputs.square().mean():.2f}, |y|^2 = {targets.square().sum(1).mean():.2f}")

# %% [markdown]
# ## What K₀ says
#
# `source_capacity` always gives two numbers; whether they are *laws* is another question, which
# `fit_power_law` answers on the same window: it refuses what bends, levels off or has no trend.


# %%
@dataclass
class Start:
    """Spectrum, exponents, and whether they are laws."""

    values: Tensor
    vectors: Tensor
    coefficients: Tensor  # (P, C), of the targets on each eigenvector
    found: scaling.SourceCapacity
    laws: dict[str, scaling.PowerLawFit]

    @property
    def power(self) -> Tensor:
        return self.coefficients.square().sum(1)


def network(task: Task, gamma0: float, dtype: torch.dtype = torch.float32) -> MLP:
    """The network in question; put yours here."""
    inputs, outputs = task.inputs.shape[1], task.outputs
    return MLP(inputs, outputs, width=WIDTH, depth=2, gamma0=gamma0, seed=SEED, dtype=dtype)


def look(task: Task) -> Start:
    net = network(task, 1.0, torch.float64)
    kernel = net.gamma.detach() ** 2 * ntk.gram(net, task.inputs) / task.outputs
    values, vectors = ntk.eigensystem(kernel / len(task.inputs))
    coefficients = vectors.T @ task.targets / len(task.inputs) ** 0.5
    power = coefficients.square().sum(1)
    found = scaling.source_capacity(values, power)
    k = np.arange(found.window[0], found.window[1] + 1)
    remaining = (power.flip(0).cumsum(0).flip(0) - power)[k - 1]
    scale = 1 / values[k - 1].numpy()
    ends = (float(scale[0]), float(scale[-1]))
    laws = {
        "alpha": scaling.fit_power_law(k, values[k - 1], window=(k[0], k[-1])),
        "beta": scaling.fit_power_law(scale, remaining, window=ends),
    }
    return Start(values, vectors, coefficients, found, laws)


def tell(start: Start) -> None:
    found = start.found
    for name, value, interval in (
        ("alpha", found.alpha, found.alpha_interval),
        ("beta", found.beta, found.beta_interval),
    ):
        law = start.laws[name]
        print(f"{name:5} = {value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]", end="  ")
        print("a power law" if law.is_power_law else f"NOT a power law: {law.reason}")
    regimes = {
        scaling.regime(found.alpha, max(beta, 1e-3)) for beta in (found.beta, *found.beta_interval)
    }
    print(
        "regime:",
        " or ".join(sorted(regimes)),
        f"(window: k from {found.window[0]} to {found.window[1]})",
    )


def draw(start: Start, name: str):
    figure, (left, right) = new_figure(2)
    spectrum = Spectrum(name, start.values, start.power, measured=start.found)
    draw_spectrum(left, [spectrum], title="Capacity")
    draw_source(right, [spectrum], title="Source")
    return figure


mine = Task("mine", inputs, targets)
start = look(mine)
tell(start)
draw(start, "my data")

# %% [markdown]
# ## What that predicts
#
# Exponents r of mse ~ (resource)^−r, with those of both ends of β's interval.

# %%
found = start.found
said = scaling.predict(found.alpha, found.beta)
ends = [scaling.predict(found.alpha, max(beta, 1e-3)) for beta in found.beta_interval]
MEANING = {
    "time_lazy": "flow time t, lazy",
    "time_rich": "flow time t, rich",
    "model": "width N",
    "data": "samples P",
    "compute_lazy": "compute N t, lazy",
    "compute_rich": "compute N t, rich",
}
show(
    Table(
        f"Predicted for a {said.regime} task",
        ["resource", "exponent"],
        [
            {
                "resource": text,
                "exponent": Entry(
                    getattr(said, name), (getattr(ends[0], name), getattr(ends[1], name)), digits=2
                ),
            }
            for name, text in MEANING.items()
        ],
    )
)

# %% [markdown]
# An exponent holds where the modes of the window are being learned, and K₀ says more than that: the
# *whole curve* follows from its eigenvalues and the target on them, without any power law
# (`theory.scaling_model.flow`, with γ = γ₀² for feature learning).
#
# ## A check by training
#
# Gradient flow on all samples, lazy and rich, on the training mse: that is what the spectrum of the
# training samples speaks of. A network stops at the end of the window (grey), or after 3,000 steps;
# the rich one needs more of them, since its kernel grows.

# %%
NAMES = {0.05: "lazy, γ₀ = 0.05", 1.0: "rich, γ₀ = 1"}


@dataclass
class Checked:
    """Trained curve beside the one predicted from K₀."""

    times: np.ndarray
    mse: np.ndarray
    predicted: np.ndarray


def train(task: Task, start: Start, gamma0: float, horizon: float) -> Checked:
    times, mse = [], []

    def note(trainer: Trainer) -> None:
        times.append(trainer.time)
        mse.append(trainer.evaluate()["mse"])

    flow = Optimisation(method="flow", horizon=horizon, steps=3_000)
    Trainer(network(task, gamma0), task, flow).run(
        measure_at=log_spaced(0.3, horizon, 30), on_measure=note
    )
    spectrum = scaling_model.measured(start.values, start.coefficients)
    curve = scaling_model.flow(spectrum, gamma0**2, times[1:], rtol=1e-3)
    return Checked(np.array(times[1:]), np.array(mse[1:]), curve.mse)


first, last = found.window
window = (0.5 / float(start.values[first - 1]), 0.25 / float(start.values[last - 1]))
checked = {gamma0: train(mine, start, gamma0, window[1]) for gamma0 in NAMES}

# %%
figure, (axes,) = new_figure()
figure.set_size_inches(6.4, 4.0)
curves, fits = [], {}
levels = np.exp(
    np.interp(np.log(window), np.log(checked[0.05].times), np.log(checked[0.05].mse))
)  # losses that the lazy network has at both ends of the window
for i, (gamma0, one) in enumerate(checked.items()):
    # The rich network is read where it has the same losses.
    at = np.exp(np.interp(-np.log(levels), -np.log(one.mse), np.log(one.times)))
    grid = np.geomspace(at[0], at[1], 20)
    mse, curve = (
        np.exp(np.interp(np.log(grid), np.log(one.times), np.log(values)))
        for values in (one.mse, one.predicted)
    )
    ends = (grid[0], grid[-1])
    fits[gamma0] = [scaling.fit_power_law(grid, values, window=ends) for values in (mse, curve)]
    curves += [
        Curve(NAMES[gamma0], one.times, one.mse, colour=COLOURS[i]),
        Curve("   from K₀", one.times, one.predicted, theory=True, colour=COLOURS[i]),
    ]
draw_curves(axes, curves, window=window, title="Training loss, and what K₀ said of it")
figure

# %%
show(
    Table(
        "mse ~ t^-exponent in the window",
        ["", "from alpha, beta", "curve from K_0", "measured", "curve: largest error"],
        [
            {
                "": NAMES[gamma0],
                "from alpha, beta": Entry(said.time_lazy if gamma0 < 1 else said.time_rich),
                "curve from K_0": Entry(predicted.exponent),
                "measured": Entry(measured.exponent, measured.interval),
                "curve: largest error": f"{np.abs(one.mse / one.predicted - 1).max():.0%}",
            }
            for (gamma0, one), (measured, predicted) in zip(
                checked.items(), fits.values(), strict=True
            )
        ],
    )
)

# %% [markdown]
# Read the columns from left to right. The lazy curve is K₀'s own, and its exponent in a window that
# training reaches may differ from β, which is what remains at late times. A rich network's kernel
# moves, and the solvable model knows one way only in which it can.
#
# ## Where there is no power law
#
# Two examples. *Isotropic noise*: inputs evenly on a sphere in ten dimensions, target x₁x₂; the
# spectrum comes in steps, one for each degree of polynomials, and the target sits on one of them.
# *Random labels* on the digits: the same eigenvalues, but the target's power lies everywhere.

# %%
noise = torch.Generator().manual_seed(SEED)
sphere = (
    torch.nn.functional.normalize(
        torch.randn(len(inputs), 10, generator=noise, dtype=torch.float64)
    )
    * 10**0.5
)
product = (sphere[:, 0] * sphere[:, 1])[:, None]
random = torch.randn(len(inputs), 1, generator=noise, dtype=torch.float64)
others = {
    "x₁x₂ on a sphere": Task("sphere", sphere, product),
    "random labels": Task("random", inputs, random),
}
starts = {}
for name, task in others.items():
    print(f"\n{name}")
    starts[name] = look(task)
    tell(starts[name])

figure, (left, right) = new_figure(2)
spectra = [
    Spectrum(name, one.values, one.power, colour=COLOURS[i])
    for i, (name, one) in enumerate([("digits, odd or even", start), *starts.items()])
]
draw_spectrum(left, spectra, title="Eigenvalues")
draw_source(right, spectra, title="Power left")
figure

# %% [markdown]
# Then do not quote an exponent, nor the regime that hangs on it. The curve needs neither:

# %%
task = others["x₁x₂ on a sphere"]
plain = {
    gamma0: train(task, starts["x₁x₂ on a sphere"], gamma0, 50.0 if TINY else 200.0)
    for gamma0 in NAMES
}
figure, (axes,) = new_figure()
figure.set_size_inches(6.4, 4.0)
curves = []
for i, (gamma0, one) in enumerate(plain.items()):
    curves += [
        Curve(NAMES[gamma0], one.times, one.mse, colour=COLOURS[i]),
        Curve("   from K₀", one.times, one.predicted, theory=True, colour=COLOURS[i]),
    ]
draw_curves(axes, curves, title="x₁x₂ on a sphere: no exponent, but a curve")
figure

# %% [markdown]
# ## What was found

# %%
for name, one, runs in (
    ("digits, odd or even", start, checked),
    ("x₁x₂ on a sphere", starts["x₁x₂ on a sphere"], plain),
):
    laws = [law for law, fit in one.laws.items() if fit.is_power_law]
    errors = {g: np.abs(run.mse / run.predicted - 1).max() for g, run in runs.items()}
    print(
        f"{name}: laws: {', '.join(laws) or 'none'}; the curve from K_0 is off by at most "
        f"{errors[0.05]:.0%} (lazy), {errors[1.0]:.0%} (rich)"
    )
gain = fits[1.0][0].exponent - fits[0.05][0].exponent
expected = said.time_rich - said.time_lazy
print(f"digits: feature learning changes the exponent by {gain:+.2f}, theory {expected:+.2f}")

# %% [markdown]
# **Where to go on**
# - your arrays, all of this and a report:
#   `numpy.savez("mine.npz", inputs=..., targets=...)`, then
#   `python train.py images --data mine.npz --model mlp --gamma0 0.05 1`
# - how the fits are made and when they refuse: `ntkscale/scaling/README.md`
# - the solvable model: `ntkscale/theory/scaling_model/README.md`
