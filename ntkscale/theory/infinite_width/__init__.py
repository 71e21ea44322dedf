"""Infinitely wide networks at initialisation, and in their lazy limit."""

from ntkscale.theory.infinite_width.kernels import Kernels, kernels, propagate

__all__ = ["Kernels", "kernels", "propagate"]
