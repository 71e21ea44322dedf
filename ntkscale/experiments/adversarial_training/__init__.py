"""What adversarial training does to the tangent kernel, beside standard training."""

from ntkscale.experiments.adversarial_training.experiment import run
from ntkscale.experiments.adversarial_training.settings import (
    EXPERIMENT,
    AdversarialTrainingSettings,
    expand,
    settings_of,
)
from ntkscale.experiments.adversarial_training.verdict import judge

__all__ = ["EXPERIMENT", "AdversarialTrainingSettings", "expand", "judge", "run", "settings_of"]
