"""One row of the referees' table, and how a deviation is counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Ruling:
    """What a referee found on one quantity.

    Attributes:
        quantity: in words.
        referee: library and version.
        cases: random cases looked at.
        deviation: largest of them; relative unless the quantity says otherwise.
        bound: what it must not exceed.
    """

    quantity: str
    referee: str
    cases: int
    deviation: float
    bound: float

    @property
    def ok(self) -> bool:
        """Within the bound; nan is not."""
        return self.deviation <= self.bound


def deviation(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Largest difference over the largest entry of the referee's answer.

    Raises:
        ValueError: answers of different shapes.
    """
    mine, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if mine.shape != other.shape:
        raise ValueError(f"the project answers {mine.shape}, the referee {other.shape}.")
    scale = float(np.abs(other).max())
    return float(np.abs(mine - other).max()) / (scale if scale > 0 else 1.0)
