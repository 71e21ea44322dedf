"""What a run on the solvable model answers: its richest curve against the lazy one, solved."""

from collections.abc import Iterator

import polars as pl

from ntkscale.experiments.answer import Answer
from ntkscale.experiments.crossings import at_time
from ntkscale.experiments.scaling_model.cells import LATE
from ntkscale.experiments.scaling_model.measures import pick
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings
from ntkscale.scaling import fit_power_law


def solved_answers(metrics: pl.DataFrame, settings: ScalingModelSettings) -> Iterator[Answer]:
    """One answer for every beta that was solved at infinite width, lazy and rich."""
    own = metrics.filter(pl.col("part") == "exponents")
    richest = max(settings.gamma)
    for beta in sorted(own["beta"].unique().to_list()) if len(own) and richest > 0 else ():
        lazy = pick(own, beta=beta, gamma=0.0)
        rich = pick(own, beta=beta, gamma=richest)
        if lazy is None or rich is None:
            continue
        fits = [fit_power_law(one.times, one.mean, window=LATE) for one in (rich, lazy)]
        last = [at_time(LATE[1], one.times, one.mean) for one in (rich, lazy)]
        yield Answer(
            task=f"solvable model, beta = {beta:g}, gamma = {richest:g} against 0",
            given=(settings.alpha, beta),
            gains=[fits[0].exponent - fits[1].exponent],
            ratios=[last[0] / last[1]],
            equal_time=LATE[1],
            window=LATE,
            holds=fits[0].is_power_law,
        )
