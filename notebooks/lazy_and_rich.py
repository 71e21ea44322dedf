# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A lazy and a rich network learn the same target
#
# Open with `jupytext --to ipynb notebooks/lazy_and_rich.py`, or run as a script.
#
# The target on the circle is y(theta) = sum_k k^-q cos(k theta). The initial kernel alone says how
# fast a lazy network must learn it (t^-beta), and how fast a rich one will (t^-(2 beta/(1 + beta))
# for a hard task, beta < 1).

# %%
import torch

from ntkscale import ntk, scaling
from ntkscale.networks import MLP
from ntkscale.tasks import circle, circle_q
from ntkscale.tracking import KernelTracker, log_spaced
from ntkscale.training import Optimisation, Trainer, lazy_flow

torch.set_num_threads(1)
BETA = 0.5
task = circle(q=circle_q(BETA), dtype=torch.float64)


def network(gamma0: float) -> MLP:
    return MLP(
        2,
        1,
        width=1024,
        bias=True,
        gamma0=gamma0,
        init="ring",
        scale_input=False,
        dtype=torch.float64,
    )


# %% [markdown]
# ## What the kernel at initialisation says

# %%
net = network(gamma0=1.0)
kernel = net.gamma.detach() ** 2 * ntk.gram(net, task.inputs)
values, vectors = ntk.eigensystem(kernel / len(task.inputs))
found = scaling.source_capacity(
    values, ntk.target_power(vectors, task.targets), tail=task.tail, window=(8, 80)
)
said = scaling.predict(found.alpha, found.beta)
print(f"alpha {found.alpha:.2f}, beta {found.beta:.2f}: a {said.regime} task")
print(f"lazy t^-{said.time_lazy:.2f}, rich t^-{said.time_rich:.2f}")

# %% [markdown]
# ## Training, with the kernel followed

# %%
times = log_spaced(0.1, 300.0, 25)
curves, trackers = {}, {}
for gamma0 in (0.01, 1.0):
    net = network(gamma0)
    tracker = KernelTracker(net, task.inputs, task.targets)
    rows = []

    def look(trainer: Trainer, tracker: KernelTracker = tracker, rows: list = rows) -> None:
        rows.append({**trainer.evaluate(), **tracker.measure(time=trainer.time, step=trainer.step)})

    Trainer(net, task, Optimisation(method="flow", horizon=300.0, steps=20_000)).run(
        measure_at=times, on_measure=look
    )
    curves[gamma0], trackers[gamma0] = rows, tracker
    print(f"gamma0 {gamma0}: kernel distance {rows[-1]['kernel_distance']:.2e}")

# %% [markdown]
# ## The exact kernel limit beside them

# %%
lazy = lazy_flow(kernel, task.targets, times)
for gamma0, rows in curves.items():
    last = rows[-1]
    print(f"gamma0 {gamma0}: mse + tail at t = 300: {last['mse'] + task.tail:.4f}")
print(f"exact lazy flow:  {float(lazy.mse[-1]) + task.tail:.4f}")
