"""Basin time: the spawn time from which on children end in one linearly connected basin."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ntkscale.landscape.connectivity import (
    THRESHOLD,
    as_table,
    check_confidence,
    linearly_connected,
)


@dataclass(frozen=True)
class BasinTime:
    """When the basin of the final solution is fixed.

    Attributes:
        time: earliest spawn time from which on the mean barrier stays below the threshold, in the
            unit of the spawn times; inf where it does not at the last one.
        interval: of the bootstrap over pairs; (0, inf) for a single pair, which says nothing.
        never: share of the bootstrap's draws with time inf; nan for a single pair.
        stable_from_initialisation: spawned at time 0 and connected: there is no transition to see.
        chaotic_throughout: connected at no spawn time: they end before the transition, or the
            learning rate never lets two children stay together.
    """

    time: float
    interval: tuple[float, float]
    never: float
    stable_from_initialisation: bool
    chaotic_throughout: bool


def basin_time(
    spawn_times: ArrayLike,
    barriers: ArrayLike,
    *,
    threshold: float = THRESHOLD,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> BasinTime:
    """Find the basin time of barriers between finished children.

    The bootstrap draws pairs with replacement, the same at all spawn times. Pairs of children of
    one parent are alike: with several parents, pass the mean over the pairs of each as one column.

    Args:
        spawn_times: (T,) ascending.
        barriers: (T, pairs), column p the same pair of children (or parent) at every spawn time.
        threshold: on the mean barrier over pairs.
        confidence: of the interval.
        draws: of the bootstrap.
        seed: of its random numbers.

    Cost: draws * T * pairs additions.

    Source: Fort et al. 2020 (arXiv 2010.15110), parent-child spawning and the error barrier; the
    threshold is a convention.

    Raises:
        ValueError: times that do not ascend or fit the barriers, barriers that are not finite, a
            confidence outside 0 to 1, or no draws.
    """
    table = as_table(barriers)
    times = np.asarray(spawn_times, dtype=np.float64)
    if times.shape != table.shape[:1]:
        raise ValueError(
            f"there are {table.shape[0]} rows of barriers for spawn times of shape {times.shape}; "
            "pass one time a row."
        )
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise ValueError("the spawn times must be finite and ascend; sort them with their rows.")
    check_confidence(confidence)
    if draws < 1:
        raise ValueError(f"draws is {draws}; 2000 are usual.")
    connected = linearly_connected(table, threshold)
    interval, never = (0.0, np.inf), np.nan
    pairs = table.shape[1]
    if pairs > 1:
        # How often each pair is drawn, which is all that a mean needs.
        drawn = np.random.default_rng(seed).multinomial(pairs, np.full(pairs, 1 / pairs), draws)
        resampled = _from_which_on(times, (table @ drawn.T / pairs < threshold).T)
        # A quantile that is one of the draws: between a time and inf there is no mean.
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(resampled, tails, method="inverted_cdf")
        interval, never = (float(low), float(high)), float(np.isinf(resampled).mean())
    return BasinTime(
        time=float(_from_which_on(times, connected[None])[0]),
        interval=interval,
        never=never,
        stable_from_initialisation=bool(times[0] == 0 and connected[0]),
        chaotic_throughout=not connected.any(),
    )


def _from_which_on(
    times: Float[ndarray, "T"], connected: Bool[ndarray, "draws T"]
) -> Float[ndarray, "draws"]:
    """Earliest time from which on all is connected; inf where the last is not."""
    staying = np.logical_and.accumulate(connected[:, ::-1], axis=1)[:, ::-1]
    return np.where(staying[:, -1], times[staying.argmax(1)], np.inf)
