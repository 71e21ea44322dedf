"""Infinitely wide networks at initialisation, and in their lazy limit."""

from ntkscale.theory.infinite_width.circle import circle_eigenvalues, circle_ntk
from ntkscale.theory.infinite_width.kernels import Kernels, kernels, propagate

__all__ = ["Kernels", "circle_eigenvalues", "circle_ntk", "kernels", "propagate"]
