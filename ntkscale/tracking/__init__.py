"""Follow the tangent kernel of a network while it trains, on anyone's model and loop.

KernelTracker          measures the kernel on a fixed probe set, one row at a time
DistanceMap            kernel distances between all pairs of times, in one pass
default_measurements   how many snapshots stay below 5 % of a training run
default_steps          the log-spaced steps at which to take that many
MEMORY                 the kernel engine's budget where equal runs must end with equal bits
log_spaced             log-spaced numbers from first to last
"""

from ntkscale.tracking.distance_map import DistanceMap
from ntkscale.tracking.schedule import default_measurements, default_steps, log_spaced
from ntkscale.tracking.tracker import MEMORY, KernelTracker

__all__ = [
    "MEMORY",
    "DistanceMap",
    "KernelTracker",
    "default_measurements",
    "default_steps",
    "log_spaced",
]
