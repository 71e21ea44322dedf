"""Hard, easy or super-easy: where a task stands for a kernel."""

import math
from typing import Literal

Regime = Literal["hard", "easy", "super-easy"]

_TIE = 1e-12  # rounding of 2 - 1/alpha


def regime(alpha: float, beta: float) -> Regime:
    """Place a task of source exponent ``beta`` under a kernel of capacity exponent ``alpha``.

    - hard, beta < 1: the target has infinite norm in the kernel's space; the kernel keeps growing
      while a rich network learns, and the loss falls faster than a lazy network's.
    - easy, 1 <= beta < 2 - 1/alpha: the norm is finite and the kernel settles.
    - super-easy, beta >= max(1, 2 - 1/alpha): the noise of small batches, not the target, decides
      how fast the loss falls at late times.

    Ties go to the easier side. For alpha <= 1 the second threshold is below the first, and there
    is no easy regime between hard and super-easy.

    Source: Bordelon, Atanasov & Pehlevan 2024 (arXiv 2409.17858), the regimes of its compute table.

    Raises:
        ValueError: alpha or beta is not a positive finite number.
    """
    check_exponents(alpha, beta)
    if beta >= max(1.0, 2.0 - 1.0 / alpha) - _TIE:
        return "super-easy"
    return "easy" if beta >= 1.0 - _TIE else "hard"


def check_exponents(alpha: float, beta: float) -> None:
    """Raise ValueError unless both exponents are positive and finite."""
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"{name} must be a positive finite number, not {value}; fit it in a window where "
                "the spectrum and the remaining power fall."
            )
