"""Which part of a curve is a power law: as long as possible, and never without saying so.

A power law is a statement about late x, so an early transient may be cut off. A late departure (a
plateau, a cut-off) contradicts it: the part before is then reported, but not called a power law.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ntkscale.scaling.curves import LogCurve
from ntkscale.scaling.departure import Departure

TOLERATED_DRIFT = 0.35
"""Change of the local exponent over a window, relative to its mean, up to which a significant bend
is taken as the crossover or the finite window that every real curve has."""

_SHORTEST = 1.0 / 3.0  # of the whole curve in log x
_DECADE = float(np.log(10.0))
_FEWEST = 8
_CUTS = 8  # per end


@dataclass(frozen=True)
class Window:
    """Points ``start`` to ``stop`` (exclusive) of a curve, the bend there, and the verdict.

    Attributes:
        bend: departure from the law inside the window.
        holds: the law holds there and from there on to the end of the curve.
        reason: why not, or what was cut; empty when the whole curve follows the law.
    """

    start: int
    stop: int
    bend: Departure
    holds: bool
    reason: str


def bends(bend: Departure, tolerated: float = TOLERATED_DRIFT) -> bool:
    """Whether a departure is both more than noise and more than a finite window explains."""
    return bend.significant and bend.drift > tolerated


def choose_window(curve: LogCurve, measure: Callable[[LogCurve], Departure]) -> Window:
    """Choose the longest part of ``curve`` on which the law fitted by ``measure`` holds.

    The whole curve, unless it bends by more than its noise and by more than ``TOLERATED_DRIFT``.
    Then the shortest cut at the beginning that leaves at least a decade, a third of the range in
    log x, half of the change in log y and a bend of half the tolerated size. If there is none, the
    same with cuts at both ends, for the report only.

    Cost: one fit and one departure per candidate, 64 at most.
    """
    n = len(curve.u)
    whole = measure(curve)
    if not bends(whole):
        return Window(0, n, whole, True, "")
    u, v = curve.u, curve.v
    span, change = u[-1] - u[0], abs(_level(v, n) - _level(v, 0))
    shortest = max(_SHORTEST * span, min(_DECADE, span))
    cuts = np.linspace(0.0, max(span - shortest, 0.0), _CUTS)

    def candidate(early: float, late: float) -> tuple[int, int] | None:
        start = int(np.searchsorted(u, u[0] + early - 1e-9))
        stop = int(np.searchsorted(u, u[-1] - late + 1e-9))
        long_enough = stop - start >= _FEWEST and u[stop - 1] - u[start] >= 0.98 * shortest
        return (start, stop) if long_enough else None

    def straight(start: int, stop: int) -> Departure | None:
        bend = measure(curve.part(start, stop))
        return bend if bend.drift < TOLERATED_DRIFT / 2 and not bends(bend, 0.1) else None

    for early in cuts[1:]:
        found = candidate(early, 0.0)
        if found is None or abs(_level(v, n) - _level(v, found[0])) < change / 2:
            continue
        bend = straight(*found)
        if bend is not None:
            first = np.exp(u[found[0]] + curve.centre)
            return Window(*found, bend, True, f"the law holds from x = {first:.3g} on")
    for total in cuts[1:]:
        for late in cuts[(cuts > 0) & (cuts <= total)]:
            found = candidate(total - late, late)
            bend = None if found is None else straight(*found)
            if found is not None and bend is not None:
                return Window(*found, bend, False, _late_departure(curve, found[1], bend))
    return Window(0, n, whole, False, f"no power law: {describe_bend(whole)}")


def describe_bend(bend: Departure) -> str:
    """Words for the local exponents of a curve that bends."""
    first, middle, last = bend.exponents
    return f"the local exponent goes {first:.3g}, {middle:.3g}, {last:.3g} over the window"


def _late_departure(curve: LogCurve, stop: int, bend: Departure) -> str:
    u, v = curve.u, curve.v
    until = np.exp(u[stop - 1] + curve.centre)
    after = -np.polyfit(u[stop - 2 :], v[stop - 2 :], 1)[0] if stop < len(u) - 1 else 0.0
    here = float(np.mean(bend.exponents))
    flatter = abs(after) < abs(here)
    what = "levels off" if flatter else "steepens"
    cure = "fit offset=True, or give" if flatter else "give"
    return (
        f"the curve {what} beyond x = {until:.3g} (local exponent {after:.3g} there, {here:.3g} "
        f"before); {cure} the window in which a power law is meant"
    )


def _level(v: np.ndarray, at: int) -> float:
    """Mean of log y over up to three points from, or up to, one index."""
    n = len(v)
    near = v[max(0, at - 3) : at] if at == n else v[at : at + 3]
    return float(near.mean())
