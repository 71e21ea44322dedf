"""When is the basin sealed, when has the kernel learned: parents, children, linearised networks."""

from ntkscale.experiments.kernel_evolution.experiment import run
from ntkscale.experiments.kernel_evolution.settings import (
    EXPERIMENT,
    KernelEvolutionSettings,
    expand,
    settings_of,
)
from ntkscale.experiments.kernel_evolution.verdict import judge

__all__ = ["EXPERIMENT", "KernelEvolutionSettings", "expand", "judge", "run", "settings_of"]
