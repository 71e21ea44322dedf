"""Infinitely wide networks, solved, beside trained ones; and `compare` for any solution."""

from ntkscale.experiments.dmft.experiment import run
from ntkscale.experiments.dmft.finite_width import at_times, compare
from ntkscale.experiments.dmft.settings import EXPERIMENT, DmftSettings, expand
from ntkscale.experiments.dmft.verdict import judge
from ntkscale.experiments.dmft.wide_networks import Descent, train_networks

__all__ = [
    "EXPERIMENT",
    "Descent",
    "DmftSettings",
    "at_times",
    "compare",
    "expand",
    "judge",
    "run",
    "train_networks",
]
