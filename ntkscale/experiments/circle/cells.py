"""The cells of a circle run: target, network, window and schedule of every condition."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ntkscale import ntk
from ntkscale.experiments.cells import Cell, Schedule, thin
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.networks import MLP, Network
from ntkscale.tasks import Task, circle
from ntkscale.theory.infinite_width import circle_eigenvalues
from ntkscale.tracking import MEMORY, default_measurements, log_spaced
from ntkscale.training import lazy_flow

LAZY = 0.01
"""A network below this richness counts as lazy: it is read at lazy times, and needs float64."""


_KERNELS = 16
"""Looks at the kernel, at least, whatever they cost."""


@dataclass(frozen=True)
class Condition:
    """What one cell trains.

    Attributes:
        beta: source exponent of the target, were alpha = 2 power.
        q: decay of its Fourier coefficients.
        power: of ReLU^power.
        depth: hidden layers.
        width: neurons of each.
        phases: 0, aligned; n > 0, the n-th draw of random ones.
        gamma0: richness.
        seed: of the initialisation.
    """

    beta: float
    q: float
    power: int
    depth: int
    width: int
    phases: int
    gamma0: float
    seed: int

    @property
    def lazy(self) -> bool:
        """Whether it counts as lazy."""
        return self.gamma0 < LAZY

    def key(self, settings: CircleSettings) -> dict[str, float | int]:
        """What sets the cell apart in its run: beta, the axes that vary, gamma0, seed."""
        varying = {name: getattr(self, name) for name in settings.varying()}
        return {"beta": self.beta, **varying, "gamma0": self.gamma0, "seed": self.seed}


def columns(settings: CircleSettings, condition: Condition) -> dict[str, str | int]:
    """Table entries of the axes that vary in a run, besides beta, gamma0 and seed."""
    entries = {name: getattr(condition, name) for name in settings.varying()}
    if "phases" in entries:
        entries["phases"] = f"random {condition.phases}" if condition.phases else "aligned"
    return entries


def label(settings: CircleSettings, condition: Condition) -> str:
    """Target and network in words, e.g. ``beta = 0.5, width 512``, as far as they vary."""
    words = [f"{name} {entry}" for name, entry in columns(settings, condition).items()]
    return ", ".join([f"beta = {condition.beta:.3g}", *words])


def conditions(settings: CircleSettings) -> Iterator[list[Condition]]:
    """Conditions in the order in which they are trained, those that differ in seed together.

    Ahead of each rich ladder stands the lazy network of the first seed, if one is asked for.
    """
    for power in settings.power:
        for depth in settings.depth:
            for beta, q in settings.sources(power):
                for phases in settings.targets():
                    for width in settings.width:
                        first = Condition(
                            beta, q, power, depth, width, phases, settings.lazy, settings.seed[0]
                        )
                        if settings.lazy:
                            yield [first]
                        for gamma0 in settings.gamma0:
                            yield [replace(first, gamma0=gamma0, seed=s) for s in settings.seed]


def window(settings: CircleSettings, condition: Condition) -> tuple[float, float]:
    """Lazy times between which slopes are read.

    Unless given: from 1/(2 lambda_j) to 1/(4 lambda_k), (j, k) = `modes_read` and lambda_k the
    infinite-width kernel's eigenvalue on Fourier mode k: this is when a lazy network learns the
    modes from j to k, and those above k are left to carry the power law on.
    """
    if settings.window != (0, 0):
        return settings.window
    spectrum = infinite_spectrum(settings, condition)
    first, last = modes_read(settings, condition)
    return 0.5 / float(spectrum[first]), 0.25 / float(spectrum[last])


def modes_read(settings: CircleSettings, condition: Condition) -> tuple[int, int]:
    """Fourier modes which a lazy network learns during the window, first and last.

    From P/50, but above the polynomials of degree `power`, whose eigenvalues lie far above the
    law, to P/8, or as far as a third of the steps takes a lazy network.
    """
    spectrum = infinite_spectrum(settings, condition)
    first = max(2, condition.power + 1, round(settings.points / 50))
    last = settings.points // 8
    affordable = settings.steps / 3 * settings.step_fraction
    while last > first + 2 and 0.25 * spectrum.max() > affordable * spectrum[last]:
        last -= 1
    return first, last


def infinite_spectrum(settings: CircleSettings, condition: Condition) -> Tensor:
    """Eigenvalue of the infinite-width NTK on every Fourier mode, (points/2 + 1,) float64."""
    return circle_eigenvalues(
        settings.points,
        depth=condition.depth,
        power=condition.power,
        bias=settings.bias,
        scale_input=settings.init != "ring",
    )


def target(settings: CircleSettings, condition: Condition) -> Task:
    """The task of one condition, float64 on the CPU; it is tested half-way between the points."""
    modes = settings.modes or settings.points // 2 - 1
    coarse, fine = (
        circle(
            q=condition.q,
            points=points,
            modes=modes,
            phases="random" if condition.phases else "aligned",
            seed=max(condition.phases - 1, 0),
            dtype=torch.float64,
        )
        for points in (settings.points, 2 * settings.points)
    )
    return replace(coarse, test_inputs=fine.inputs[1::2], test_targets=fine.targets[1::2])


def build(settings: CircleSettings, condition: Condition) -> MLP:
    """The network of one condition, new, on the CPU."""
    return MLP(
        2,
        1,
        width=condition.width,
        depth=condition.depth,
        activation="relu" if condition.power == 1 else f"relu{condition.power}",
        bias=settings.bias,
        gamma0=condition.gamma0,
        scale_input=settings.init != "ring",
        init=settings.init,
        angles=settings.angles,
        seed=condition.seed,
        dtype=_dtype(settings, condition),
    )


def _dtype(settings: CircleSettings, condition: Condition) -> torch.dtype:
    """Precision in which a condition trains.

    A lazy network's weights move by less than a float32 can tell, and the kernel of ReLU^2 and
    ReLU^3 spans more decades than it has digits.
    """
    if settings.dtype == "auto":
        return torch.float64 if condition.lazy or condition.power > 1 else torch.float32
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


def cell(settings: CircleSettings, condition: Condition) -> Cell:
    """One training: to the horizon, or until it has learned what the window is about.

    That is what a lazy network has learned at its end.
    """
    high = window(settings, condition)[1]
    task = target(settings, condition)
    return Cell(
        key=condition.key(settings),
        build=lambda: build(settings, condition),
        task=task,
        schedule=_schedule(settings, condition),
        horizon=settings.horizon or (high if condition.lazy else None),
        stop_below=None if settings.horizon or condition.lazy else _Learned(task, high),
    )


def _schedule(settings: CircleSettings, condition: Condition) -> Schedule:
    """Twenty looks a decade at the losses; the kernel where it is compared, within its budget."""
    low, high = window(settings, condition)
    end = settings.horizon or high
    # A network slower than the lazy one (random phases) may take longer than the window; the count
    # of steps ends it.
    first = min(0.1, low / 10)
    times = log_spaced(first, 10 * end, 20 * math.ceil(math.log10(10 * end / first)))
    # Step size x lambda_max is fixed, and a rich kernel grows: it takes some three times as long.
    steps = end * float(infinite_spectrum(settings, condition).max()) / settings.step_fraction
    steps = min(math.ceil(steps * (1 if condition.lazy else 3)), settings.steps)
    count = default_measurements(
        steps,
        settings.points,
        settings.points,
        1,
        model=build(settings, condition),
        inputs=target(settings, condition).inputs,
    )
    # A rich network is through the window long before its end: a growth exponent needs its share.
    kernels = thin([t for t in times if low / 2 < t < end], max(count, _KERNELS))
    return Schedule(times, kernels, thin(sorted(kernels), 7), expected_end=end)
