"""What a run of `train.py kernel-evolution` measured, parent by parent, on one axis of epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.kernel_evolution.pieces import Plan, groups
from ntkscale.experiments.kernel_evolution.settings import KernelEvolutionSettings
from ntkscale.experiments.work import Piece, piece_name
from ntkscale.runs import Run
from ntkscale.tracking import DistanceMap

PAIRED = ("train_barrier", "test_barrier", "hamming", "function_distance", "disagreement",
          "kernel_distance")  # fmt: skip
"""Measures between two finished children of one spawn time."""

Curve = Float[ndarray, "S"]


@dataclass(frozen=True)
class Evolution:
    """One parent, its children and the networks linearised at it. Arrays (S,) are by spawn time.

    What was not asked for, or is not done, is nan.

    Attributes:
        gamma0: richness; None in the standard parameterization.
        seed: of the parent.
        spawn: epochs.
        pairs: of each measure in `PAIRED` its values, (S, pairs).
        batch_norm: what paths did with running statistics: none, keep or recompute.
        velocity: S(K_t, K_(t + dt)) / dt per epoch, at the spawn times, (S,).
        noise: S(K_t, K_(t + 2 dt)) / S(K_t, K_(t + dt)) there, (S,): 4 for a steady drift, 1 for
            noise about one kernel.
        late_velocity, late_noise: the same two spacings before the end.
        travelled: S(K_0, K_t), (S,), and `left`: S(K_t, K_T).
        linear_error, linear_train_error: of the networks linearised at the spawn times.
        own_error: test error of the parent at the spawn times.
        regression_error: test error of kernel regression with its kernels there.
        full_error: test error of the parent at the end.
        least_error: one test sample's share: errors are known no better.
        parameters: names of what was trained.
        train_error: of the parent at the end.
        times: epochs of all looks, (T,).
        distances: S between all looks, (T, T).
    """

    gamma0: float | None
    seed: int
    spawn: Curve
    pairs: dict[str, Float[ndarray, "S pairs"]]
    batch_norm: str
    velocity: Curve
    noise: Curve
    late_velocity: float
    late_noise: float
    travelled: Curve
    left: Curve
    linear_error: Curve
    linear_train_error: Curve
    own_error: Curve
    regression_error: Curve
    full_error: float
    train_error: float
    least_error: float
    parameters: Sequence[str]
    times: Float[ndarray, "T"]
    distances: Float[ndarray, "T T"]

    def mean(self, name: str) -> Curve:
        """A measure between children, mean over the pairs that did not diverge, (S,)."""
        means = np.full(len(self.spawn), np.nan)
        known = np.isfinite(self.pairs[name])
        some = known.any(1)
        means[some] = np.where(known, self.pairs[name], 0.0)[some].sum(1) / known[some].sum(1)
        return means

    @property
    def advantage(self) -> Curve:
        """Nonlinear advantage: test error linearised at the spawn times minus that of the parent
        at the end."""
        return self.linear_error - self.full_error

    @property
    def catches_up(self) -> float:
        """First spawn time, in epochs, at which linearised training is within .002 of the parent at
        the end; inf if it never is."""
        near = self.advantage <= CLOSE
        return float(self.spawn[near.argmax()]) if near.any() else float("inf")


CLOSE = 0.002
"""Test error within which the linearised network does as well as the full one."""


def _padded(values: list[float], count: int) -> list[float]:
    return [*values, *[float("nan")] * (count - len(values))]


def evolutions(run: Run, settings: KernelEvolutionSettings) -> tuple[list[Evolution], list[str]]:
    """Every parent that was trained to its end, in order, and the names of dead ones.

    A network is dead when its kernel is zero: large steps can switch all its ReLUs off. Those that
    diverged are in neither list.
    """
    found, dead = [], []
    for pieces in groups(settings):
        name = pieces[0].name
        if run.results.get(name, {}).get("status") != "finished":
            continue
        kernels = [run.kernels[name, step]["kernel"] for step in run.kernels.steps(name)]
        if all(0 < float(kernel.norm()) < float("inf") for kernel in kernels):
            found.append(_evolution(run, pieces[0], settings))
        else:
            dead.append(name)
    return found, dead


def _evolution(run: Run, parent: Piece, settings: KernelEvolutionSettings) -> Evolution:
    plan: Plan = parent.do.args[0]  # pyright: ignore[reportFunctionMemberAccess]
    at = dict(plan.key)
    rows = run.metrics.filter(pl.col("cell") == parent.name).sort("step")
    steps = rows["step"].to_list()
    place = {step: index for index, step in enumerate(steps)}
    distances = DistanceMap()
    for step in steps:
        distances.add(run.kernels[parent.name, step]["kernel"])
    table = distances.distances().numpy()
    gap = plan.spacing / plan.per_epoch

    def apart(first: int, second: int) -> float:
        known = first in place and second in place
        return table[place[first], place[second]] if known else float("nan")

    def kernel_rate(step: int) -> tuple[float, float]:
        one, two = (apart(step, step + k * plan.spacing) for k in (1, 2))
        return one / gap, two / one if one > 0 else float("nan")

    def column(name: str, step: int) -> float:
        if name not in rows.columns or step not in place:
            return float("nan")
        value = rows[name][place[step]]
        return float("nan") if value is None else float(value)

    def record(part: str, spawn: float) -> dict[str, Any]:
        return run.results.get(piece_name({"part": part, **at, "spawn": spawn}), {})

    spawn_steps, last = plan.spawn_steps, plan.optimisation.steps
    rates = [kernel_rate(step) for step in spawn_steps]
    late = kernel_rate(last - 2 * plan.spacing)
    paired = [record("pairs", spawn) for spawn in settings.spawn]
    linear = [record("linearised", spawn) for spawn in settings.spawn]
    linear = [one if one.get("status") == "finished" else {} for one in linear]
    count = max((len(one.get("hamming", [])) for one in paired), default=0)
    own, tested = run.results[parent.name], plan.task.test_labels
    assert tested is not None  # every task here has a test set
    return Evolution(
        gamma0=plan.gamma0,
        seed=plan.seed,
        spawn=np.array(settings.spawn),
        pairs={
            name: np.array([_padded(one.get(name, []), count) for one in paired]) for name in PAIRED
        },
        batch_norm=next((one["batch_norm"][0] for one in paired if one.get("batch_norm")), "none"),
        velocity=np.array([rate for rate, _ in rates]),
        noise=np.array([noise for _, noise in rates]),
        late_velocity=late[0],
        late_noise=late[1],
        travelled=np.array([apart(0, step) for step in spawn_steps]),
        left=np.array([apart(step, last) for step in spawn_steps]),
        linear_error=np.array([one.get("test_error", np.nan) for one in linear]),
        linear_train_error=np.array([one.get("train_error", np.nan) for one in linear]),
        own_error=np.array([1 - column("test_accuracy", step) for step in spawn_steps]),
        regression_error=np.array([column("regression_error", step) for step in spawn_steps]),
        full_error=own["test_error"],
        train_error=own["train_error"],
        least_error=1 / len(tested),
        parameters=[name for name, _ in plan.build().named_parameters()],
        times=np.array(steps) / plan.per_epoch,
        distances=table,
    )
