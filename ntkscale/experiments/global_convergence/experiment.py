"""`train.py global-convergence`: how fast partially trained networks must learn, and do.

Chen, Vanden-Eijnden & Bruna 2022 (arXiv 2204.10782): networks of which the last hidden layer alone
is trained, in the mean-field scaling that learns features, in that of their NTK twin and in the
full mean-field one. They are followed in function space, with the rate that is proven beside the
rate they have; a part is trained as networks too. What is trained is in `models.py`, what is
measured in `pieces.py`, what is found is judged in `verdict.py`.
"""

from ntkscale.experiments.global_convergence.pieces import groups
from ntkscale.experiments.global_convergence.settings import (
    EXPERIMENT,
    GlobalConvergenceSettings,
    expand,
)
from ntkscale.experiments.global_convergence.told import told_before
from ntkscale.experiments.piece_groups import run_groups
from ntkscale.reporting import show
from ntkscale.runs import RunFolder


def run(settings: GlobalConvergenceSettings) -> RunFolder:
    """Say which assumptions fail, then train and measure, or take an interrupted run up again.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    show(told_before(settings))
    return run_groups(EXPERIMENT, settings, groups(settings))
