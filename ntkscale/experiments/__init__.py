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
    adversarial_kernel.EXPERIMENT: Experiment(
        adversarial_kernel.AdversarialKernelSettings,
        adversarial_kernel.run,
        adversarial_kernel.judge,
    ),
    adversarial_training.EXPERIMENT: Experiment(
        adversarial_training.AdversarialTrainingSettings,
        adversarial_training.run,
        adversarial_training.judge,
    ),
    local_analysis.EXPERIMENT: Experiment(
        local_analysis.LocalAnalysisSettings, local_analysis.run, local_analysis.judge
    ),
    dmft.EXPERIMENT: Experiment(dmft.DmftSettings, dmft.run, dmft.judge),
    global_convergence.EXPERIMENT: Experiment(
        global_convergence.GlobalConvergenceSettings,
        global_convergence.run,
        global_convergence.judge,
    ),
}
