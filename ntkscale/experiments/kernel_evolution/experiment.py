"""`train.py kernel-evolution`: when is the basin sealed, when has the kernel learned?

Fort, Dziugaite, Paul, Kharaghani, Roy & Ganguli 2020 (arXiv 2010.15110): from checkpoints of one
parent, children are trained with their own order of samples, and the network is linearised. Error
barriers between children, distance and velocity of the kernel, and what the linearised network
learns are read on one axis of time, in epochs. With `--gamma0` the same for networks from lazy to
rich. What is trained is in `pieces.py`, what is found is judged in `verdict.py`.
"""

from ntkscale.experiments.kernel_evolution.pieces import groups
from ntkscale.experiments.kernel_evolution.settings import (
    EXPERIMENT,
    KernelEvolutionSettings,
    expand,
)
from ntkscale.experiments.piece_groups import run_groups
from ntkscale.runs import RunFolder


def run(settings: KernelEvolutionSettings) -> RunFolder:
    """Train and measure everything, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    todo = groups(settings)  # what is impossible is refused before there is a folder
    return run_groups(EXPERIMENT, settings, todo)
