"""The solvable model of scaling laws, solved, drawn and simulated."""

from ntkscale.experiments.scaling_model.experiment import run
from ntkscale.experiments.scaling_model.settings import EXPERIMENT, ScalingModelSettings, expand
from ntkscale.experiments.scaling_model.verdict import judge

__all__ = ["EXPERIMENT", "ScalingModelSettings", "expand", "judge", "run"]
