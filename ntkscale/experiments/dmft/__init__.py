"""Infinitely wide networks, solved, beside trained ones; and `compare` for any solution."""

from ntkscale.experiments.dmft.experiment import EXPERIMENT, DmftSettings, expand, run
from ntkscale.experiments.dmft.verdict import judge

__all__ = ["EXPERIMENT", "DmftSettings", "expand", "judge", "run"]
