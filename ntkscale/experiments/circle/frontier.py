"""The compute frontier of real networks: the least loss of a ladder of widths for its compute.

Compute is C = N t, width times flow time, as in the theory, and besides the multiply-adds that a
training takes, whose steps shorten while the kernel grows. The lazy ladder is the exact flow of
each network's initial kernel, the rich one is trained. The points resolve far more modes than the
networks have parameters for, so that the loss on them is that of the whole circle. What theory says
of the frontier is mse ~ C^-r at the best width: r = alpha beta / (1 + alpha) for lazy networks on a
hard task, 2 alpha beta / (2 + alpha (1 + beta)) for rich ones (arXiv 2409.17858, table 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t as student

from ntkscale.experiments.circle.cells import infinite_spectrum
from ntkscale.experiments.circle.measures import Trained, alike
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.scaling import local_slope, predict

Cost = Literal["N t", "multiply-adds"]

DRIFT = 0.25
"""Change of the local slope along the frontier, over its mean, up to which it counts as flat."""
FEWEST_DECADES = 2.0
"""A frontier over less compute than this has no slope to speak of."""
_GRID = 25  # points a decade of compute
_SPAN = 1.0  # decades a local slope is taken over: about from one best width to its double


@dataclass(frozen=True)
class Frontier:
    """Loss against compute for one ladder of widths.

    Attributes:
        kind: "lazy", or "gamma0 = ...".
        beta: source exponent of the target.
        cost: what compute is.
        curves: for each width compute and mean mse over seeds, with tail.
        compute: where an inner width is best, log-spaced.
        mse: least mean mse there.
        best: the width that has it.
        slope_at: compute half a decade or more from both ends of this.
        slope: local slopes of mse ~ compute^-slope there, over a decade each: doubling the width
            leaves the envelope of a perfect law with kinks, which shorter ones would see.
        spread: standard errors of these over seeds, by the jackknife.
        exponent: their mean; nan where there is too little compute.
        interval: 95 %, over seeds.
        drift: largest minus smallest local slope, over the mean.
        predicted: exponent of theory.
    """

    kind: str
    beta: float
    cost: Cost
    curves: dict[int, tuple[Float[ndarray, "T"], Float[ndarray, "T"]]]
    compute: Float[ndarray, "G"]
    mse: Float[ndarray, "G"]
    best: Float[ndarray, "G"]
    slope_at: Float[ndarray, "H"]
    slope: Float[ndarray, "H"]
    spread: Float[ndarray, "H"]
    exponent: float
    interval: tuple[float, float]
    drift: float
    predicted: float

    @property
    def decades(self) -> float:
        """Length of the frontier in decades of compute."""
        return float(np.log10(self.compute[-1] / self.compute[0])) if len(self.compute) else 0.0

    @property
    def reached(self) -> bool:
        """Whether there is a slope to speak of."""
        return self.decades >= FEWEST_DECADES and self.drift <= DRIFT


Ladder = dict[int, list[tuple[Float[ndarray, "T"], Float[ndarray, "T"]]]]
"""For each width the compute and the mse, with tail, of every seed."""


def frontier(ladder: Ladder, kind: str, beta: float, cost: Cost, predicted: float) -> Frontier:
    """The lower envelope of seed-averaged curves over widths, and its local slope.

    Raises:
        ValueError: fewer than three widths: none of them lies between others.
    """
    if len(ladder) < 3:
        raise ValueError("a frontier needs three widths or more; give --width more of them.")
    low = min(c[0] for runs in ladder.values() for c, _ in runs)
    high = max(c[-1] for runs in ladder.values() for c, _ in runs)
    grid = np.geomspace(low, high, max(2, round(_GRID * np.log10(high / low))))
    # (widths, seeds, grid): infinite before a curve begins, its last value where it has ended.
    widths = sorted(ladder)
    count = min(len(runs) for runs in ladder.values())
    loss = np.array([[_on(grid, *run) for run in ladder[width][:count]] for width in widths])
    mean = loss.mean(axis=1)
    best = np.argmin(mean, axis=0)
    # Before the smallest and from the largest width on, the frontier is that of a single network,
    # and where the best curve has ended nobody knows how it would have gone on.
    ends = np.array([min(c[-1] for c, _ in ladder[width]) for width in widths])
    inner = (best > 0) & (best < len(widths) - 1) & (grid <= ends[best])
    inner &= np.isfinite(mean[-1]) & (np.cumsum(grid > ends[best]) == 0)
    kept = grid[inner]
    nothing = np.empty(0)
    slope, spread, exponent, interval, drift = nothing, nothing, np.nan, (np.nan, np.nan), np.nan
    half = 10 ** (_SPAN / 2)
    middle = (kept >= half * kept[:1]) & (kept <= kept[-1:] / half)
    if middle.sum() >= 2:
        envelope = mean.min(axis=0)[inner]
        slope = local_slope(kept, envelope, span=_SPAN)[1][middle]
        exponent = float(slope.mean())
        drift = float(np.ptp(slope) / abs(exponent))
        if count > 1:
            without = [
                np.delete(loss, s, axis=1).mean(axis=1).min(axis=0)[inner] for s in range(count)
            ]
            jackknife = np.array([local_slope(kept, o, span=_SPAN)[1][middle] for o in without])
            factor = (count - 1) / np.sqrt(count)
            spread = factor * jackknife.std(axis=0, ddof=1)
            error = factor * jackknife.mean(axis=1).std(ddof=1)
            reach = float(student.ppf(0.975, count - 1) * error)
            interval = (exponent - reach, exponent + reach)
    return Frontier(
        kind=kind,
        beta=beta,
        cost=cost,
        curves={
            width: (grid[shown], one[shown])
            for width, one, end in zip(widths, mean, ends, strict=True)
            if len(shown := np.flatnonzero(np.isfinite(one) & (grid <= end)))
        },
        compute=kept,
        mse=mean.min(axis=0)[inner],
        best=np.array(widths)[best[inner]],
        slope_at=kept[middle],
        slope=slope,
        spread=spread,
        exponent=exponent,
        interval=interval,
        drift=drift,
        predicted=predicted,
    )


def _on(grid: ndarray, compute: ndarray, mse: ndarray) -> ndarray:
    return np.exp(np.interp(np.log(grid), np.log(compute), np.log(mse), left=np.inf))


def frontiers(cells: Sequence[Trained], settings: CircleSettings) -> list[Frontier]:
    """Lazy and rich frontiers of every target, in both kinds of compute."""
    rich = [cell for cell in cells if not cell.condition.lazy]
    found: list[Frontier] = []
    for own in alike(rich, "width", "gamma0"):
        base = own[0].baseline
        says = predict(2.0 * own[0].condition.power, base.source)
        richest = [c for c in own if c.gamma0 == own[0].gamma0]
        costs: tuple[Cost, ...] = ("N t", "multiply-adds")
        for cost in costs:
            ladder = _ladder([(c, *_lazy(c, settings)) for c in richest], settings, cost)
            found.append(frontier(ladder, "lazy", base.beta, cost, says.compute_lazy))
        for gamma0 in dict.fromkeys(cell.gamma0 for cell in own):
            runs = [(c, c.times[1:], c.steps[1:], c.mse[1:]) for c in own if c.gamma0 == gamma0]
            for cost in costs:
                ladder = _ladder(runs, settings, cost)
                kind = f"gamma0 = {gamma0:g}"
                found.append(frontier(ladder, kind, base.beta, cost, says.compute_rich))
    return found


def _lazy(cell: Trained, settings: CircleSettings) -> tuple[ndarray, ndarray, ndarray]:
    """Times, steps and mse of the exact lazy flow, until the mode P/8 is learned."""
    base = cell.baseline
    last = 0.25 / float(infinite_spectrum(settings, cell.condition)[settings.points // 8])
    times = np.geomspace(cell.times[1], last, 200)
    return (
        times,
        times * base.eigenvalues[0] / settings.step_fraction,
        base.lazy_curve(times) + base.tail,
    )


def _ladder(
    runs: Sequence[tuple[Trained, ndarray, ndarray, ndarray]], settings: CircleSettings, cost: Cost
) -> Ladder:
    found: Ladder = {}
    for cell, times, steps, mse in runs:
        width, depth = cell.condition.width, cell.condition.depth
        if cost == "N t":
            compute = width * times
        else:
            # Forward, and twice that backward: two inputs, square layers, one output.
            compute = 3 * settings.points * (3 * width + (depth - 1) * width**2) * steps
        found.setdefault(width, []).append((compute, mse))
    return found
