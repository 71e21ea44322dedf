"""Numbers estimated from random vectors, and the intervals they come with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate; `float(estimate)` gives it too.
        interval: lower and upper end.
        level: probability with which the interval is meant to cover the exact number.
        products: products with the matrix that were spent.
        passes: VJPs over all samples that these took, and as many JVPs; VJPs alone where there were
            no products; 0 for a plain matrix.
    """

    value: float
    interval: tuple[float, float]
    level: float
    products: int
    passes: int = 0

    def __float__(self) -> float:
        return self.value


def mean_interval(
    samples: Float[Tensor, "m ..."], level: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Mean over independent samples, and the ends of its interval, without assuming a sign.

    The interval is Student's. Samples v . A v of a positive semi-definite A are sums of squares,
    which are skewed: a mean that is too small comes with a variance that is too small. So where no
    sample is negative the upper end is that of the mean's cube root, which is nearly normal for
    sums of squares (Wilson and Hilferty 1931). Measured, a matrix dominated by two eigenvalues, 6
    samples, level 0.95: covered in 0.85 without it and 0.9 with it; where many eigenvalues count
    the two ends agree.

    Raises:
        ValueError: fewer than two samples, or a level outside (0, 1).
    """
    m = samples.shape[0]
    if m < 2:
        raise ValueError(f"{m} sample has no variance; an interval needs at least two.")
    mean, spread = samples.mean(0), samples.std(0) / math.sqrt(m)
    margin = student_t(m - 1, level) * spread
    skewed = mean * (1 + margin / (3 * mean)) ** 3
    positive = (samples >= 0).all(0) & (mean > 0)
    return mean, mean - margin, torch.where(positive, skewed, mean + margin)


def student_t(freedom: int, level: float) -> float:
    """The t that |T| stays below with probability `level`, at a whole number of degrees of freedom.

    Source: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4, inverted by bisection.

    Raises:
        ValueError: no degree of freedom, or a level outside (0, 1).
    """
    if freedom < 1 or not 0 < level < 1:
        raise ValueError(
            f"{freedom} degrees of freedom at level {level}; give at least 1, and a level between "
            "0 and 1."
        )
    low, high = 0.0, 1.0
    while _within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * i / (i + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
