"""The best width for a compute, on the solvable model."""

from ntkscale.experiments.compute_optimal.experiment import (
    EXPERIMENT,
    ComputeOptimalSettings,
    expand,
    run,
)
from ntkscale.experiments.compute_optimal.verdict import judge

__all__ = ["EXPERIMENT", "ComputeOptimalSettings", "expand", "judge", "run"]
