"""`train.py compute-optimal`: what a compute C = N t buys in the solvable model, lazy and rich.

Hard, easy and super-easy tasks of arXiv 2409.17858, table 1 and figure 4. Two ladders of widths for
each: draws of A_0, solved exactly, and the average over A_0 (`theory.scaling_model.mean_at_width`),
which reaches widths that nobody can draw. Super-easy tasks are learned by one-pass SGD, in
expectation where lazy, simulated where rich. The verdict is in `verdict.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.settings import (
    Common,
    Floats,
    Integer,
    Ints,
    Number,
    require_distinct,
    require_positive,
)
from ntkscale.experiments.solvable_options import (
    require_capacity,
    require_rates,
    require_seeds,
    require_stable,
)
from ntkscale.experiments.work import Desk, Piece, run_pieces
from ntkscale.runs import RunFolder
from ntkscale.scaling import Prediction, predict
from ntkscale.scaling.compute_optimal import mean_mse, mean_spectrum
from ntkscale.theory import scaling_model

EXPERIMENT = "compute-optimal"
_POINTS = 90  # compute at which curves are recorded
_MODES_PER_WIDTH = 4  # of a draw; those beyond act as a ridge


@dataclass(frozen=True)
class ComputeOptimalSettings(Common):
    """Loss of the solvable model against compute C = N t: frontier and its slope, lazy and rich.

    Hard and easy tasks by gradient flow, super-easy ones (beta >= 2 - 1/alpha) by one-pass SGD.
    """

    quick: bool = False
    """rough: widths to 512, three seeds"""
    alpha: Number = 1.5
    """capacity exponent, above 1"""
    beta: Floats = (0.5, 1.15, 1.75)
    """source exponents"""
    gamma: Floats = (0.0, 0.75)
    """feature-learning rates; 0 is lazy"""
    width: Ints = (64, 128, 256, 512, 1024, 2048)
    """widths that are drawn"""
    seed: Ints = (0, 1, 2, 3, 4, 5, 6, 7)
    """draws of A_0 at each width"""
    repeats: Integer = 64
    """simulations of rich SGD on the average"""
    largest: Integer = 65536
    """last width of the average over A_0"""
    batch_size: Integer = 2
    """B of the SGD"""
    learning_rate: Number = 0.25
    """of the SGD"""


def expand(settings: ComputeOptimalSettings) -> ComputeOptimalSettings:
    """The settings with `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(
            settings,
            quick=False,
            width=tuple(n for n in settings.width if n <= 512),
            seed=settings.seed[:3],
            largest=min(settings.largest, 4096),
            repeats=min(settings.repeats, 8),
        )
    require_positive(
        beta=settings.beta,
        width=settings.width,
        largest=settings.largest,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        repeats=settings.repeats,
    )
    require_distinct(seed=settings.seed, gamma=settings.gamma)
    require_capacity(settings.alpha)
    require_seeds(settings.seed)
    require_rates(settings.gamma)
    if len(settings.width) < 4:
        raise ValueError("--width needs four widths or more, or there is no frontier.")
    if settings.largest < 8 * min(settings.width):
        raise ValueError("--largest must be 8 times the smallest --width or more.")
    if any(with_batches(settings, beta) for beta in settings.beta):
        require_stable(settings.alpha, settings.learning_rate, settings.batch_size)
    return replace(settings, width=tuple(sorted(settings.width)))


def run(settings: ComputeOptimalSettings) -> RunFolder:
    """Solve every width, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    pieces = [
        Piece({"kind": kind, "beta": beta, "width": width}, partial(_solve, settings))
        for beta, width, kind in _cells(settings)
    ]
    return run_pieces(EXPERIMENT, settings, pieces)


def _solve(settings: ComputeOptimalSettings, desk: Desk, piece: Piece) -> dict[str, Any]:
    beta, width, kind = (piece.key[name] for name in ("beta", "width", "kind"))

    def tell(share: float) -> None:
        desk.tell(share, "")

    for gamma, seed, times, mse in _curves(settings, beta, width, kind, tell):
        keys = {"cell": piece.name, **piece.key, "gamma": gamma, "seed": seed}
        for time, loss in zip(times, mse, strict=True):
            desk.folder.append({**keys, "time": float(time), "mse": float(loss)})
    return {}


def with_batches(settings: ComputeOptimalSettings, beta: float) -> bool:
    """Whether a task is learned by SGD: where batches decide how fast the loss falls."""
    return predict(settings.alpha, beta).regime == "super-easy"


def best_width(says: Prediction, gamma: float) -> float:
    """n in N*(C) ~ C^n."""
    return says.best_width_lazy if gamma == 0 else says.best_width_rich


def _cells(settings: ComputeOptimalSettings) -> Iterator[tuple[float, int, str]]:
    for beta in settings.beta:
        for width in settings.width:
            yield beta, width, "draws"
        width = settings.width[0]
        while width <= settings.largest:
            yield beta, width, "mean"
            width *= 2


def _compute(
    settings: ComputeOptimalSettings, beta: float, gamma: float, kind: str
) -> Float[ndarray, "T"]:
    """Compute at which curves are recorded, from before to beyond the frontier of the ladder."""
    power = best_width(predict(settings.alpha, beta), gamma)
    solved = kind == "mean" and not (gamma > 0 and with_batches(settings, beta))
    last = settings.largest if solved else settings.width[-1]
    # With spectra of unit prefactors N* = 3 C^n, within a factor of two.
    low, high = (settings.width[0] / 8) ** (1 / power), (last / 1.5) ** (1 / power)
    return np.geomspace(low, high, _POINTS)


Curve = tuple[float, int | None, Float[ndarray, "T"], Float[ndarray, "T"]]
"""gamma, seed (None: solved on average over A_0), times and mse."""
Share = Callable[[float], object]
"""Told how much of a width is done, from 0 to 1."""


def _curves(
    settings: ComputeOptimalSettings, beta: float, width: int, kind: str, tell: Share
) -> Iterator[Curve]:
    """Every curve of a width; a draw is diagonalised once for all gamma.

    The noise of batches moves a rich kernel, which has no closed average: those are simulated, on
    draws of A_0 and on the spectrum that is their average, where batches alone are drawn.
    """
    batches = with_batches(settings, beta)
    moved = [gamma for gamma in settings.gamma if batches and gamma > 0]
    solved = [gamma for gamma in settings.gamma if gamma not in moved]
    compute = {gamma: _compute(settings, beta, gamma, kind) for gamma in settings.gamma}
    rate, batch = settings.learning_rate, settings.batch_size
    if kind == "mean":
        for gamma in solved:
            times, sgd = compute[gamma] / width, ()
            if batches:
                times, sgd = rate * _steps(times, rate), (batch, rate)
            mse = mean_mse(settings.alpha, beta, gamma, width, times, *sgd)
            yield gamma, None, times, mse
        if moved and width <= settings.width[-1]:
            own = mean_spectrum(settings.alpha, beta, width)
            typical = scaling_model.single_modes(own, width)
            seeds = tuple(range(settings.repeats))
            for gamma in moved:
                yield from _simulated(
                    settings, typical, gamma, None, compute[gamma] / width, seeds, tell
                )
        return
    spectrum = scaling_model.power_law(settings.alpha, beta, num_modes=_MODES_PER_WIDTH * width)
    for seed in settings.seed if solved else ():
        own = scaling_model.at_width(spectrum, width, seed=seed)
        for gamma in solved:
            times = compute[gamma] / width
            if batches:
                steps = _steps(times, rate)
                times = rate * steps
                mse = scaling_model.lazy_sgd(own, steps, learning_rate=rate, batch_size=batch)
            else:
                mse = scaling_model.flow(own, gamma, times, rtol=1e-3).mse
            yield gamma, seed, times, mse
    for gamma in moved:
        yield from _simulated(
            settings, spectrum, gamma, width, compute[gamma] / width, settings.seed, tell
        )


def _steps(times: Float[ndarray, "T"], rate: float) -> Float[ndarray, "T"]:
    """Whole numbers of steps, the first of them 1 or more, each once."""
    return np.unique(np.maximum(np.rint(times / rate), 1))


def _simulated(
    settings: ComputeOptimalSettings,
    spectrum: scaling_model.Spectrum,
    gamma: float,
    width: int | None,
    times: Float[ndarray, "T"],
    seeds: tuple[int, ...],
    tell: Share,
) -> Iterator[Curve]:
    """One-pass SGD, all seeds together.

    The loss jumps from step to step: a point is the mean over all steps up to the next.
    """
    rate = settings.learning_rate
    edges = _steps(times, rate).astype(int)
    simulated = scaling_model.simulate(
        spectrum,
        gamma,
        edges.tolist(),
        learning_rate=rate,
        width=width,
        batch_size=settings.batch_size,
        exact=False,
        seeds=seeds,
        progress=lambda done, total: tell(done / total),
    )
    if simulated.mean_mse is None:
        raise AssertionError("fresh batches have a mean over steps")
    middle = rate * (edges[:-1] + edges[1:] - 1) / 2
    for seed, mse in zip(seeds, simulated.mean_mse, strict=True):
        yield gamma, seed, middle, mse[1:]
