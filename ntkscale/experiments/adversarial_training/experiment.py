"""`train.py adversarial-training`: what becomes of the tangent kernel under adversarial training?

Tsilivis & Kempe 2022 (arXiv 2210.05577), section on kernels during adversarial training: networks
trained on clean samples and on samples attacked at every step, side by side. Their kernel is
followed on a clean probe and on the probe as attacked at that moment; distances, growth, rotation
and concentration in the leading eigenspaces are compared seed by seed. From chosen epochs on
adversarial training is continued with the network linearised there. What is trained is in
`pieces.py`, what is found is judged in `verdict.py`.
"""

from ntkscale.experiments.adversarial_training.pieces import groups
from ntkscale.experiments.adversarial_training.settings import (
    EXPERIMENT,
    AdversarialTrainingSettings,
    expand,
)
from ntkscale.experiments.piece_groups import run_groups
from ntkscale.runs import RunFolder


def run(settings: AdversarialTrainingSettings) -> RunFolder:
    """Train and measure everything, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    todo = groups(settings)  # what is impossible is refused before there is a folder
    return run_groups(EXPERIMENT, settings, todo)
