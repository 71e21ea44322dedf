"""What is claimed of the kernel's attacks and features, each claim with its figure and its bound.

Bounds belong to the presets on Fashion-MNIST that they were found on; the paper gives no numbers
for them. For other data and settings the same figures are shown without a mark.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ntkscale.experiments.adversarial_kernel.features import BEYOND
from ntkscale.experiments.adversarial_kernel.measures import (
    Features,
    Networks,
    by_pair,
    pair_name,
)
from ntkscale.experiments.adversarial_kernel.settings import (
    GREY_LEVELS,
    AdversarialKernelSettings,
)
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.reporting import Entry, Mark

FALLS = {(2, 4): (0.5, 1.0), (5, 7): (0.15, 0.4), (3, 6): (0.15, 0.4)}
"""Between which the accuracy under the first eps falls from the leading features to all."""
WIDE = 200
"""Networks from this width on count as wide."""


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


def claim(what: str, found: Entry, bound: str, holds: bool, judged: bool) -> Claim:
    """A claim, marked where it is judged and known."""
    if not judged:
        return Claim(what, found)
    undefined = isinstance(found.value, float) and not np.isfinite(found.value)
    mark: Mark | None = None if undefined or found.value is None else "pass" if holds else "fail"
    return Claim(what, Entry(found.value, found.interval, mark, found.digits), bound)


def value(entry: Entry) -> float:
    """The number of an entry, nan if it is none."""
    return float(entry.value) if isinstance(entry.value, (int, float)) else float("nan")


def eps_name(settings: AdversarialKernelSettings, place: int) -> str:
    """Size of an attack in grey levels, as tables and captions name it."""
    return f"{settings.eps[place]:g}/{GREY_LEVELS}"


def of_all_pairs(found: Sequence[Features], judged: bool) -> list[Claim]:
    """How index and robustness of features are correlated over all pairs."""
    each = np.array([one.spearman["robust"][0] for one in found])
    middle, highest = float(np.nanmedian(each)), float(np.nanmax(each))
    said = f"Spearman(index, robustness), median of {len(each)} pairs"
    drawn = np.random.default_rng(0).integers(0, len(each), (2000, len(each)))
    low, high = np.nanquantile(np.nanmedian(each[drawn], 1), (0.025, 0.975))
    entry = Entry(middle, (float(low), float(high)))
    return [
        claim(said, entry, "below -.95", middle < -0.95, judged),
        claim("the same, highest pair", Entry(highest), "below -.85", highest < -0.85, judged),
    ]


def of_features(
    found: Sequence[Features], settings: AdversarialKernelSettings, judged: bool
) -> list[Claim]:
    """Pair by pair: leading features against all, early stopping, robustness down the spectrum."""
    claims: list[Claim] = []
    first, top = eps_name(settings, 0), settings.top
    largest = int(np.argmax(settings.eps))
    for pair, own in by_pair(found).items():
        name = f"{pair_name(settings, pair)}: "
        rho = mean_over_seeds([one.spearman["robust"][0] for one in own])
        text = f"{name}Spearman(index, robustness)"
        claims.append(claim(text, rho, "below -.9", value(rho) < -0.9, judged))
        places = [one.leading(top) for one in own]
        sums = [one.cumulative for one in own]
        gaps = [s.clean[-1] - s.clean[k] for s, k in zip(sums, places, strict=True)]
        gap = mean_over_seeds(gaps)
        text = f"{name}clean accuracy of all features less that of the first {top}"
        claims.append(claim(text, gap, "within .05", abs(value(gap)) <= 0.05, judged))
        falls = [s.attacked[0, k] - s.attacked[0, -1] for s, k in zip(sums, places, strict=True)]
        fall = mean_over_seeds(falls)
        text = f"{name}fall under FGSM {first} from the first {top} to all"
        low, high = FALLS.get(pair, (0.0, 1.0))
        bound = f"above {low:g}" if high == 1 else f"{low:g} to {high:g}"
        claims.append(claim(text, fall, bound, low <= value(fall) <= high, judged))
        gone = mean_over_seeds([s.attacked[largest, -1] for s in sums])
        text = f"{name}all features under {eps_name(settings, largest)}"
        claims.append(claim(text, gone, "at most .01", value(gone) <= 0.01, judged))
        for which, stops, words in (
            (largest, slice(1), f"stopped at t = {settings.times[0]:g}"),
            (0, slice(len(settings.times)), "stopped at the best t"),
        ):
            attacked = [one.early.attacked[which] for one in own]
            kept = mean_over_seeds([each[stops].max() - each[-1] for each in attacked])
            low = kept.interval[0] if kept.interval else value(kept)
            text = f"{name}under FGSM {eps_name(settings, which)}, {words} less never"
            claims.append(claim(text, kept, "interval above 0", low > 0, judged))
        far = [one.robust.value[one.index >= BEYOND] for one in own]
        if all(len(values) for values in far):
            most = mean_over_seeds([float(values.mean()) for values in far], digits=4)
            text = f"{name}robustness of features from {BEYOND} on, mean"
            claims.append(claim(text, most, "at most .01", value(most) <= 0.01, judged))
    return claims


def of_held_out(
    found: Sequence[dict[str, Any]], settings: AdversarialKernelSettings, judged: bool
) -> list[Claim]:
    """Whether features far down are useful beyond chance, and not robust."""
    claims: list[Claim] = []
    for pair in dict.fromkeys((one["a"], one["b"]) for one in found):
        own = [one for one in found if (one["a"], one["b"]) == pair]
        name, beyond = f"{pair_name(settings, pair)}: ", own[0]["beyond"]
        count = mean_over_seeds([float(one["found_beyond"]) for one in own], digits=0)
        most = max(max(one["training_shuffled"]) for one in own)
        holds = all(one["found_beyond"] > max(one["training_shuffled"]) for one in own)
        text = f"{name}useful features from {beyond} on, of {own[0]['features'] - beyond}"
        bound = f"each seed above every shuffle of training labels (most {most})"
        claims.append(claim(text, count, bound, holds, judged))
        shares = [np.mean(one["robust"]) / one["attacked"] for one in own if one["robust"]]
        if shares:
            entry = mean_over_seeds([float(share) for share in shares], digits=4)
            text = f"{name}their accuracy under FGSM {eps_name(settings, 0)}, mean"
            claims.append(claim(text, entry, "at most .01", value(entry) <= 0.01, judged))
    return claims


def of_transfer(
    found: Sequence[Networks], settings: AdversarialKernelSettings, judged: bool
) -> list[Claim]:
    """What the kernel's attack costs networks, and whether gradients agree better when wide."""
    over_width = [one for one in found if one.gamma0 is None]
    claims: list[Claim] = []
    for one in over_width:
        if one.width < WIDE:
            continue
        drop = mean_over_seeds(one.drop("kernel at t"))
        text = f"width {one.width}: drop by the kernel's attack of {eps_name(settings, 0)}"
        claims.append(claim(text, drop, "at least .35", value(drop) >= 0.35, judged))
        noise = mean_over_seeds(one.drop("noise_accuracy"))
        text = f"width {one.width}: drop by random signs of that size"
        claims.append(claim(text, noise, "at most .02", value(noise) <= 0.02, judged))
    for narrow, wide in itertools.pairwise(over_width):
        pairs = _paired(narrow, wide, "cosine, kernel at t")
        grown = mean_over_seeds(pairs)
        low = grown.interval[0] if grown.interval else value(grown)
        text = f"gradient cosine, width {wide.width} less {narrow.width}"
        claims.append(claim(text, grown, "interval above 0", low > 0, judged))
    return claims


def _paired(one: Networks, other: Networks, name: str) -> list[float]:
    """Differences of an entry, seed by seed."""
    first = {record["seed"]: record[name] for record in one.records}
    pairs = [(record["seed"], record[name]) for record in other.records]
    return [entry - first[seed] for seed, entry in pairs if seed in first]
