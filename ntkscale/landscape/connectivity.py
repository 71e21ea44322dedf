"""Are the children of a parent linearly connected: barriers of many pairs at many spawn times."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import ArrayLike
from scipy.stats import t as student

THRESHOLD = 0.02
"""Mean barrier, in error rate, below which networks count as connected."""


@dataclass(frozen=True)
class MeanBarrier:
    """Mean barrier over pairs at every spawn time.

    Attributes:
        mean, low, high: with Student's interval; infinitely wide for a single pair.
    """

    mean: Float[ndarray, "T"]
    low: Float[ndarray, "T"]
    high: Float[ndarray, "T"]


def mean_barrier(barriers: ArrayLike, *, confidence: float = 0.95) -> MeanBarrier:
    """Mean over pairs of (T, pairs) barriers; pairs are taken as independent.

    Pairs that share a child are not quite: where there are several parents, pass the mean over the
    pairs of each.

    Raises:
        ValueError: not a table of finite numbers, or a confidence outside 0 to 1.
    """
    table = as_table(barriers)
    check_confidence(confidence)
    pairs = table.shape[1]
    mean = table.mean(1)
    if pairs == 1:
        reach = np.full_like(mean, np.inf)
    else:
        quantile = student.ppf(0.5 + confidence / 2, pairs - 1)
        reach = quantile * table.std(1, ddof=1) / np.sqrt(pairs)
    return MeanBarrier(mean, mean - reach, mean + reach)


def linearly_connected(barriers: ArrayLike, threshold: float = THRESHOLD) -> Bool[ndarray, "T"]:
    """At which spawn times the mean over pairs of (T, pairs) barriers is below the threshold.

    Raises:
        ValueError: not a table of finite numbers.
    """
    return as_table(barriers).mean(1) < threshold


def as_table(barriers: ArrayLike) -> Float[ndarray, "T pairs"]:
    """Barriers as a float64 table, (T, pairs).

    Raises:
        ValueError: not two axes, an empty one, or a number that is not finite.
    """
    table = np.asarray(barriers, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(
            f"the barriers have shape {table.shape}; pass a row for every spawn time and a column "
            "for every pair of children."
        )
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(
            f"the barrier of spawn time {row} and pair {column} is {table[row, column]}; leave out "
            "pairs with a child that diverged."
        )
    return table


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no share.

    Raises:
        ValueError: not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; pass a share between 0 and 1, such as 0.95.")
