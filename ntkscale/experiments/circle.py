"""`train.py circle`: power-law targets on the circle, from the kernel limit to feature learning.

The task of Bordelon, Atanasov & Pehlevan (2024): y(theta) = sum_k k^-q cos(k theta). Its source
exponent is beta = (2q - 1) / (2 power) for the activation ReLU^power, so theory says how fast a
lazy and a rich network must learn it. What is found is judged in `circle_verdict.py`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from tyro.conf import arg

from ntkscale import ntk
from ntkscale.experiments.cells import Cell, Schedule, thin
from ntkscale.experiments.settings import (
    NAME,
    Floats,
    Integer,
    Ints,
    Number,
    Training,
    require_distinct,
    require_positive,
    with_preset,
)
from ntkscale.experiments.train_cells import train_cells
from ntkscale.networks import MLP, Network
from ntkscale.runs import RunFolder
from ntkscale.tasks import Task, circle, circle_q
from ntkscale.theory.arc_cosine import circle_eigenvalues
from ntkscale.tracking import MEMORY, default_measurements, log_spaced
from ntkscale.training import Optimisation, lazy_flow

EXPERIMENT = "circle"
LAZY = 0.01
"""A network below this richness counts as lazy: it is read at lazy times, and needs float64."""


@dataclass(frozen=True)
class CircleSettings(Training):
    """Lazy and rich networks learn power-law targets on the circle; slopes against theory."""

    preset: Annotated[Literal["none", "hard", "easy", "table"], NAME] = "none"
    """hard, easy, or table: 4 beta, 3 seeds"""
    quick: bool = False
    """rough: width 1024, first seed alone"""
    beta: Floats = (0.5,)
    """source exponents of the target"""
    q: Floats = ()
    """instead of beta: decay of its modes"""
    gamma0: Floats = (1.0,)
    """richness; small is lazy, 1 is rich"""
    lazy: Number = 0.001
    """gamma0 of one lazy network; 0: none"""
    seed: Ints = (0,)
    """seeds of the initialisation"""
    width: Integer = 4096
    """neurons of a hidden layer"""
    depth: Integer = 1
    """hidden layers"""
    power: Integer = 1
    """of ReLU^power: 1, 2 or 3"""
    init: Annotated[Literal["ring", "gaussian"], NAME] = "ring"
    """ring (stratified, depth 1) or gaussian"""
    angles: Integer = 128
    """width is a multiple of 2 angles"""
    bias: bool = True
    """trained biases"""
    phases: Annotated[Literal["aligned", "random"], NAME] = "aligned"
    """aligned or random Fourier phases"""
    points: Integer = 256
    """equispaced training points"""
    modes: Integer = 0
    """of the target; 0: points/2 - 1"""
    window: Annotated[tuple[float, float], arg(metavar="LOW HIGH")] = (0.0, 0.0)
    """lazy times for slopes; 0 0: chosen"""
    steps: Integer = 60_000
    """at most, in each training"""
    step_fraction: Number = 0.5
    """step size x lambda_max"""
    batched: bool = False
    """train seeds as one ensemble"""
    dtype: Annotated[Literal["auto", "float32", "float64"], NAME] = "auto"
    """auto: float64 below gamma0 = 0.01"""

    def sources(self) -> list[tuple[float, float]]:
        """(beta, q) of every target, in the order given."""
        if self.q:
            return [((2 * q - 1) / (2 * self.power), q) for q in self.q]
        return [(beta, circle_q(beta, self.power)) for beta in self.beta]


def expand(settings: CircleSettings) -> CircleSettings:
    """The settings with their preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    presets: dict[str, dict[str, Any]] = {
        "none": {},
        "hard": {"beta": (0.5,)},
        "easy": {"beta": (1.25,)},
        "table": {
            "beta": (0.25, 0.5, 0.75, 1.25),
            "seed": (0, 1, 2),
            "window": (160.0, 3500.0),
        },
    }
    if settings.q and (settings.beta != (0.5,) or settings.preset != "none"):
        raise ValueError("--q says what --beta, or a preset, says already; give one of them.")
    settings = with_preset(settings, presets[settings.preset])
    if settings.quick:
        settings = with_preset(settings, {"width": 1024, "step_fraction": 0.9})
        settings = replace(settings, seed=settings.seed[:1])
    for q in settings.q:
        if not q > 0.5:
            raise ValueError(
                f"--q {q} has no finite power (sum k^-2q diverges); give a q above 1/2."
            )
    require_positive(
        beta=settings.beta,
        gamma0=settings.gamma0,
        width=settings.width,
        depth=settings.depth,
        points=settings.points,
        steps=settings.steps,
        step_fraction=settings.step_fraction,
    )
    require_distinct(seed=settings.seed)
    if settings.step_fraction >= 1:
        raise ValueError(
            f"--step-fraction {settings.step_fraction} is at the edge of stability; stay below 1."
        )
    low, high = settings.window
    if (low, high) != (0, 0) and not 0 < low < high:
        raise ValueError(f"--window {low} {high} is no range of times; give 0 < low < high.")
    if not 0 <= settings.lazy < math.inf or settings.lazy in settings.gamma0:
        raise ValueError(f"--lazy {settings.lazy} must be 0 (none) or above, and none of --gamma0.")
    settings = replace(settings, preset="none", quick=False)
    if settings.points < 32:
        raise ValueError(f"--points {settings.points} is too few for a power law; give 32 or more.")
    _build(settings, settings.gamma0[0], settings.seed[0])
    for _, q in settings.sources():
        circle(q=q, points=settings.points, modes=settings.modes or None)
    low, high = window(settings)
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"these options give no window to read slopes in (lazy times {low:.3g} to {high:.3g}; "
            "a network of one hidden layer without biases cannot learn odd modes); give --window."
        )
    return settings


def window(settings: CircleSettings) -> tuple[float, float]:
    """Lazy times between which slopes are read.

    Unless given: from 1/(2 lambda_j) to 1/(4 lambda_k), j = P/50 and k = P/8, lambda_k the
    infinite-width kernel's eigenvalue on Fourier mode k: this is when a lazy network learns the
    modes from j to k, and those above k are left to carry the power law on.
    """
    if settings.window != (0, 0):
        return settings.window
    spectrum = infinite_spectrum(settings)
    first, last = max(2, settings.points // 50), settings.points // 8
    return 0.5 / float(spectrum[first]), 0.25 / float(spectrum[last])


def infinite_spectrum(settings: CircleSettings) -> Tensor:
    """Eigenvalue of the infinite-width NTK on every Fourier mode, (points/2 + 1,) float64."""
    return circle_eigenvalues(
        settings.points,
        depth=settings.depth,
        power=settings.power,
        bias=settings.bias,
        scale_input=settings.init != "ring",
    )


def lazy_times(settings: CircleSettings) -> list[float]:
    """Forty log-spaced lazy times in the window, at which curves are compared."""
    low, high = window(settings)
    return log_spaced(low, high, 40)


def target(settings: CircleSettings, q: float) -> Task:
    """The task of one q, float64 on the CPU."""
    return circle(
        q=q,
        points=settings.points,
        modes=settings.modes or None,
        phases=settings.phases,
        dtype=torch.float64,
    )


def _build(settings: CircleSettings, gamma0: float, seed: int) -> MLP:
    activation = "relu" if settings.power == 1 else f"relu{settings.power}"
    return MLP(
        2,
        1,
        width=settings.width,
        depth=settings.depth,
        activation=activation,
        bias=settings.bias,
        gamma0=gamma0,
        scale_input=settings.init != "ring",
        init=settings.init,
        angles=settings.angles,
        seed=seed,
        dtype=_dtype(settings, gamma0),
    )


def _dtype(settings: CircleSettings, gamma0: float) -> torch.dtype:
    """A lazy network's weights move by less than a float32 can tell; a rich one's do not."""
    if settings.dtype == "auto":
        return torch.float64 if gamma0 < LAZY else torch.float32
    return getattr(torch, settings.dtype)


@dataclass(frozen=True)
class _Learned:
    """The mse at which a cell has learned what a lazy one has by the end of the window."""

    task: Task
    lazy_time: float

    def __call__(self, network: Network) -> float:
        """Training mse (without tail) of the exact lazy flow of this network's initial kernel."""
        inputs = self.task.inputs.to(network.gamma)
        kernel = ntk.gram(network, inputs, memory=MEMORY).cpu().double()
        kernel *= float(network.gamma) ** 2
        return float(lazy_flow(kernel, self.task.targets, [self.lazy_time]).mse[0])


def run(settings: CircleSettings) -> RunFolder | None:
    """Train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    groups: list[Sequence[Cell]] = []
    for beta, q in settings.sources():
        task = target(settings, q)
        if settings.lazy:
            groups.append([_cell(settings, task, beta, settings.lazy, settings.seed[0])])
        for gamma0 in settings.gamma0:
            cells = [_cell(settings, task, beta, gamma0, seed) for seed in settings.seed]
            groups.extend([cells] if settings.batched else [[cell] for cell in cells])
    optimisation = Optimisation(
        method="flow", steps=settings.steps, step_fraction=settings.step_fraction
    )
    with _one_thread():
        return train_cells(
            EXPERIMENT, settings, groups, optimisation, automatic_workers=os.cpu_count() or 1
        )


def _cell(settings: CircleSettings, task: Task, beta: float, gamma0: float, seed: int) -> Cell:
    """One training, until it has learned what a lazy network has at the end of the window."""
    high = window(settings)[1]
    lazy = gamma0 < LAZY
    return Cell(
        key={"beta": beta, "gamma0": gamma0, "seed": seed},
        build=lambda: _build(settings, gamma0, seed),
        task=task,
        schedule=_schedule(settings, gamma0),
        horizon=high if lazy else None,
        stop_below=None if lazy else _Learned(task, high),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread of the processor.

    A step is a chain of small operations: two threads wait for each other longer than they work,
    and twenty times as long where another process wants the second core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _schedule(settings: CircleSettings, gamma0: float) -> Schedule:
    """Twenty looks a decade at the losses; the kernel where it is compared, within its budget."""
    low, high = window(settings)
    # A network slower than the lazy one (random phases) may take longer than the window; the count
    # of steps ends it.
    first = min(0.1, low / 10)
    times = log_spaced(first, 10 * high, 20 * math.ceil(math.log10(10 * high / first)))
    # Step size x lambda_max is fixed, and a rich kernel grows: it takes some three times as long.
    steps = high * float(infinite_spectrum(settings).max()) / settings.step_fraction
    steps = min(math.ceil(steps * (1 if gamma0 < LAZY else 3)), settings.steps)
    count = default_measurements(
        steps,
        settings.points,
        settings.points,
        1,
        model=_build(settings, gamma0, settings.seed[0]),
        inputs=target(settings, 1.0).inputs,
    )
    kernels = thin([t for t in times if low / 2 < t < high], count)
    return Schedule(times, kernels, thin(sorted(kernels), 7), expected_end=high)
