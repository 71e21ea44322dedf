"""Does descent find a teacher's directions: early, along the way, or at the end?"""

from ntkscale.experiments.local_analysis.experiment import groups, run
from ntkscale.experiments.local_analysis.settings import (
    EXPERIMENT,
    LocalAnalysisSettings,
    assumptions,
    expand,
    settings_of,
)
from ntkscale.experiments.local_analysis.verdict import judge

__all__ = [
    "EXPERIMENT",
    "LocalAnalysisSettings",
    "assumptions",
    "expand",
    "groups",
    "judge",
    "run",
    "settings_of",
]
