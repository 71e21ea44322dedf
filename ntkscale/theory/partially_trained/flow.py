"""Training in function space: exactly what the network does, without the network.

The trained weights enter through h alone and h is linear in them, so a step of gradient descent on
the network *is* an Euler step of size eta here, to rounding. Everything known of the past is
S = int sigma'(h) o e c dt, (n, m): h = h(0) - gamma0 G S / n on the points, and the same with the
cross Gram matrix on any others, which therefore cost nothing but where they are looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ntkscale.ntk import kernel_distance
from ntkscale.theory.arguments import number
from ntkscale.theory.partially_trained.problem import Problem

_CHECK = 10  # steps between looks at the loss: each look waits for the device

Method = Literal["euler", "rk4"]
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Snapshot:
    """The network at one time.

    Attributes:
        time: flow time.
        step: steps taken.
        outputs: (n,) f.
        test_outputs: (q,) f of the further points, if there are any.
        movement: |h(t) - h(0)| / |h(0)| in the Frobenius norm.
        rms_movement: root mean square of h(t) - h(0) over points and neurons.
        feature_distance: kernel distance S of sigma(h) sigma(h)^T from its start.
        tangent_distance: that of A o G.
        schur_slack: lambda_min(A o G) - lambda_min(G) min_a A_aa, never below 0 but for rounding.
    """

    time: float
    step: int
    outputs: Float[Tensor, "n"]
    test_outputs: Float[Tensor, "q"] | None
    movement: float
    rms_movement: float
    feature_distance: float
    tangent_distance: float
    schur_slack: float


@dataclass(frozen=True)
class Flow:
    """A training run.

    Attributes:
        times: (T,) flow time at every step, 0 first.
        loss: (T,) L = 1/(2n) sum |f - y|^2.
        rate: (T,) instantaneous rate -(dL/dt) / L of the flow.
        proven: (T,) r(t), see `rates.proven_rate`.
        active: (T,) least share, over points, of neurons with |sigma'| at least half its supremum
            over the neurons at the start.
        snapshots: where they were asked for, start and end among them.
        hidden: (n, m) h at the end.
    """

    times: Float[ndarray, "T"]
    loss: Float[ndarray, "T"]
    rate: Float[ndarray, "T"]
    proven: Float[ndarray, "T"]
    active: Float[ndarray, "T"]
    snapshots: tuple[Snapshot, ...]
    hidden: Float[Tensor, "n m"]

    @property
    def proven_loss(self) -> Float[ndarray, "T"]:
        """L(0) exp(-int_0^t r), which the flow's loss stays below (trapezoidal integral)."""
        steps = np.diff(self.times) * (self.proven[1:] + self.proven[:-1]) / 2
        return self.loss[0] * np.exp(-np.concatenate(([0.0], np.cumsum(steps))))


def flow(
    problem: Problem,
    horizon: float,
    *,
    step: float = 1.0,
    at: Sequence[float] = (),
    method: Method = "euler",
    stop_below: float = 0.0,
    progress: Progress | None = None,
) -> Flow:
    """Follow the training to a flow time, with both rates at every step.

    Args:
        problem: what is trained.
        horizon: flow time at which to end, a whole number of steps to rounding.
        step: of time; with ``"euler"`` the learning rate of gradient descent on the network.
        at: times of snapshots, taken at the nearest step.
        method: ``"euler"``, or ``"rk4"``, the classical Runge-Kutta method, for the flow itself.
        stop_below: end where the loss is below, looked at every 10 steps.
        progress: called with steps done and all steps.

    Raises:
        ValueError: a horizon or step out of range, an unknown method, or a loss that overflows.

    Cost: 2 n^2 m multiply-adds a step (RK4: four times that) and q n m a snapshot, in float64.
    """
    if not 0 < number(step) <= number(horizon) < float("inf"):
        raise ValueError(
            f"step {step!r} and horizon {horizon!r} must be above 0, the step at most the horizon."
        )
    if method not in ("euler", "rk4"):
        raise ValueError(f"unknown method {method!r}: choose euler or rk4.")
    steps = round(horizon / step)
    looks = {0, *(min(steps, max(0, round(moment / step))) for moment in at)}
    march = _March(problem)
    rows: list[Tensor] = []
    snapshots: list[Snapshot] = []
    done = 0
    while True:
        slope, row = march.slope(march.memory)
        rows.append(row)
        over = done == steps
        if not over and done % _CHECK == 0:
            loss = float(row[0])
            if not loss < float("inf"):
                raise ValueError(
                    f"the loss overflows by t = {done * step:g}: take a smaller step than {step:g}."
                )
            # A loss of exactly 0 has no rate.
            over = loss < stop_below or loss == 0
            if progress is not None:
                progress(done, steps)
        if over or done in looks:
            snapshots.append(march.look(done, done * step))
        if over:
            break
        march.advance(slope, step, method)
        done += 1
    loss, rate, proven, active = torch.stack(rows, 1).cpu().numpy()
    if not np.isfinite(loss).all():
        raise ValueError(f"the loss overflows: take a smaller step than {step:g}.")
    times = step * np.arange(done + 1)
    return Flow(times, loss, rate, proven, active, tuple(snapshots), march.hidden(march.memory))


class _March:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.memory = problem, torch.zeros_like(problem.hidden)
        self.count, self.neurons = problem.hidden.shape
        self.threshold = problem.sigma.first(problem.hidden).abs().max() / 2
        self.lowest = problem.extremes[0]
        self.first_features = problem.features(problem.hidden)
        self.first_tangent = problem.tangent(problem.hidden)

    def hidden(self, memory: Tensor) -> Float[Tensor, "n m"]:
        problem = self.problem
        return problem.hidden - problem.gamma0 / self.count * (problem.gram @ memory)

    def slope(self, memory: Tensor) -> tuple[Float[Tensor, "n m"], Float[Tensor, "4"]]:
        """dS/dt = e o sigma'(h) c, and what is recorded: loss, both rates, active share."""
        problem = self.problem
        hidden = self.hidden(memory)
        e = problem.outputs(hidden) - problem.targets
        slopes = problem.sigma.first(hidden)
        weighted = slopes * problem.readout
        v = e[:, None] * weighted
        # e^T (A o G) e is a sum over neurons of v_i^T G v_i / m.
        quadratic = (v * (problem.gram @ v)).sum() / self.neurons
        squared = e.square().sum()
        gain = weighted.square().mean(1).min()
        row = (
            squared / (2 * self.count),
            2 * quadratic / (self.count * squared),
            2 / self.count * self.lowest * gain,
            (slopes.abs() >= self.threshold).double().mean(1).min(),
        )
        return v, torch.stack(row)

    def advance(self, slope: Tensor, step: float, method: Method) -> None:
        if method == "euler":
            self.memory = self.memory + step * slope
            return
        second = self.slope(self.memory + step / 2 * slope)[0]
        third = self.slope(self.memory + step / 2 * second)[0]
        fourth = self.slope(self.memory + step * third)[0]
        self.memory = self.memory + step / 6 * (slope + 2 * second + 2 * third + fourth)

    def look(self, step: int, time: float) -> Snapshot:
        problem, hidden = self.problem, self.hidden(self.memory)
        moved = hidden - problem.hidden
        tangent = problem.tangent(hidden)
        gain = (problem.sigma.first(hidden) * problem.readout).square().mean(1).min()
        test = None
        if problem.cross is not None and problem.cross_hidden is not None:
            change = problem.gamma0 / self.count * (problem.cross @ self.memory)
            test = problem.outputs(problem.cross_hidden - change, test=True)
        return Snapshot(
            time=time,
            step=step,
            outputs=problem.outputs(hidden),
            test_outputs=test,
            movement=float(moved.norm() / problem.hidden.norm()),
            rms_movement=float(moved.square().mean().sqrt()),
            feature_distance=float(kernel_distance(self.first_features, problem.features(hidden))),
            tangent_distance=float(kernel_distance(self.first_tangent, tangent)),
            schur_slack=float(torch.linalg.eigvalsh(tangent)[0] - self.lowest * gain),
        )
