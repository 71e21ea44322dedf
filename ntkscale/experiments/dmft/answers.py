"""What a run of `train.py dmft` answers: the rich network's loss over the lazy limit's, solved."""

from collections.abc import Iterator

import polars as pl

from ntkscale.experiments.answer import RICH, Answer
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings, grid


def solved_answers(metrics: pl.DataFrame, settings: DmftSettings) -> Iterator[Answer]:
    """One answer for every rich network that was solved, against the static NTK.

    Infinitely wide networks at the last time that both reached; training mse, of one draw of data.
    With cross-entropy the mse of logits says nothing, so there is no answer.
    """
    if settings.loss != "mse":
        return
    solved = metrics.filter(pl.col("width").is_null() & pl.col("mse").is_not_null())
    for depth, gamma0 in grid(settings):
        own = solved.filter((pl.col("depth") == depth) & (pl.col("gamma0") == gamma0))
        rich, lazy = (own.filter(pl.col("kind") == kind) for kind in (FULL, "static NTK"))
        both = rich.join(lazy, on="time", suffix="_lazy").sort("time")
        if gamma0 < RICH or not len(both):
            continue
        last = both.row(-1, named=True)
        yield Answer(
            task=(
                f"training on {settings.num_train} {settings.data} points, {settings.activation}, "
                f"L = {depth}, gamma0 = {gamma0:g}, infinite width, against static NTK"
            ),
            ratios=[last["mse"] / last["mse_lazy"]],
            equal_time=last["time"],
        )
