"""What a circle run answers: its richest networks against the exact lazy flow of their own K_0."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.answer import RICH, Answer
from ntkscale.experiments.circle.cells import label
from ntkscale.experiments.circle.measures import Trained, alike
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.experiments.crossings import at_time, levels_off


def circle_answers(cells: Sequence[Trained], settings: CircleSettings) -> list[Answer]:
    """One answer for every target and network, at its largest gamma0."""
    return [_answer(own, settings) for own in alike(cells, "gamma0")]


def _answer(cells: Sequence[Trained], settings: CircleSettings) -> Answer:
    richest = max(cell.gamma0 for cell in cells)
    own = [cell for cell in cells if cell.gamma0 == richest]
    through = [cell for cell in own if cell.window is not None and cell.slope is not None]
    bases = [cell.baseline for cell in own]
    # The P points resolve modes up to a third of their number.
    last = [base.eigenvalues[len(base.eigenvalues) // 3] for base in bases]
    unknown = ""
    if richest < RICH:
        unknown = f"no rich run (gamma0 >= {RICH:g})"
    elif not through:
        unknown = "no rich network got through the window"
    windows = [cell.window for cell in through if cell.window is not None]
    time = min((window[1] for window in windows), default=float("nan"))
    what = label(settings, own[0].condition)
    return Answer(
        task=f"circle, {what}, gamma0 = {richest:g} against the flow of K_0",
        starts=[base.measured for base in bases],
        gains=[cell.gain for cell in through],
        ratios=[_ratio(cell, time) for cell in through],
        equal_time=time,
        unknown=unknown,
        window=(max(window[0] for window in windows), time) if windows else None,
        holds=all(cell.slope is not None and cell.slope.is_power_law for cell in through),
        resolved=1 / float(np.mean(last)) if min(last) > 0 else float("nan"),
        # The first plateau of all seeds; nan, for none, is ignored.
        plateau=float(np.fmin.reduce([levels_off(cell.times, cell.mse) for cell in own])),
    )


def _ratio(cell: Trained, time: float) -> float:
    later = cell.times > 0
    lazy = float(cell.baseline.lazy_curve([time])[0]) + cell.baseline.tail
    return at_time(time, cell.times[later], cell.mse[later]) / lazy
