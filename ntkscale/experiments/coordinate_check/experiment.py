"""`train.py coordinate-check`: does every coordinate move alike at every width?

In a parameterization with a feature-learning limit the change of each preactivation, and of the
centred output, after a few steps does not depend on width. The check fits log(rms change) against
log(width) for every layer and step count and gives a verdict on the slopes.
"""

import math
import os
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ntkscale.experiments.settings import (
    NAME,
    Common,
    Integer,
    Ints,
    Number,
    Precision,
    Text,
    require_distinct,
    require_positive,
    resolve_device,
)
from ntkscale.experiments.train_cells import open_folder
from ntkscale.networks import MLP, Network, Parameterization
from ntkscale.reporting import Progress
from ntkscale.runs import RunFolder
from ntkscale.tasks import Task, circle
from ntkscale.training import Optimisation, Trainer

EXPERIMENT = "coordinate-check"
STEPS = (1, 3, 10)
TOLERANCE = 0.05
"""Largest |slope| that counts as independent of width."""


@dataclass(frozen=True)
class CoordinateCheckSettings(Common):
    """Slopes of the change of every preactivation against width, with a verdict."""

    width: Ints = (64, 128, 256, 512, 1024)
    """widths to compare, at least three"""
    depth: Integer = 3
    """hidden layers"""
    activation: Text = "tanh"
    """or relu, relu2, erf, gelu, linear"""
    parameterization: Annotated[Parameterization, NAME] = "mean-field"
    """or standard, ntk: they fail"""
    gamma0: Number = 1.0
    """richness, if mean-field"""
    seed: Ints = (0, 1, 2, 3, 4)
    """seeds of the initialisation"""
    learning_rate: Number = 0.1
    """flow time per step"""
    dtype: Annotated[Precision, NAME] = "float64"
    """float32 or float64"""
    points: Integer = 64
    """points of the circle to learn"""


@dataclass(frozen=True)
class Slope:
    """How one coordinate's change depends on width.

    Attributes:
        coordinate: layer of the preactivation, or ``"output"``.
        step: after how many steps.
        slope: of log(rms change) against log(width), mean over seeds.
        error: its standard error over seeds.
    """

    coordinate: str
    step: int
    slope: float
    error: float

    @property
    def passes(self) -> bool:
        """Whether the change is independent of width."""
        return abs(self.slope) < TOLERANCE


def expand(settings: CoordinateCheckSettings) -> CoordinateCheckSettings:
    """The settings, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    require_positive(
        width=settings.width,
        depth=settings.depth,
        gamma0=settings.gamma0,
        learning_rate=settings.learning_rate,
        points=settings.points,
    )
    require_distinct(seed=settings.seed)
    if len(settings.width) < 3:
        raise ValueError("--width needs at least three widths to fit a slope.")
    if len(settings.seed) < 2:
        raise ValueError("--seed needs at least two seeds, or the slope has no error.")
    return settings


def run(settings: CoordinateCheckSettings) -> RunFolder:
    """Train every width and seed for ten steps and record how far each coordinate moved.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("coordinate-check runs in one process; start it without torchrun.")
    device = resolve_device(settings.device)
    # The target of the circle lies along the kernel's leading directions; on targets that do not,
    # the output of a narrow network moves more for want of averaging, at every parameterization.
    task = circle(q=1.0, points=settings.points, dtype=getattr(torch, settings.dtype)).to(device)
    folder = open_folder(EXPERIMENT, settings)
    if folder.finished:
        return folder
    folder.load_checkpoint()
    cells = [(width, seed) for width in settings.width for seed in settings.seed]
    done = folder.results()
    with Progress() as progress:
        for position, (width, seed) in enumerate(cells):
            name = f"width={width},seed={seed}"
            progress.update(position, len(cells), name)
            if name in done:
                continue
            status, rows = _changes(settings, _build(settings, task, width, seed).to(device), task)
            for row in rows:
                folder.append({"cell": name, "width": width, "seed": seed, **row})
            folder.write_result(name, {"width": width, "seed": seed, "status": status})
            folder.save_checkpoint({}, {"after": name})
    folder.finish()
    return folder


def _build(settings: CoordinateCheckSettings, task: Task, width: int, seed: int) -> Network:
    richness: dict[str, Any] = (
        {"gamma0": settings.gamma0} if settings.parameterization == "mean-field" else {}
    )
    return MLP(
        task.inputs[0].numel(),
        task.targets.shape[1],
        width=width,
        depth=settings.depth,
        activation=settings.activation,
        parameterization=settings.parameterization,
        seed=seed,
        dtype=task.inputs.dtype,
        **richness,
    )


def _changes(
    settings: CoordinateCheckSettings, network: Network, task: Task
) -> tuple[str, list[dict[str, Any]]]:
    """How training ended; rms change of every coordinate after 1, 3 and 10 full-batch steps.

    Raises:
        KeyboardInterrupt: Ctrl-C; this training begins again when the run goes on.
    """
    optimisation = Optimisation(
        method="sgd", steps=max(STEPS), learning_rate=settings.learning_rate
    )
    rows: list[dict[str, Any]] = []

    @torch.no_grad()
    def coordinates() -> dict[str, Tensor]:
        return {**network.preactivations(task.inputs), "output": network(task.inputs)}

    start = coordinates()

    def look(trainer: Trainer) -> None:
        for name, now in coordinates().items():
            if trainer.step in STEPS:
                change = float((now - start[name]).square().mean().sqrt())
                rows.append({"step": trainer.step, "coordinate": name, "rms_change": change})

    trainer = Trainer(network, task, optimisation)
    outcome = trainer.run(
        measure_at=[settings.learning_rate * step for step in STEPS], on_measure=look
    )
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    return outcome.status, rows


def slopes(metrics: pl.DataFrame) -> list[Slope]:
    """Fitted slope of every coordinate and step count, from a run's metrics."""
    found = []
    for (coordinate, step), rows in metrics.group_by("coordinate", "step", maintain_order=True):
        each: list[float] = []
        for _, own in rows.group_by("seed", maintain_order=True):
            width, change = own["width"].to_numpy(), own["rms_change"].to_numpy()
            if np.all(np.isfinite(change)) and np.all(change > 0) and len(width) > 2:
                each.append(float(np.polyfit(np.log(width), np.log(change), 1)[0]))
        slope = float(np.mean(each)) if each else math.nan
        error = float(np.std(each, ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
        found.append(Slope(str(coordinate), int(step), slope, error))  # pyright: ignore[reportArgumentType]
    return found
