"""Networks of which one hidden layer is trained: proven rates, and what their features learn."""

from ntkscale.experiments.global_convergence.experiment import run
from ntkscale.experiments.global_convergence.settings import (
    EXPERIMENT,
    GlobalConvergenceSettings,
    expand,
    settings_of,
)
from ntkscale.experiments.global_convergence.verdict import judge

__all__ = ["EXPERIMENT", "GlobalConvergenceSettings", "expand", "judge", "run", "settings_of"]
