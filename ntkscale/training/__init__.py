"""Training: flows, stochastic descent, ensembles, children of a run, and the linearised limit.

`Trainer(model, task, Optimisation(...)).run(...)` is the whole of it; the other names are its
pieces. Everything is in flow time, `theta -= eta gamma^2 grad L`, `t += eta`.
"""

from ntkscale.training.batches import Batches
from ntkscale.training.distributed import data_parallel, process_group, rank, ranks, unwrapped
from ntkscale.training.ensemble import Ensemble
from ntkscale.training.flow import FlowStep
from ntkscale.training.interruption import StopSignals
from ntkscale.training.lazy import LazyFlow, lazy_flow
from ntkscale.training.linearised import Linearised
from ntkscale.training.linearised_flow import LinearisedFlow, linearised_flow
from ntkscale.training.optimisation import Optimisation
from ntkscale.training.spawn import spawn
from ntkscale.training.trainer import Outcome, Trainer

__all__ = [
    "Batches",
    "Ensemble",
    "FlowStep",
    "LazyFlow",
    "Linearised",
    "LinearisedFlow",
    "Optimisation",
    "Outcome",
    "StopSignals",
    "Trainer",
    "data_parallel",
    "lazy_flow",
    "linearised_flow",
    "process_group",
    "rank",
    "ranks",
    "spawn",
    "unwrapped",
]
