"""What the solvable model needs of a kernel and a task: eigenvalues, and the target on them.

A row stands for `count` modes that are alike: for a power law, modes are gathered into bins which
are equally wide on a logarithmic axis; a measured spectrum has rows of one mode.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike
from scipy.special import zeta

SINGLE = 50
"""The first modes of a power law are rows of their own: their bins would be too coarse."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the kernel and target coefficients, float64, largest eigenvalue first.

    Attributes:
        eigenvalues: lambda_k of one mode of the row, in units of 1 / flow time.
        target: w*_k of one mode of the row, for each of C outputs. The target's power on the row is
            count lambda_k |w*_k|^2.
        count: how many modes the row stands for; need not be whole.
        tail_power: power of the target beyond the rows, in target^2. It is never learned, and
            belongs to every mse.
        tail_trace: sum of the eigenvalues beyond the rows. Modes of a spectrum that fall slowly act
            on a model of finite width or on finite data, together, as a ridge.
    """

    eigenvalues: Float[ndarray, "M"]
    target: Float[ndarray, "M C"]
    count: Float[ndarray, "M"]
    tail_power: float = 0.0
    tail_trace: float = 0.0

    @property
    def power(self) -> Float[ndarray, "M"]:
        """Power of the target on each row, count lambda_k |w*_k|^2, summed over outputs."""
        return self.count * self.eigenvalues * np.square(self.target).sum(axis=1)

    @property
    def total_power(self) -> float:
        """mse of a model that answers zero."""
        return float(self.power.sum()) + self.tail_power

    @property
    def num_modes(self) -> float:
        """How many modes the rows stand for."""
        return float(self.count.sum())


def power_law(
    alpha: float, beta: float, *, num_modes: int, modes_per_decade: int | None = None
) -> Spectrum:
    """lambda_k = k^-alpha and lambda_k w*_k^2 = k^-(alpha beta + 1), k = 1 ... num_modes.

    What lies beyond `num_modes` is in the tails, in closed form. Source: arXiv 2409.17858,
    section 2; the simulations' choice of prefactors.

    Args:
        alpha: capacity, above 1: the trace of the kernel is finite.
        beta: source, above 0: the power of the target is finite.
        num_modes: M.
        modes_per_decade: rows a decade of k beyond the first 50, for solvers that do not need
            single modes; bins keep the trace and the power of their modes. None: a row a mode.

    Cost: O(M) where each mode has a row, else O(rows).

    Raises:
        ValueError: alpha <= 1, beta <= 0, or fewer than one mode or row.
    """
    if not (math.isfinite(alpha) and alpha > 1):
        raise ValueError(
            f"alpha must be above 1, got {alpha}: an infinite spectrum k^-alpha with alpha <= 1 "
            "has no finite trace; give such a spectrum as measured, with its last eigenvalue."
        )
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(
            f"beta must be above 0, got {beta}: at or below it the target's power is infinite."
        )
    if num_modes < 1:
        raise ValueError(f"num_modes must be at least 1, got {num_modes}.")
    if modes_per_decade is None:
        edges = np.arange(num_modes + 1, dtype=np.float64)
    elif modes_per_decade < 1:
        raise ValueError(f"modes_per_decade must be at least 1, got {modes_per_decade}.")
    else:
        edges = _edges(num_modes, modes_per_decade)
    count = np.diff(edges)
    if modes_per_decade is None:
        eigenvalues = edges[1:] ** -alpha
        power = edges[1:] ** -(alpha * beta + 1)
    else:
        eigenvalues = -np.diff(zeta(alpha, edges + 1)) / count
        power = -np.diff(zeta(alpha * beta + 1, edges + 1)) / count
        alone = count == 1
        # Differences of zeta functions lose digits where they are not needed.
        eigenvalues[alone] = edges[1:][alone] ** -alpha
        power[alone] = edges[1:][alone] ** -(alpha * beta + 1)
    return Spectrum(
        eigenvalues,
        np.sqrt(power / eigenvalues)[:, None],
        count,
        tail_power=float(zeta(alpha * beta + 1, num_modes + 1)),
        tail_trace=float(zeta(alpha, num_modes + 1)),
    )


def measured(
    eigenvalues: ArrayLike,
    coefficients: ArrayLike,
    *,
    tail_power: float = 0.0,
    tail_trace: float = 0.0,
) -> Spectrum:
    """The spectrum of a kernel matrix and a target, from a network or from anywhere.

    Args:
        eigenvalues: (M,) of K / P on P points, in any order. Those that are zero to rounding, or
            negative, are never learned: the power along them goes to the tail.
        coefficients: (M,) or (M, C), u_k . y / sqrt(P) for the unit eigenvectors u_k: their squares
            are the power of the target, in target^2. Signs matter where C > 1.
        tail_power: power of the target beyond the points' resolution.
        tail_trace: sum of eigenvalues beyond it.

    Raises:
        ValueError: shapes do not fit, numbers are not finite, a tail is negative, or no eigenvalue
            is positive.
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    along = np.asarray(coefficients, dtype=np.float64)
    along = along[:, None] if along.ndim == 1 else along
    if values.ndim != 1 or along.ndim != 2 or len(along) != len(values):
        raise ValueError(
            f"eigenvalues {values.shape} and coefficients {along.shape} do not belong together; "
            "give (M,) and (M,) or (M, C)."
        )
    if not (np.isfinite(values).all() and np.isfinite(along).all()):
        raise ValueError(
            "eigenvalues or coefficients hold a number that is not finite; look for an overflow in "
            "the kernel or the targets."
        )
    if not (0 <= tail_power < math.inf and 0 <= tail_trace < math.inf):
        raise ValueError(
            f"tails are sums of squares and cannot be negative or infinite, got tail_power "
            f"{tail_power} and tail_trace {tail_trace}."
        )
    order = np.argsort(-values, kind="stable")
    values, along = values[order], along[order]
    if not len(values) or values[0] <= 0:
        raise ValueError("no eigenvalue is positive: this is not a kernel's spectrum; check it.")
    kept = values > np.finfo(np.float64).eps * len(values) * values[0]
    return Spectrum(
        values[kept],
        along[kept] / np.sqrt(values[kept])[:, None],
        np.ones(int(kept.sum())),
        tail_power=tail_power + float(np.square(along[~kept]).sum()),
        tail_trace=tail_trace,
    )


def _edges(num_modes: int, modes_per_decade: int) -> Float[ndarray, "R"]:
    """0, 1, ..., 50, then whole numbers equally spaced in log k up to M."""

    def edges() -> Iterator[float]:
        yield from range(min(SINGLE, num_modes) + 1)
        steps = math.ceil(math.log10(max(1.0, num_modes / SINGLE)) * modes_per_decade)
        for i in range(1, steps + 1):
            yield round(SINGLE * (num_modes / SINGLE) ** (i / steps))

    return np.unique(np.fromiter(edges(), dtype=np.float64))
