"""One folder a command: its settings and run, what is measured, the verdict.

`EXPERIMENTS` lists them by the name of their command.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntkscale.experiments import (
    adversarial_kernel,
    adversarial_training,
    circle,
    compute_optimal,
    coordinate_check,
    dmft,
    global_convergence,
    images,
    kernel_evolution,
    local_analysis,
    scaling_model,
)
from ntkscale.experiments.answer import Answer, answer_table
from ntkscale.experiments.settings import Common, Recorded
from ntkscale.experiments.verdict import Verdict
from ntkscale.runs import Run, RunFolder

__all__ = ["EXPERIMENTS", "Answer", "Common", "Experiment", "Recorded", "Verdict", "answer_table"]


@dataclass(frozen=True)
class Experiment:
    """A command of `train.py`.

    Attributes:
        settings: its options.
        expand: writes out preset and `quick` and checks every option; what is wrong is refused by a
            ValueError before anything is written.
        run: trains what they ask for, or goes on with it; None on all processes but the first.
        judge: concludes from what is on disk.
    """

    settings: type[Common]
    expand: Callable[[Any], Common]
    run: Callable[[Any], RunFolder | None]
    judge: Callable[[Run], Verdict]


def _of(room: Any, settings: type[Common]) -> tuple[str, Experiment]:
    return room.EXPERIMENT, Experiment(settings, room.expand, room.run, room.judge)


EXPERIMENTS: dict[str, Experiment] = dict(
    [
        _of(circle, circle.CircleSettings),
        _of(images, images.ImagesSettings),
        _of(scaling_model, scaling_model.ScalingModelSettings),
        _of(compute_optimal, compute_optimal.ComputeOptimalSettings),
        _of(dmft, dmft.DmftSettings),
        _of(coordinate_check, coordinate_check.CoordinateCheckSettings),
        _of(global_convergence, global_convergence.GlobalConvergenceSettings),
        _of(local_analysis, local_analysis.LocalAnalysisSettings),
        _of(kernel_evolution, kernel_evolution.KernelEvolutionSettings),
        _of(adversarial_kernel, adversarial_kernel.AdversarialKernelSettings),
        _of(adversarial_training, adversarial_training.AdversarialTrainingSettings),
    ]
)
"""In the order of the six systems' pages."""
