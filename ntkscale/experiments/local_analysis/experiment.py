"""`train.py local-analysis`: does descent find the teacher's directions, and when?

Zhou & Ge 2024 (arXiv 2406.01766, a theorem without experiments): a student of many neurons learns
a teacher of few. One large step, a fitted read-out, then descent with a regularisation that is
halved again and again; beside it the same without the step, without the regularisation, without
both. On the exact loss over Gaussian inputs, or on samples. With `--gamma0` also students from
lazy to rich, for the same measures along the way.
"""

import sys

from ntkscale.experiments.local_analysis.bridge import bridge_piece
from ntkscale.experiments.local_analysis.cost import cost_piece
from ntkscale.experiments.local_analysis.descent import descent_piece
from ntkscale.experiments.local_analysis.settings import (
    EXPERIMENT,
    LocalAnalysisSettings,
    assumptions,
    expand,
)
from ntkscale.experiments.piece_groups import run_groups
from ntkscale.experiments.work import Piece
from ntkscale.runs import RunFolder


def run(settings: LocalAnalysisSettings) -> RunFolder:
    """Do every piece, or take an interrupted run up again; returns its folder.

    What the theorem asks for and is not given is said on stderr before anything is trained.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    for said in assumptions(settings):
        sys.stderr.write(f"{EXPERIMENT}, before the run: {said}\n")
    return run_groups(EXPERIMENT, settings, groups(settings))


def groups(settings: LocalAnalysisSettings) -> list[list[Piece]]:
    """All pieces; each is a group, but for the timings, which must be alone on a core."""
    found = [
        [descent_piece(settings, activation, samples, seed)]
        for activation in settings.activation
        for samples in settings.samples
        for seed in settings.seed
    ]
    if settings.gamma0:
        found += [[bridge_piece(settings, seed)] for seed in settings.seed]
    if settings.cost:
        found.append([cost_piece(settings, dimension) for dimension in settings.cost])
    return found
