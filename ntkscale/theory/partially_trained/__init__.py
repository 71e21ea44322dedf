"""Networks of which one hidden layer is trained: flow, proven rates, lazy limit.

Chen, Vanden-Eijnden & Bruna 2022, "On feature learning in neural networks with global convergence
guarantees" (arXiv 2204.10782).
"""

from ntkscale.theory.partially_trained.assumptions import Assumption, assumptions
from ntkscale.theory.partially_trained.flow import Flow, Snapshot, flow
from ntkscale.theory.partially_trained.guarantee import Guarantee, guarantee, least_slope
from ntkscale.theory.partially_trained.limit import (
    infinite_gram,
    infinite_kernel,
    limit_flow,
    limit_movement,
)
from ntkscale.theory.partially_trained.problem import Problem
from ntkscale.theory.partially_trained.rates import (
    LineFit,
    active_fraction,
    fit_line,
    gains,
    instantaneous_rate,
    proven_rate,
)

__all__ = [
    "Assumption",
    "Flow",
    "Guarantee",
    "LineFit",
    "Problem",
    "Snapshot",
    "active_fraction",
    "assumptions",
    "fit_line",
    "flow",
    "gains",
    "guarantee",
    "infinite_gram",
    "infinite_kernel",
    "instantaneous_rate",
    "least_slope",
    "limit_flow",
    "limit_movement",
    "proven_rate",
]
