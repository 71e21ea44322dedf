"""What the tangent kernel says of adversarial robustness: attacks, features, transfer."""

from ntkscale.experiments.adversarial_kernel.experiment import groups, run
from ntkscale.experiments.adversarial_kernel.settings import (
    EXPERIMENT,
    AdversarialKernelSettings,
    expand,
    settings_of,
)
from ntkscale.experiments.adversarial_kernel.verdict import judge

__all__ = [
    "EXPERIMENT",
    "AdversarialKernelSettings",
    "expand",
    "groups",
    "judge",
    "run",
    "settings_of",
]
