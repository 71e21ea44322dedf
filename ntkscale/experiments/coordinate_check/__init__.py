"""Does every coordinate move alike at every width?"""

from ntkscale.experiments.coordinate_check.experiment import (
    EXPERIMENT,
    CoordinateCheckSettings,
    expand,
    run,
    slopes,
)
from ntkscale.experiments.coordinate_check.verdict import judge

__all__ = ["EXPERIMENT", "CoordinateCheckSettings", "expand", "judge", "run", "slopes"]
