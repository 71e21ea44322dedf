"""The error budget's quantities of theory, which is float64 whatever it is given.

Inputs are representable in float32, so that a float32 array must give the bits of a float64 one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.numerics_networks import drawn
from benchmarks.numerics_quantity import Quantity, Setting
from ntkscale.theory import dmft, infinite_width, local_analysis, partially_trained, scaling_model

Numbers = Mapping[str, Any]

ACTIVATIONS = ("relu", "erf", "gelu", "tanh")
TIMES = (1.0, 10.0, 100.0, 1000.0)
TRAINING: dict[str, Any] = {"gamma0": 1.0, "learning_rate": 0.1}


def _kernels(setting: Setting) -> Numbers:
    x = drawn(setting, 300, 20)
    found = {phi: infinite_width.kernels(x, depth=3, activation=phi) for phi in ACTIVATIONS}
    ntks = {f"{phi} ntk": kernels.ntk for phi, kernels in found.items()}
    return ntks | {f"{phi} nngp": kernels.nngp for phi, kernels in found.items()}


def _cnn_kernels(setting: Setting) -> Numbers:
    found = infinite_width.cnn_kernels(drawn(setting, 6, 1, 8, 8), depth=2)
    return {"ntk": found.ntk, "nngp": found.nngp}


def _ensemble(setting: Setting) -> Numbers:
    x, y = drawn(setting, 150, 20), drawn(setting, 150, seed=3)
    kernels = infinite_width.kernels(x, depth=2, activation="erf")
    k, s = kernels.ntk, kernels.nngp
    train, rest = slice(100), slice(100, None)
    found = infinite_width.lazy_flow(
        k[train, train],
        y[train],
        TIMES,
        cross=k[rest, train],
        nngp=(s[train, train], s[rest, train], s[rest, rest].diagonal()),
    )
    return {"mean": found.mean, "variance": found.variance, "mse": found.train_mse}


def _solvable(setting: Setting) -> Numbers:
    del setting  # takes numbers alone
    solve = partial(scaling_model.solve, 1.5, 0.6)
    return {
        "lazy": solve(0.0, TIMES),
        "rich": solve(1.0, TIMES),
        "width and data": solve(1.0, TIMES, width=64, num_data=128),
        "batches": solve(1.0, (1.0, 10.0, 50.0), learning_rate=0.2, batch_size=8, width=64),
    }


def _linear(setting: Setting) -> Numbers:
    x, y = drawn(setting, 12, 30), drawn(setting, 12, seed=3)
    found = dmft.solve_linear(x, y, depth=3, steps=40, **TRAINING)
    return {"mse": found.mse, "ntk": found.ntk, "phi": found.phi[-1]}


def _two_layer(setting: Setting) -> Numbers:
    x, y = drawn(setting, 6, 10), drawn(setting, 6, seed=3)
    found = dmft.solve_two_layer(x, y, activation="tanh", steps=20, samples=8192, **TRAINING)
    return {"mse": found.mse, "ntk": found.ntk, "phi": found.phi[0]}


def _deep(setting: Setting) -> Numbers:
    x, y = drawn(setting, 6, 10), drawn(setting, 6, seed=3)
    found = dmft.solve(x, y, activation="tanh", depth=2, steps=15, samples=2048, **TRAINING)
    return {"mse": found.mse, "ntk": found.ntk, "phi": found.phi[-1]}


def problem(setting: Setting) -> partially_trained.Problem:
    """30 points, 400 tanh neurons on 60 random features."""
    features = drawn(setting, 30, 60).double()
    weights = drawn(setting, 60, 400, seed=3).double()
    return partially_trained.Problem(
        gram=features @ features.T / 60,
        hidden=features @ weights / 60**0.5,
        readout=drawn(setting, 400, seed=4),
        targets=drawn(setting, 30, seed=5),
        activation="tanh",
    )


def _partially_trained(setting: Setting) -> Numbers:
    posed = problem(setting)
    flow = partially_trained.flow(posed, 20.0, step=0.5)
    return {
        "rate": partially_trained.instantaneous_rate(posed, posed.hidden),
        "proven": partially_trained.proven_rate(posed, posed.hidden),
        "loss": flow.loss,
        "rates": flow.rate,
        "limit": partially_trained.limit_flow(posed, TIMES)[0],
    }


def student() -> tuple[local_analysis.Teacher, local_analysis.Tail, torch.Tensor, torch.Tensor]:
    """A teacher of 4 neurons in 8 dimensions, and the weights of a student of 40."""
    setting = Setting()
    teacher = local_analysis.draw_teacher(8, 4, 30.0, 0)
    return teacher, local_analysis.tail("relu"), drawn(setting, 40), drawn(setting, 40, 8, seed=3)


def _local_analysis(setting: Setting) -> Numbers:
    del setting  # a teacher is float64
    teacher, phi, a, w = student()
    found: dict[str, Any] = {}
    objectives = {
        "population": local_analysis.Population(teacher, phi),
        "sampled": local_analysis.draw_samples(teacher, phi, 2000, 0),
    }
    for name, objective in objectives.items():
        by_a, by_w, loss = objective.gradients(a, w)
        found |= {f"{name} loss": loss, f"{name} by a": by_a, f"{name} by w": by_w}
    return found


def _theory(name: str, compute: Any, threads: float, *, takes_arrays: bool = True) -> Quantity:
    single = 0.0 if takes_arrays else None
    device = 1e-9 if takes_arrays else None
    return Quantity(name, compute, "largest", single, None, threads, device)


QUANTITIES = [
    _theory("infinite_width.kernels: " + ", ".join(ACTIVATIONS), _kernels, 1e-13),
    _theory("infinite_width.cnn_kernels", _cnn_kernels, 1e-13),
    _theory("infinite_width.lazy_flow: mean, variance, mse", _ensemble, 1e-9),
    _theory("scaling_model.solve", _solvable, 1e-9, takes_arrays=False),
    _theory("dmft.solve_linear", _linear, 1e-9),
    # Random numbers of a GPU are others; the seeds' rows hold them to their stated error.
    *(
        Quantity(f"dmft.{name}", compute, "largest", 0.0, None, bound, None)
        for name, compute, bound in (
            ("solve_two_layer", _two_layer, 1e-9),
            ("solve", _deep, 1e-9),
        )
    ),
    _theory("partially trained: rates, flow, limit", _partially_trained, 1e-10),
    _theory("local analysis: losses and gradients", _local_analysis, 1e-12, takes_arrays=False),
]


def sampled_losses(count: int) -> tuple[np.ndarray, float]:
    """The loss of the student on 4,000 samples for each seed, and over the population."""
    teacher, phi, a, w = student()
    objectives = [local_analysis.draw_samples(teacher, phi, 4000, seed) for seed in range(count)]
    exact = local_analysis.Population(teacher, phi).loss(a, w)
    return np.array([float(each.loss(a, w)) for each in objectives]), float(exact)
