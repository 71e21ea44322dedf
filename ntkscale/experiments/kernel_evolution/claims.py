"""What is claimed of networks that learn features, each claim with its figure and its bound.

Bounds belong to the presets that they were found on; Fort et al. 2020 give no numbers for them. For
other data and models the same figures are shown without a mark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import spearmanr

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.kernel_evolution.measures import Evolution
from ntkscale.experiments.kernel_evolution.settings import KernelEvolutionSettings, is_preset
from ntkscale.landscape import BasinTime, basin_time
from ntkscale.reporting import Entry, Mark

EARLY, THREE = 1.0, 3.0
"""Epochs: from the first on barriers are late ones; learned kernels are compared at the second."""


@dataclass(frozen=True)
class Claim:
    """One line of the verdict.

    Attributes:
        what: is claimed.
        found: with its interval.
        bound: in words; empty: none.
    """

    what: str
    found: Entry
    bound: str = ""


def barriers(own: Sequence[Evolution], name: str = "train_barrier") -> Float[ndarray, "S seeds"]:
    """Mean barrier over the pairs of each parent."""
    return np.array([one.mean(name) for one in own]).T


def basin(own: Sequence[Evolution]) -> BasinTime | None:
    """When the basin is sealed, resampling parents; None where there are no children.

    Spawn times at which all children of a parent diverged are left out.
    """
    table = barriers(own)
    known = np.isfinite(table).all(1)
    return basin_time(own[0].spawn[known], table[known]) if known.any() else None


def rank_correlation(
    own: Sequence[Evolution], one: str, other: str
) -> tuple[float, float, list[float]]:
    """Spearman's coefficient over parents and spawn times, its p, and one for each parent."""
    pairs = [(curve(evolution, one), curve(evolution, other)) for evolution in own]
    each = [_spearman(*pair)[0] for pair in pairs]
    pooled = _spearman(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    return *pooled, each


def curve(evolution: Evolution, name: str) -> Float[ndarray, "S"]:
    """A measure by spawn time: of pairs their mean, else as it is."""
    return evolution.mean(name) if name in evolution.pairs else getattr(evolution, name)


def ratio_over_seeds(values: Sequence[float], digits: int = 1) -> Entry:
    """Geometric mean of positive ratios, with its 95 % interval."""
    logs = mean_over_seeds([float(np.log(v)) if v > 0 else np.nan for v in values])
    if not isinstance(logs.value, float):
        return logs
    low, high = logs.interval or (np.nan, np.nan)
    interval = (float(np.exp(low)), float(np.exp(high))) if logs.interval else None
    return Entry(float(np.exp(logs.value)), interval, digits=digits)


def _spearman(x: Float[ndarray, "n"], y: Float[ndarray, "n"]) -> tuple[float, float]:
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or len(set(x[known])) < 2 or len(set(y[known])) < 2:
        return float("nan"), float("nan")
    rho, p = spearmanr(x[known], y[known])
    return float(rho), float(p)  # pyright: ignore[reportArgumentType]


def late_noise(own: Sequence[Evolution]) -> float:
    """S over two spacings over S over one, late, each summed over parents.

    4 where the kernel drifts steadily, 2 where it diffuses, 1 where it jitters about one kernel.
    """
    steps = np.array([one.late_velocity for one in own])
    return float((steps * [one.late_noise for one in own]).sum() / steps.sum())


def claims(
    own: Sequence[Evolution], settings: KernelEvolutionSettings, finished: bool
) -> list[Claim]:
    """All claims that the run has something to say of, for one richness.

    Args:
        own: parents of that richness.
        settings: of the run.
        finished: whether it is; what is not is not marked, and neither is a single parent.
    """
    spawn = own[0].spawn
    preset = settings.preset if is_preset(settings) and finished and len(own) > 1 else None
    found: list[Claim] = []
    if np.isfinite(barriers(own)[0]).all() and spawn[0] == 0:
        found += _of_basins(own, preset == "fashion-mlp")
    found += _of_kernels(own, preset == "fashion-mlp")
    whole = [one for one in own if np.isfinite(one.linear_error).all()]
    if whole and spawn[0] == 0:
        short = len(whole) < len(own)
        more = _of_linearised(whole, settings, None if short else preset)
        which = f" ({len(whole)} of {len(own)} parents)" if short else ""
        found += [replace(claim, what=claim.what + which) for claim in more]
    return found


def _of_basins(own: Sequence[Evolution], judged: bool) -> list[Claim]:
    spawn, table = own[0].spawn, barriers(own)
    start = mean_over_seeds(list(table[0]), digits=3)
    low = start.interval[0] if start.interval else float("nan")
    found = [_claim("train barrier at spawn 0", start, "interval above .05", low > 0.05, judged)]
    late = table[spawn >= EARLY]
    if len(late) and np.isfinite(late).all() and table[0].mean() > 0:
        share = _largest_share(table[0], late)
        said = "largest barrier from one epoch on, over that at 0"
        found.append(_claim(said, share, "at most 1/4", _value(share) <= 0.25, judged))
    rho, p, each = rank_correlation(own, "train_barrier", "velocity")
    known = [value for value in each if np.isfinite(value)]
    text = "not defined: barriers are all alike"
    if np.isfinite(rho):
        parents = f"; parents {min(known):.2f} to {max(known):.2f}" if known else ""
        text = f"{rho:.2f} (p = {p:.0e}{parents})"
    said = "Spearman(barrier, velocity), pooled"
    found.append(_claim(said, Entry(text), "above .6", rho > 0.6, judged))
    found.append(Claim("Pearson(barrier, velocity), pooled", Entry(_pearson(own), digits=2)))
    if spawn[-1] >= THREE - 1:
        near = int(np.abs(spawn - THREE).argmin())
        means = [one.mean("hamming") for one in own]
        ratio = ratio_over_seeds([each[0] / each[near] for each in means], digits=2)
        said = f"Hamming distance at spawn 0, over that at {spawn[near]:g}"
        found.append(_claim(said, ratio, "at least 1.4", _value(ratio) >= 1.4, judged))
    if (sealed := basin(own)) is not None:
        interval = sealed.interval if len(own) > 1 else None
        entry = Entry(sealed.time, interval, digits=2)
        found.append(Claim("basin time [epochs], barrier below .02", entry))
    return found


def _largest_share(start: Float[ndarray, "seeds"], late: Float[ndarray, "S seeds"]) -> Entry:
    """Largest mean barrier of the late ones over the mean at the start; bootstrap over parents."""
    count = len(start)
    drawn = np.random.default_rng(0).integers(0, count, (2000, count))
    shares = late[:, drawn].mean(2).max(0) / np.maximum(start[drawn].mean(1), 1e-12)
    low, high = (float(edge) for edge in np.quantile(shares, (0.025, 0.975)))
    value = float(late.mean(1).max() / start.mean())
    return Entry(value, (low, high) if count > 1 else None, digits=2)


def _pearson(own: Sequence[Evolution]) -> float:
    x, y = (np.concatenate([curve(one, n) for one in own]) for n in ("train_barrier", "velocity"))
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or not x[known].std() or not y[known].std():
        return float("nan")
    return float(np.corrcoef(x[known], y[known])[0, 1])


def _of_kernels(own: Sequence[Evolution], judged: bool) -> list[Claim]:
    late = mean_over_seeds([one.late_velocity for one in own], digits=4)
    found = [Claim("late kernel velocity [1 / epoch]", late)]
    if own[0].spawn[0] == 0:
        ratios = [one.velocity[0] / max(one.late_velocity, 1e-12) for one in own]
        ratio = ratio_over_seeds(ratios)
        good = _value(ratio) >= 3 and _value(late) > 0
        bound = "at least 3, the late one not 0"
        found.insert(0, _claim("kernel velocity, first over late", ratio, bound, good, judged))
    said = "late S over twice the spacing, over S over it (drift 4, noise 1)"
    return [*found, Claim(said, Entry(late_noise(own), digits=2))]


def _of_linearised(
    own: Sequence[Evolution], settings: KernelEvolutionSettings, preset: str | None
) -> list[Claim]:
    spawn, found = own[0].spawn, []
    toy, slow = preset == "two-xor", preset == "two-xor-slow"
    if spawn[-1] >= THREE:
        near = int(np.abs(spawn - THREE).argmin())
        # An error below one test sample is known no better than that.
        ratios = [one.linear_error[0] / max(one.linear_error[near], one.least_error) for one in own]
        ratio, worst = ratio_over_seeds(ratios), min(ratios)
        said = f"error linearised at 0, over that at {spawn[near]:g} epochs"
        found.append(_claim(said, ratio, "every seed at least 3", worst >= 3, toy))
    catches = [one.catches_up / settings.epochs for one in own]
    text = ", ".join("never" if np.isinf(share) else f"{share:.0%}" for share in catches)
    said = "linearised first within .002 of the full network at, in training time"
    good = all(0.1 <= share <= 0.45 for share in catches)
    found.append(_claim(said, Entry(text), "10 to 45 %", good, toy))
    ahead = [one.own_error - one.linear_error for one in own]
    beaten = sum(int((each >= 0).all()) for each in ahead)
    entry = Entry(f"{beaten} of {len(own)} seeds, at every spawn time")
    said = "linearised does as well as the network it left"
    found.append(_claim(said, entry, "all", beaten == len(own), toy))
    found.append(_falling_advantage(np.array([one.advantage for one in own]), slow))
    return found


def _falling_advantage(each: Float[ndarray, "seeds S"], judged: bool) -> Claim:
    """Whether the advantage falls from one spawn time to the next; rough where seeds leave it open.

    A rise counts against it where its 95 % interval over parents, of paired differences, is above
    zero.
    """
    gains, steps = each.mean(0), np.diff(each, axis=1)
    rises = [mean_over_seeds(list(step)) for step in steps.T if step.mean() > 0]
    certain = any(rise.interval and rise.interval[0] > 0 for rise in rises)
    shape = "monotone"
    if rises:
        scatter = "" if certain else ", within the scatter of parents"
        shape = f"rises by up to {max(_value(rise) for rise in rises):.3f}{scatter}"
    found = Entry(f"{gains[0]:.3f} to {gains[-1]:.3f}, {shape}")
    what = "nonlinear advantage, first to last"
    if not judged:
        return Claim(what, found)
    good = not certain and gains[0] > 0.2 and gains[-1] < 0.02
    mark: Mark = "fail" if not good else "rough" if rises else "pass"
    bound = "monotone, from above .2 to below .02"
    return Claim(what, Entry(found.value, mark=mark), bound)


def _claim(what: str, found: Entry, bound: str, holds: bool, judged: bool) -> Claim:
    if not judged:
        return Claim(what, found)
    undefined = isinstance(found.value, float) and not np.isfinite(found.value)
    mark: Mark | None = None if undefined or found.value is None else "pass" if holds else "fail"
    return Claim(what, Entry(found.value, found.interval, mark, found.digits), bound)


def _value(entry: Entry) -> float:
    return float(entry.value) if isinstance(entry.value, (int, float)) else float("nan")
