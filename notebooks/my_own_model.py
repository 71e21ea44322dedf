# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # My own model: how do I follow the kernel in a loop that is not ntkscale's?
#
# A small transformer in plain PyTorch, trained by its owner's own loop, learns to add modulo 11.
# Three lines follow its tangent kernel and record it in Weights & Biases, offline. They must not
# change a single bit of what is trained, and we check that too.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["retina"]
import os
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ntkscale import ntk, scaling
from ntkscale.reporting import (
    COLOURS,
    Spectrum,
    WandbLog,
    axis_label,
    draw_kernel_pictures,
    draw_spectrum,
    house_style,
    new_figure,
)
from ntkscale.tracking import KernelTracker, log_spaced

TINY = os.environ.get("NTKSCALE_NOTEBOOK_BUDGET") == "tiny"
torch.set_num_threads(1)

STEPS = 40 if TINY else 1500
SEED = 0

# %% [markdown]
# ## The owner's code
#
# Nothing here knows of ntkscale: integer tokens, embeddings, attention, layer norm, dropout,
# cross-entropy, AdamW.

# %%
MODULUS = 11


class Transformer(nn.Module):
    """Tokens (n, 3), "a b =", to logits (n, MODULUS) at the last position."""

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(MODULUS + 1, width)
        self.place = nn.Parameter(0.1 * torch.randn(3, width))
        self.block = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.05, batch_first=True, norm_first=True
        )
        self.read = nn.Linear(width, MODULUS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(self.block(self.token(tokens) + self.place)[:, -1])


a, b = torch.meshgrid(torch.arange(MODULUS), torch.arange(MODULUS), indexing="ij")
tokens = torch.stack([a.flatten(), b.flatten(), torch.full((MODULUS**2,), MODULUS)], dim=1)
answers = (a + b).flatten() % MODULUS
shuffled = torch.randperm(MODULUS**2, generator=torch.Generator().manual_seed(SEED))
train, test = shuffled[:100], shuffled[100:]


def owners_loop(steps: int) -> Transformer:
    torch.manual_seed(SEED)
    model = Transformer()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for _ in range(steps):
        batch = train[torch.randint(len(train), (48,))]
        loss = nn.functional.cross_entropy(model(tokens[batch]), answers[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


# %% [markdown]
# ## Three lines
#
# The probe: pairs sorted by their sum, so that a kernel which has found the sums shows blocks. Its
# targets are what the kernel is to align with; centred one-hot rows here. The owner's own
# evaluation stays what it was; `record.log` would take it too, under the names of
# `ntkscale/schema.py`.

# %%
probe = tokens[torch.argsort(answers, stable=True)][:: 3 if TINY else 1]
sums = probe[:, :2].sum(1) % MODULUS
probe_targets = nn.functional.one_hot(sums, MODULUS) - 1 / MODULUS
folder = Path(tempfile.mkdtemp())


@torch.no_grad()
def right(model: nn.Module, index: Tensor) -> float:
    """Share of right answers; the owner's own."""
    model.eval()
    share = (model(tokens[index]).argmax(1) == answers[index]).float().mean().item()
    model.train()
    return share


def tracked_loop(steps: int) -> tuple[Transformer, KernelTracker, WandbLog, list[dict]]:
    torch.manual_seed(SEED)
    model = Transformer()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    tracker = KernelTracker(model, probe, probe_targets)  # line 1
    record = WandbLog("offline", folder, name="transformer", group="mine", config={})  # line 2
    evaluated, looks = [], {round(look) for look in log_spaced(1, steps, 24)} | {0, steps - 1}
    for step in range(steps):
        batch = train[torch.randint(len(train), (48,))]
        loss = nn.functional.cross_entropy(model(tokens[batch]), answers[batch])
        record.log(tracker.step(step))  # line 3; most steps measure nothing
        if step in looks:
            own = {"accuracy": right(model, train), "test_accuracy": right(model, test)}
            evaluated.append({"step": step, **own})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, tracker, record, evaluated


started = time.perf_counter()
model, tracker, record, evaluated = tracked_loop(STEPS)
seconds = time.perf_counter() - started
record.finish()  # at the end of a script W&B does this by itself
print(
    f"{STEPS} steps, {len(tracker.history)} looks at the kernel: "
    f"{tracker.share(seconds):.0%} of the time"
)

# %% [markdown]
# Looks are log-spaced, eight a decade. For a bound on their cost give
# `measure_at=default_steps(steps, batch=…, probe=…, outputs=…)`: under 5 % of a longer training.
#
# ## Was anything changed?

# %%
plain = owners_loop(STEPS)
same = all(
    torch.equal(x, y)
    for x, y in zip(plain.state_dict().values(), model.state_dict().values(), strict=True)
)
print("weights with and without the tracker are", "equal, bit for bit" if same else "DIFFERENT")
assert same

# %% [markdown]
# ## What the kernel did
#
# AdamW has no flow time, so the axis is steps and γ is 1: K is the plain kernel of the logits,
# averaged over them. The engine says beforehand how it goes about it:

# %%
print(ntk.plan(model.eval(), probe))

# %%
figure, panels = new_figure(3)
with house_style():
    for axes, names, rows in (
        (panels[0], ("accuracy", "test_accuracy"), evaluated),
        (panels[1], ("kernel_distance", "kernel_alignment"), tracker.history),
        (panels[2], ("effective_rank",), tracker.history),
    ):
        for i, name in enumerate(names):
            steps, values = [row["step"] + 1 for row in rows], [row[name] for row in rows]
            axes.plot(steps, values, label=axis_label(name), color=COLOURS[i])
        axes.set(xscale="log", xlabel="optimiser steps + 1 [steps]")
        axes.legend()
    panels[0].set(title="The model", ylim=(0, 1.02), ylabel="share of right answers [1]")
    panels[1].set(title="Its kernel: shape", ylabel="S(K₀, K) and alignment [1]")
    panels[2].set(title="Its kernel: directions", ylabel=axis_label("effective_rank"))
figure

# %% [markdown]
# The kernel between sums: K, centred over the pairs, averaged over all pairs of each sum.
# After training, look at the diagonal: pairs of equal sum are alike to the kernel.


# %%
def between_sums(kernel: Tensor) -> Tensor:
    """Means of the centred kernel over all pairs of each two sums, over its mean diagonal."""
    centred = ntk.centred(kernel)
    mean = nn.functional.one_hot(sums, MODULUS).double()
    mean = mean / mean.sum(0)
    return mean.T @ centred @ mean / centred.diagonal().mean()


assert tracker.initial_kernel is not None and tracker.kernel is not None
draw_kernel_pictures(
    [between_sums(tracker.initial_kernel), between_sums(tracker.kernel)],
    [0, tracker.history[-1]["step"]],
    title="Centred K between sums, over its mean diagonal",
    samples="sum modulo 11",
    axis="step",
)


# %%
def contrast(kernel: Tensor) -> float:
    """Mean of K between pairs of equal sum, less that of unequal ones, over the diagonal's."""
    equal = sums[:, None] == sums
    other = ~torch.eye(len(sums), dtype=torch.bool)
    apart = kernel[equal & other].mean() - kernel[~equal].mean()
    return float(apart / kernel.diagonal().mean())


print(
    f"equal against unequal sums: {contrast(tracker.initial_kernel):+.3f} at the start, "
    f"{contrast(tracker.kernel):+.3f} at the end"
)

# %% [markdown]
# ## Is it a hard task?
#
# α and β of this model on its probe. The model does not start at zero, so what it has to learn is
# y − f₀. Where `fit_power_law` refuses, the numbers are no more than a description.

# %%
torch.manual_seed(SEED)
with torch.no_grad():
    left_to_learn = probe_targets - Transformer().eval()(probe)
values, power = tracker.initial_spectrum(left_to_learn)
found = scaling.source_capacity(values, power)
first, last = found.window
law = scaling.fit_power_law(range(first, last + 1), values[first - 1 : last])
print("alpha = {:.2f} [{:.2f}, {:.2f}],".format(found.alpha, *found.alpha_interval), end=" ")
print("a power law" if law.is_power_law else f"no power law: {law.reason}")
print("beta  = {:.2f} [{:.2f}, {:.2f}]".format(found.beta, *found.beta_interval))

figure, (axes,) = new_figure()
draw_spectrum(axes, [Spectrum("transformer", values, measured=found)], title="K₀ on the pairs")
figure

# %% [markdown]
# ## What was found, and the record

# %%
end = tracker.history[-1]
print(f"test accuracy {evaluated[0]['test_accuracy']:.2f} to {evaluated[-1]['test_accuracy']:.2f}")
print(f"kernel distance {end['kernel_distance']:.2f} (0: as lazy as a kernel)")
print(f"alignment {tracker.history[0]['kernel_alignment']:.2f} to {end['kernel_alignment']:.2f}")
for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
    print(
        f"W&B: {path.name}, {path.stat().st_size:,} bytes; send it with\n  wandb sync {path.parent}"
    )

# %% [markdown]
# **Where to go on**
# - models that return a dict: `KernelTracker(model, probe, output="logits")`; compiled and
#   data-parallel ones are unwrapped
# - every name in the W&B record, with its axis: `ntkscale/reporting/README.md`
# - the tracker's cost and schedules: `ntkscale/tracking/README.md`,
#   `python benchmarks/tracker_cost.py`
