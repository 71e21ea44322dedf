"""One folder a command: its settings and run, what is measured, the verdict.

`EXPERIMENTS` lists them by the name of their command.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntkscale.experiments import (
    circle,
    compute_optimal,
    coordinate_check,
    dmft,
    images,
    kernel_evolution,
    scaling_model,
)
from ntkscale.experiments.answer import Answer, answer_table
from ntkscale.experiments.settings import Common
from ntkscale.experiments.verdict import Verdict
from ntkscale.runs import Run, RunFolder

__all__ = ["EXPERIMENTS", "Answer", "Common", "Experiment", "Verdict", "answer_table"]


@dataclass(frozen=True)
class Experiment:
    """A command of `train.py`.

    Attributes:
        settings: its options.
        run: trains what they ask for, or goes on with it; None on all processes but the first.
        judge: concludes from what is on disk.
    """

    settings: type[Common]
    run: Callable[[Any], RunFolder | None]
    judge: Callable[[Run], Verdict]


EXPERIMENTS: dict[str, Experiment] = {
    circle.EXPERIMENT: Experiment(circle.CircleSettings, circle.run, circle.judge),
    images.EXPERIMENT: Experiment(images.ImagesSettings, images.run, images.judge),
    coordinate_check.EXPERIMENT: Experiment(
        coordinate_check.CoordinateCheckSettings,
        coordinate_check.run,
        coordinate_check.judge,
    ),
    scaling_model.EXPERIMENT: Experiment(
        scaling_model.ScalingModelSettings, scaling_model.run, scaling_model.judge
    ),
    compute_optimal.EXPERIMENT: Experiment(
        compute_optimal.ComputeOptimalSettings,
        compute_optimal.run,
        compute_optimal.judge,
    ),
    kernel_evolution.EXPERIMENT: Experiment(
        kernel_evolution.KernelEvolutionSettings, kernel_evolution.run, kernel_evolution.judge
    ),
    dmft.EXPERIMENT: Experiment(dmft.DmftSettings, dmft.run, dmft.judge),
}
