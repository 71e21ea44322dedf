"""`train.py adversarial-kernel`: what the tangent kernel says of adversarial robustness.

Tsilivis & Kempe 2022 (arXiv 2210.05577): attacks through a kernel without training a network,
early stopping, features of the kernel with their usefulness and robustness, pictures of them, and
transfer of the attacks to networks, from the lazy end that the paper looks at to rich ones.
"""

from ntkscale.experiments.adversarial_kernel.consistency import consistency_pieces
from ntkscale.experiments.adversarial_kernel.features import feature_pieces
from ntkscale.experiments.adversarial_kernel.models import pair_task
from ntkscale.experiments.adversarial_kernel.pictures import picture_pieces
from ntkscale.experiments.adversarial_kernel.settings import (
    EXPERIMENT,
    AdversarialKernelSettings,
    expand,
)
from ntkscale.experiments.adversarial_kernel.ten_classes import ten_class_pieces
from ntkscale.experiments.adversarial_kernel.transfer import transfer_pieces
from ntkscale.experiments.piece_groups import run_groups
from ntkscale.experiments.work import Piece
from ntkscale.runs import RunFolder


def run(settings: AdversarialKernelSettings) -> RunFolder:
    """Do every part that is asked for, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
        FileNotFoundError: the data are not there.
    """
    settings = expand(settings)
    todo = groups(settings)  # what is impossible is refused before there is a folder
    return run_groups(EXPERIMENT, settings, todo)


def groups(settings: AdversarialKernelSettings) -> list[list[Piece]]:
    """All pieces, a list for every pair and seed, and for every seed of the ten classes.

    Raises:
        ValueError: more samples than a pair has.
        FileNotFoundError: the data are not there.
    """
    _refuse_impossible(settings)
    found = [[piece] for piece in ten_class_pieces(settings)]
    for pair in settings.class_pairs:
        for seed in settings.seed:
            group = [
                *feature_pieces(settings, pair, seed),
                *picture_pieces(settings, pair, seed),
                *consistency_pieces(settings, pair, seed),
                *transfer_pieces(settings, pair, seed),
            ]
            if group:
                found.append(group)
    return found


def _refuse_impossible(settings: AdversarialKernelSettings) -> None:
    """What only the data can tell, for the first pair."""
    parts = set(settings.parts)
    sizes = {
        "size": settings.size if parts & {"features", "pictures", "consistency"} else 1,
        "transfer_size": settings.transfer_size if "transfer" in parts else 1,
    }
    if parts != {"ten-classes"}:
        pair = settings.class_pairs[0]
        least = len(pair_task(settings, pair, settings.seed[0], size=0).inputs)
        for option, size in sizes.items():
            if size > least:
                raise ValueError(
                    f"--{option.replace('_', '-')} {size} exceeds the {least} training samples of "
                    f"classes {pair[0]} and {pair[1]}: lower it."
                )
    if "held-out" in parts and settings.held_out == 0:
        raise ValueError(
            "--held-out 0 leaves nothing to count on: raise it, or leave the part out."
        )
    if "ten-classes" in parts:
        pair_task(settings, None, settings.seed[0])  # refuses what is too large
