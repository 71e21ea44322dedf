"""Geometry of given networks: barriers, basins, activation patterns, distances; it never trains.

Weights are a state dict of the model they are for. A model comes back as it was given, bit for bit.
"""

from ntkscale.landscape.activation_patterns import (
    activation_patterns,
    hamming_distance,
    pattern_distance,
)
from ntkscale.landscape.barrier import Barrier, error_barrier
from ntkscale.landscape.basin import BasinTime, basin_time
from ntkscale.landscape.classes import chosen_class, error_rate
from ntkscale.landscape.connectivity import MeanBarrier, linearly_connected, mean_barrier
from ntkscale.landscape.function_distance import disagreement, function_distance
from ntkscale.landscape.kernel_regression import kernel_regression
from ntkscale.landscape.model import Weights, outputs_at
from ntkscale.landscape.trajectory import PrincipalPlane, principal_plane

__all__ = [
    "Barrier",
    "BasinTime",
    "MeanBarrier",
    "PrincipalPlane",
    "Weights",
    "activation_patterns",
    "basin_time",
    "chosen_class",
    "disagreement",
    "error_barrier",
    "error_rate",
    "function_distance",
    "hamming_distance",
    "kernel_regression",
    "linearly_connected",
    "mean_barrier",
    "outputs_at",
    "pattern_distance",
    "principal_plane",
]
