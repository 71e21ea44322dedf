"""What an images run answers: for every width, its rich networks against its laziest one."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.answer import LAZY, RICH, Answer
from ntkscale.experiments.crossings import at_time, levels_off
from ntkscale.experiments.images.experiment import ImagesSettings, is_full_batch
from ntkscale.experiments.images.measures import Start
from ntkscale.experiments.images.prediction import Predicted


def image_answers(
    begun: Sequence[Start], found: Sequence[Predicted], settings: ImagesSettings
) -> list[Answer]:
    """One answer for every width.

    The largest gamma0 speaks for the rich ones, as on the circle, the smallest is lazy; both are
    read at the last time that all their seeds reached. The lowest of several ratios would be a
    choice made with the answer in sight.
    """
    widths = sorted({start.width for start in begun} | {one.cell.width for one in found})
    return [
        _answer(
            [start for start in begun if start.width == width],
            [one for one in found if one.cell.width == width],
            f"{settings.data}, {settings.model} of width {width}",
            not is_full_batch(settings, settings.size)
            and settings.steps * settings.batch_size <= settings.size,
        )
        for width in widths
    ]


def _answer(
    begun: Sequence[Start], found: Sequence[Predicted], task: str, one_pass: bool
) -> Answer:
    starts = [start.measured for start in begun if start.measured is not None]
    third = [start.eigenvalues[max(len(start.eigenvalues) // 3, 1) - 1] for start in begun]
    resolved = 1 / float(np.mean(third)) if third and min(third) > 0 else float("nan")
    gammas = {one.cell.gamma0 for one in found}
    lazy, rich = min(gammas, default=np.inf), sorted(g for g in gammas if g >= RICH)
    # A seed counts where both its lazy and its rich network were trained.
    base = {one.cell.seed: one for one in found if one.cell.gamma0 == lazy}
    paired = [one for one in found if one.cell.seed in base]
    ladder = [[(o, base[o.cell.seed]) for o in paired if o.cell.gamma0 == g] for g in rich]
    ladder = [own for own in ladder if own]
    unknown = ""
    if not found:
        unknown = "no curve of mse in flow time"
    elif lazy > LAZY:
        unknown = f"no lazy run (gamma0 <= {LAZY:g})"
    elif not ladder:
        unknown = f"no rich run (gamma0 >= {RICH:g})"
    if unknown:
        return Answer(
            task=task, starts=starts, unknown=unknown, resolved=resolved, one_pass=one_pass
        )
    pairs = ladder[-1]
    time = _last_common(pairs)
    slopes = [one.level_slope for one, _ in pairs if one.level_slope is not None]
    return Answer(
        task=f"{task}, gamma0 = {pairs[0][0].cell.gamma0:g} against {lazy:g}",
        starts=starts,
        gains=[
            one.level_slope.exponent - other.level_slope.exponent
            for one, other in pairs
            if one.level_slope is not None and other.level_slope is not None
        ],
        ratios=_ratios(pairs, time),
        equal_time=time,
        window=(max(s.window[0] for s in slopes), min(s.window[1] for s in slopes))
        if slopes
        else None,
        holds=all(slope.is_power_law for slope in slopes),
        resolved=resolved,
        # The first plateau of all seeds; nan, for none, is ignored.
        plateau=float(np.fmin.reduce([levels_off(one.times, one.observed) for one, _ in pairs])),
        one_pass=one_pass,
    )


Pairs = Sequence[tuple[Predicted, Predicted]]


def _last_common(pairs: Pairs) -> float:
    return min(min(one.times[-1], other.times[-1]) for one, other in pairs)


def _ratios(pairs: Pairs, time: float) -> list[float]:
    return [
        at_time(time, one.times, one.observed) / at_time(time, other.times, other.observed)
        for one, other in pairs
    ]
