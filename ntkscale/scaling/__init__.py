"""Exponents and regimes: what a curve or a spectrum says, and what theory predicts from it.

Arrays in, numbers with intervals out; a network, a theory and a file on disk are fitted alike.
"""

from ntkscale.scaling.broken_power_law import BrokenPowerLawFit, fit_broken_power_law
from ntkscale.scaling.compute_optimal import ComputeOptimal, compute_optimal
from ntkscale.scaling.frontier import Frontier, FrontierSlope, frontier
from ntkscale.scaling.local_slope import local_slope
from ntkscale.scaling.power_law import PowerLawFit, fit_power_law
from ntkscale.scaling.predict import Prediction, predict
from ntkscale.scaling.regime import Regime, regime
from ntkscale.scaling.source_capacity import SourceCapacity, source_capacity

__all__ = [
    "BrokenPowerLawFit",
    "ComputeOptimal",
    "Frontier",
    "FrontierSlope",
    "PowerLawFit",
    "Prediction",
    "Regime",
    "SourceCapacity",
    "compute_optimal",
    "fit_broken_power_law",
    "fit_power_law",
    "frontier",
    "local_slope",
    "predict",
    "regime",
    "source_capacity",
]
