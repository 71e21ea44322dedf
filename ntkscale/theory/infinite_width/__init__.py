"""Infinitely wide networks at initialisation, and in their lazy limit."""

from ntkscale.theory.infinite_width.circle import circle_eigenvalues, circle_ntk
from ntkscale.theory.infinite_width.convolutional import cnn_kernels
from ntkscale.theory.infinite_width.fully_connected import Kernels, kernels, propagate
from ntkscale.theory.infinite_width.lazy_flow import LazyEnsemble, lazy_flow
from ntkscale.theory.infinite_width.posterior import Posterior, posterior

__all__ = [
    "Kernels",
    "LazyEnsemble",
    "Posterior",
    "circle_eigenvalues",
    "circle_ntk",
    "cnn_kernels",
    "kernels",
    "lazy_flow",
    "posterior",
    "propagate",
]
