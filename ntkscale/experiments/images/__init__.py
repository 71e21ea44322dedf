"""Real images, from the kernel limit to feature learning."""

from ntkscale.experiments.images.experiment import (
    EXPERIMENT,
    ImagesSettings,
    expand,
    run,
    settings_of,
)
from ntkscale.experiments.images.verdict import judge

__all__ = ["EXPERIMENT", "ImagesSettings", "expand", "judge", "run", "settings_of"]
