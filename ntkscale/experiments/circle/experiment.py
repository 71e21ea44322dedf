"""`train.py circle`: power-law targets on the circle, from the kernel limit to feature learning.

The task of Bordelon, Atanasov & Pehlevan (2024): y(theta) = sum_k k^-q cos(k theta). Its source
exponent is beta = (2q - 1) / (2 power) for the activation ReLU^power, so theory says how fast a
lazy and a rich network must learn it. What is found is judged in `verdict.py`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ntkscale.experiments.cells import Cell
from ntkscale.experiments.circle.cells import build, cell, conditions, target, window
from ntkscale.experiments.circle.settings import CircleSettings, check, with_presets
from ntkscale.experiments.settings import restore
from ntkscale.experiments.train_cells import train_cells
from ntkscale.runs import Run, RunFolder, RunFolderError
from ntkscale.training import Optimisation

EXPERIMENT = "circle"


def expand(settings: CircleSettings) -> CircleSettings:
    """The settings with their preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    settings = with_presets(settings)
    check(settings)
    for group in conditions(settings):
        build(settings, group[0])
        target(settings, group[0])
        low, high = window(settings, group[0])
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"these options give no window to read slopes in (lazy times {low:.3g} to "
                f"{high:.3g}; a network of one hidden layer without biases cannot learn odd "
                "modes); give --window."
            )
    return settings


def run(settings: CircleSettings) -> RunFolder | None:
    """Train every cell, or take an interrupted run up again; returns its folder.

    Raises:
        ValueError: an option is out of range, or the folder holds another run.
    """
    settings = expand(settings)
    groups: list[Sequence[Cell]] = []
    for group in conditions(settings):
        cells = [cell(settings, condition) for condition in group]
        groups.extend([cells] if settings.batched else [[one] for one in cells])
    optimisation = Optimisation(
        method="flow", steps=settings.steps, step_fraction=settings.step_fraction
    )
    with _one_thread():
        return train_cells(
            EXPERIMENT, settings, groups, optimisation, automatic_workers=os.cpu_count() or 1
        )


def settings_of(run: Run) -> CircleSettings:
    """The options with which a run was made.

    Raises:
        RunFolderError: an earlier version wrote it, with options that this one does not have.
    """
    if not isinstance(run.config.get("width"), list) or "horizon" not in run.config:
        raise RunFolderError(
            f"{run.path} was written by an earlier version, in which --width took one number; "
            "train it again, under another --name."
        )
    return expand(restore(CircleSettings, run.config, run.path))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread of the processor.

    A step is a chain of small operations: two threads wait for each other longer than they work,
    and twenty times as long where another process wants the second core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
