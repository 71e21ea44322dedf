"""Infinitely wide networks that learn features: dynamical mean-field theory (arXiv 2205.09653)."""

from ntkscale.theory.dmft.memory import memory_weights
from ntkscale.theory.dmft.problem import Problem, pose
from ntkscale.theory.dmft.solution import Cost, Fields, Solution

__all__ = ["Cost", "Fields", "Problem", "Solution", "memory_weights", "pose"]
