"""What is claimed of features at the end of training, each claim with condition, bound and figure.

Zhou & Ge 2024 give a theorem and no numbers: the bounds here hold the theorem's orders (angle ~
lambda, MSE ~ lambda^2) and what was found for ReLU on the presets. Other settings show the same
figures without a mark. Bounds are on every seed, not on the mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.local_analysis.measures import Bridge, Descent, slope
from ntkscale.reporting import Entry, Mark

SMALL = 0.025 * (1 + 1e-9)
"""lambda up to which angles are proportional to it; in units of ReLU's power."""

APART = 50 - 1e-6
"""Degrees between teacher directions from which the formula for MSE is judged."""

FINAL = "final phase, lambda = 0"


@dataclass(frozen=True)
class Claim:
    """One line of the verdict.

    Attributes:
        what: is claimed.
        condition: under which.
        bound: in words; empty: none.
        found: mean over seeds with its interval, or the worst seed.
        each: the number of every seed, as text.
        holds: on how many of the seeds; empty without a bound.
        figure: where it is drawn; empty: nowhere.
    """

    what: str
    condition: str
    bound: str
    found: Entry
    each: str
    holds: str = ""
    figure: str = ""


def _claim(
    what: str,
    condition: str,
    values: Sequence[float],
    bound: str = "",
    holds: Callable[[float], bool] | None = None,
    *,
    judged: bool,
    figure: str = "",
    digits: int = 3,
) -> Claim:
    """A claim on every seed: marked if it is judged and has a bound."""
    known = [value for value in values if np.isfinite(value)]
    spans = len(known) > 0 and min(known) > 0 and max(known) > 100 * min(known)
    entry = mean_over_seeds(known, digits=digits)
    if spans or (known and max(abs(value) for value in known) < 1e-6):  # no mean says anything
        entry = Entry(f"{min(known):.1e} to {max(known):.1e}")
    mark: Mark | None = None
    if judged and holds is not None:
        mark = "pass" if len(known) == len(values) and all(map(holds, known)) else "fail"
    each = ", ".join(_short(value, digits) for value in values)
    count = f"{sum(map(holds, known))} of {len(values)}" if holds is not None else ""
    found = Entry(entry.value, entry.interval, mark, digits)
    return Claim(what, condition, bound, found, each, count, figure)


def _short(value: float, digits: int) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.{digits}f}" if 10**-digits <= abs(value) < 1e4 else f"{value:.1e}"


def of_descents(own: Sequence[Descent], judged: bool) -> list[Claim]:
    """Claims on all seeds of one nonlinearity and loss."""
    first = own[0]
    small = first.lam <= SMALL * first.record["scale"]
    exact = not first.samples
    last = f"lambda = {first.lam[-1]:.3g}"
    found = [
        _claim("mass farther than 10 degrees", f"three stages, {last}",
               [one.ends("schedule", "far_10")[-1] for one in own], "below 1e-6",
               lambda v: v < 1e-6, judged=judged, figure="stages"),
    ]  # fmt: skip
    for arm, words in (("no-regularisation", "stages 1, 2"), ("neither", "no stage 1")):
        if arm in first.arms:
            found += [
                _claim("mass farther than 10 degrees", f"{words}, then lambda = 0",
                       [one.ends(arm, "far_10")[-1] for one in own], "above .1",
                       lambda v: v > 0.1, judged=judged, figure="stages"),
                _claim("its loss over that of the schedule", f"{words}, then lambda = 0",
                       [one.ends(arm, "mse")[-1] / one.ends("schedule", "mse")[-1] for one in own],
                       "below 1", lambda v: v < 1, judged=judged, figure="stages", digits=4),
            ]  # fmt: skip
    if "no-stage-1" in first.arms:
        found.append(
            _claim("mass farther than 10 degrees", f"no stage 1, {last}",
                   [one.ends("no-stage-1", "far_10")[-1] for one in own], judged=False,
                   figure="stages")
        )  # fmt: skip
    if small.sum() > 1:
        found.append(
            _claim("weighted angle / lambda, largest deviation from its mean", "lambda <= .025",
                   [_deviation(one, small) for one in own], "at most .1", lambda v: v <= 0.1,
                   judged=judged, figure="laws")
        )  # fmt: skip
        found += [
            _claim(f"slope of {words} against lambda", "lambda <= .025",
                   [slope(one.lam[small], one.ends("schedule", name)[small]) for one in own],
                   "in [.9, 1.1]", lambda v: 0.9 <= v <= 1.1, judged=judged, figure="laws")
            for name, words in (("largest_angle", "largest angle"), ("group_error", "group error"))
        ]  # fmt: skip
    if len(first.lam) > 1:
        found.append(
            _claim("slope of MSE against lambda", "every lambda",
                   [slope(one.lam, one.ends("schedule", "mse")) for one in own],
                   "in [1.9, 2.1]", lambda v: 1.9 <= v <= 2.1, judged=judged, figure="laws")
        )  # fmt: skip
    angle = min(one.record["least_angle"] for one in own)
    apart = judged and angle >= APART
    for words, few in (("every lambda", np.ones_like(small)), ("lambda <= .025", small)):
        if not few.any():
            continue
        ratios = [_ratios(one, few) for one in own]
        found += [
            _claim(f"MSE over the formula, {which}", f"{words}; {angle:.0f} degrees apart",
                   [float(pick(r)) for r in ratios], "in [1, 1.6]", lambda v: 1 <= v <= 1.6,
                   judged=apart, figure="laws", digits=4)
            for which, pick in (("smallest", np.min), ("largest", np.max))
        ]  # fmt: skip
    if exact:
        found += _of_certificates(own, small, judged)
    found.append(
        _claim("|P w|^2 of rows after stage 1", "P on the teacher's subspace",
               [one.at("schedule", "stage=1", "rows_capture") for one in own], "above .8",
               lambda v: v > 0.8, judged=judged, figure="neurons")
    )  # fmt: skip
    if np.isfinite(first.final("schedule", "mse")):
        found += [
            _claim("mass farther than 10 degrees", f"three stages, then {FINAL}",
                   [one.final("schedule", "far_10") for one in own], "below 1e-6",
                   lambda v: v < 1e-6, judged=judged, figure="stages"),
            _claim("MSE", f"three stages, then {FINAL}",
                   [one.final("schedule", "mse") for one in own], judged=False, figure="stages"),
        ]  # fmt: skip
    return found


def _of_certificates(own: Sequence[Descent], small: np.ndarray, judged: bool) -> list[Claim]:
    ranges = [("every lambda", np.ones_like(small)), ("lambda <= .025", small)]
    return [
        *(
            _claim("max |eta| - 1 over the sphere", words,
                   [np.max(np.array(one.certificates("schedule", "largest"))[few]) - 1
                    for one in own],
                   "at most 1e-3", lambda v: v <= 1e-3, judged=judged, figure="certificate",
                   digits=5)
            for words, few in ranges if few.any()
        ),
        _claim("|1 - mean of eta sign(a)| at the neurons, weighted by mass", "every lambda",
               [max(abs(1 - eta) for eta in one.certificates("schedule", "support"))
                for one in own],
               "at most 1e-3", lambda v: v <= 1e-3, judged=judged, figure="certificate", digits=5),
        _claim("exact loss against samples [standard errors]", "after stage 2",
               [abs(one.record["monte_carlo"]) for one in own], "at most 4", lambda v: v <= 4,
               judged=judged, digits=2),
        _claim("closed gradient against autograd, relative", "after stage 2",
               [one.record["gradient_error"] for one in own], "below 1e-10",
               lambda v: v < 1e-10, judged=judged),
    ]  # fmt: skip


def _deviation(one: Descent, small: np.ndarray) -> float:
    ratio = one.ends("schedule", "weighted_angle")[small] / one.lam[small]
    return float(np.abs(ratio / ratio.mean() - 1).max())


def _ratios(one: Descent, few: np.ndarray) -> np.ndarray:
    """MSE over the formula where every coefficient keeps its sign."""
    holds = np.array(one.certificates("schedule", "formula_holds"), dtype=bool) & few
    formula = np.array(one.certificates("schedule", "formula_mse"))
    ratio = one.ends("schedule", "mse") / formula
    return ratio[holds] if holds.any() else np.array([np.nan])


def of_bridge(own: Sequence[Bridge], share: float, judged: bool) -> list[Claim]:
    """When features are learned, over all seeds."""
    along = [way for way in own[0].ways if way.startswith("gamma0")]
    said = f"loss first {share:g} of its start"
    lazy, rich = along[0], along[-1]
    ranks = [_falls([one.last(way, "along", "weighted_angle") for way in along]) for one in own]
    angles = [[one.last(way, "late", "weighted_angle") for way in one.ways] for one in own]
    return [
        _claim("weighted angle falls from each gamma0 to the next", "end of training, lambda = 0",
               ranks, "1 (always)", lambda v: v == 1, judged=judged, figure="bridge"),
        _claim(f"weighted angle [degrees], {lazy}", "end of training, lambda = 0",
               [one.last(lazy, "along", "weighted_angle") for one in own], judged=False,
               figure="bridge", digits=1),
        _claim(f"weighted angle [degrees], {rich}", "end of training, lambda = 0",
               [one.last(rich, "along", "weighted_angle") for one in own], judged=False,
               figure="bridge", digits=1),
        _claim(f"weighted angle [degrees], {rich}", said,
               [one.at_loss(rich, share, "weighted_angle") for one in own], judged=False,
               figure="bridge", digits=1),
        _claim("weighted angle, largest over smallest of all ways", "regularised end phase",
               [max(each) / min(each) for each in angles], "at most 1.1", lambda v: v <= 1.1,
               judged=judged, figure="bridge"),
        _claim("mass farther than 10 degrees, largest of all ways", "regularised end phase",
               [max(one.last(way, "late", "far_10") for way in one.ways) for one in own],
               "below 1e-3", lambda v: v < 1e-3, judged=judged, figure="bridge", digits=6),
    ]  # fmt: skip


def _falls(values: Sequence[float]) -> float:
    """Share of neighbours of which the second is smaller."""
    return float(np.mean(np.diff(values) < 0))
