"""Infinitely wide networks that learn features: dynamical mean-field theory (arXiv 2205.09653)."""

from ntkscale.theory.dmft.deep import solve
from ntkscale.theory.dmft.linear import draw, solve_linear
from ntkscale.theory.dmft.memory import memory_weights
from ntkscale.theory.dmft.perturbation import leading_order
from ntkscale.theory.dmft.problem import Problem, pose
from ntkscale.theory.dmft.solution import Cost, Fields, Solution
from ntkscale.theory.dmft.static import static_ntk
from ntkscale.theory.dmft.two_layer import solve_two_layer
from ntkscale.theory.dmft.white_data import white_data

__all__ = [
    "Cost",
    "Fields",
    "Problem",
    "Solution",
    "draw",
    "leading_order",
    "memory_weights",
    "pose",
    "solve",
    "solve_linear",
    "solve_two_layer",
    "static_ntk",
    "white_data",
]
