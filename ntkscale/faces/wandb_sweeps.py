"""The standard ladders as W&B sweeps: one process of `train.py` for every point of a grid.

A process becomes one run of the sweep, that of its verdict; its cells are W&B runs of their own in
the same project, and what is on disk is that of the same command typed by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ntkscale.faces.sweep.export import sweep_definition

_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Ladder:
    """What a sweep goes through.

    Attributes:
        about: it, in a sentence.
        command: of `train.py`, and the options that all its processes share.
        grid: values by option; every combination is one process.
    """

    about: str
    command: Sequence[str]
    grid: Mapping[str, Sequence[float | int]]


# The lazy end of a ladder on the circle is the exact flow of K_0: no lazy network is trained.
_CIRCLE = ("circle", "--lazy", "0")
_RICHNESS = (0.03, 0.1, 0.3, 1.0, 3.0)

LADDERS: dict[str, Ladder] = {
    "circle-gamma0": Ladder(
        "from lazy to rich on a hard task",
        (*_CIRCLE, "--beta", "0.5"),
        {"gamma0": _RICHNESS, "seed": _SEEDS},
    ),
    "circle-width": Ladder(
        "rich networks of several widths on a hard task",
        (*_CIRCLE, "--beta", "0.5", "--init", "gaussian", "--points", "128"),
        {"width": (128, 256, 512, 1024, 2048), "seed": _SEEDS},
    ),
    "circle-beta": Ladder(
        "rich networks on tasks from hard to easy",
        (*_CIRCLE, "--window", "160", "3500"),
        {"beta": (0.25, 0.5, 0.75, 1.25), "seed": _SEEDS},
    ),
    "circle-seeds": Ladder(
        "one rich network on a hard task, ten seeds",
        (*_CIRCLE, "--beta", "0.5"),
        {"seed": tuple(range(10))},
    ),
    "images-gamma0": Ladder(
        "from lazy to rich on digits",
        ("images",),
        {"gamma0": _RICHNESS, "seed": _SEEDS},
    ),
    "images-width": Ladder(
        "rich networks of several widths on digits",
        ("images", "--gamma0", "1"),
        {"width": (64, 128, 256, 512), "seed": _SEEDS},
    ),
    "images-seeds": Ladder(
        "one rich network on digits, ten seeds",
        ("images", "--gamma0", "1"),
        {"seed": tuple(range(10))},
    ),
}


def sweep_yaml(name: str, project: str) -> str:
    """The definition that `wandb sweep FILE` takes.

    Args:
        name: one of `LADDERS`.
        project: of W&B; the agent passes it on to all runs.
    """
    ladder = LADDERS[name]
    return sweep_definition(
        name, ladder.command, ladder.grid, project=project, description=ladder.about
    )
