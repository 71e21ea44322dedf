"""Power-law targets on the circle, from the kernel limit to feature learning."""

from ntkscale.experiments.circle.experiment import (
    EXPERIMENT,
    CircleSettings,
    expand,
    run,
    settings_of,
)
from ntkscale.experiments.circle.verdict import judge

__all__ = ["EXPERIMENT", "CircleSettings", "expand", "judge", "run", "settings_of"]
