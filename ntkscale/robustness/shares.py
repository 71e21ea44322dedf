"""Shares of correct answers with exact intervals, and which of many exceed chance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats


@dataclass(frozen=True)
class Shares:
    """How often each of k functions is right on the same m samples.

    Attributes:
        correct: (k,) counts.
        total: m.
    """

    correct: Int[np.ndarray, "k"]
    total: int

    @property
    def value(self) -> Float[np.ndarray, "k"]:
        """Shares, between 0 and 1."""
        return self.correct / self.total

    def interval(self, level: float = 0.95) -> Float[np.ndarray, "k 2"]:
        """Exact binomial intervals (Clopper & Pearson 1934) of coverage `level` or more."""
        tail, wrong = (1 - level) / 2, self.total - self.correct
        # The beta quantiles of no success and of no failure are nan; they are the ends.
        with np.errstate(invalid="ignore"):
            low = stats.beta.ppf(tail, self.correct, wrong + 1)
            high = stats.beta.ppf(1 - tail, self.correct + 1, wrong)
        low, high = np.where(self.correct == 0, 0.0, low), np.where(wrong == 0, 1.0, high)
        return np.stack((low, high), axis=1)


def useful_features(shares: Shares, *, false_discovery_rate: float = 0.05) -> Bool[np.ndarray, "k"]:
    """Which shares exceed 1/2, the rate of false ones among them held below a bound on average.

    One-sided exact binomial tests against 1/2, then Benjamini & Hochberg 1995. Where every share is
    chance, as with shuffled labels, at least one is found in that fraction of cases: on few samples
    the best of many features looks useful by luck alone.

    Raises:
        ValueError: a rate that is not between 0 and 1.
    """
    if not 0 < false_discovery_rate < 1:
        raise ValueError(
            f"false_discovery_rate must be between 0 and 1, got {false_discovery_rate}."
        )
    p = stats.binom.sf(shares.correct - 1, shares.total, 0.5)
    return stats.false_discovery_control(p) <= false_discovery_rate


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation.

    Attributes:
        value: between -1 and 1.
        p_value: two-sided, of none.
        interval: 95 %, from resampling the pairs.
    """

    value: float
    p_value: float
    interval: tuple[float, float]


def rank_correlation(
    first: Float[np.ndarray, "k"],
    second: Float[np.ndarray, "k"],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> RankCorrelation:
    """Spearman's correlation of two lists, such as index and robustness of features.

    Args:
        first, second: at least three numbers each.
        resamples: bootstrap samples of the pairs, for the interval.
        seed: of them.

    Raises:
        ValueError: lists of different length, fewer than three pairs, or a constant list.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 3:
        raise ValueError(
            f"lists of shape {first.shape} and {second.shape} have no rank correlation: give two "
            "of equal length, at least 3."
        )
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise ValueError("a constant list has no rank correlation: give one that varies.")
    found = stats.spearmanr(first, second)
    drawn = np.random.default_rng(seed).integers(len(first), size=(resamples, len(first)))
    ranks = [stats.rankdata(values[drawn], axis=1) for values in (first, second)]
    ranks = [r - r.mean(1, keepdims=True) for r in ranks]
    norm = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    kept = norm > 0  # a draw of one value over and over has no correlation
    again = (ranks[0] * ranks[1]).sum(1)[kept] / norm[kept]
    low, high = np.quantile(again, [0.025, 0.975])
    return RankCorrelation(
        float(found.statistic),  # pyright: ignore[reportAttributeAccessIssue]
        float(found.pvalue),  # pyright: ignore[reportAttributeAccessIssue]
        (float(low), float(high)),
    )
