"""The solvable model of feature learning and scaling laws (Bordelon, Atanasov & Pehlevan 2024)."""

from ntkscale.theory.scaling_model.finite import finite_flow
from ntkscale.theory.scaling_model.flow import flow
from ntkscale.theory.scaling_model.linear_network import linear_network_flow
from ntkscale.theory.scaling_model.mean_field import MeanField, mean_field
from ntkscale.theory.scaling_model.mean_width import mean_at_width, single_modes
from ntkscale.theory.scaling_model.narrow import at_width
from ntkscale.theory.scaling_model.plateau import Plateau, plateau
from ntkscale.theory.scaling_model.sgd import lazy_sgd
from ntkscale.theory.scaling_model.simulate import Simulation, simulate
from ntkscale.theory.scaling_model.solution import Solution
from ntkscale.theory.scaling_model.solve import solve
from ntkscale.theory.scaling_model.spectrum import Spectrum, measured, power_law

__all__ = [
    "MeanField",
    "Plateau",
    "Simulation",
    "Solution",
    "Spectrum",
    "at_width",
    "finite_flow",
    "flow",
    "lazy_sgd",
    "linear_network_flow",
    "mean_at_width",
    "mean_field",
    "measured",
    "plateau",
    "power_law",
    "simulate",
    "single_modes",
    "solve",
]
