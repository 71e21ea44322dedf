"""What a run of `train.py adversarial-kernel` measured, read back from its records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from numpy import ndarray

from ntkscale.experiments.adversarial_kernel.features import shares_of
from ntkscale.experiments.adversarial_kernel.models import Pair
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.robustness import Shares
from ntkscale.runs import Run

NAMES = {
    "fashion-mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt",
                      "sneaker", "bag", "boot"),
    "cifar10": ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip


def class_name(settings: AdversarialKernelSettings, index: int) -> str:
    """What a class shows."""
    return NAMES[settings.data][index] if settings.data in NAMES else str(index)


def pair_name(settings: AdversarialKernelSettings, pair: Pair) -> str:
    """Both classes, label -1 first."""
    return "/".join(class_name(settings, index) for index in pair)


@dataclass(frozen=True)
class Classifiers:
    """Accuracy of several functions of one kernel on the test set.

    Attributes:
        clean, random: (K,) without a change, and under random signs of the first eps.
        attacked: (E, K) under FGSM of every eps.
    """

    clean: Float[ndarray, "K"]
    random: Float[ndarray, "K"]
    attacked: Float[ndarray, "E K"]

    @classmethod
    def of(cls, record: dict[str, Any], total: int) -> "Classifiers":
        """From the counts of a record."""
        found = (np.array(record[name]) / total for name in ("clean", "random", "attacked"))
        return cls(*found)


@dataclass(frozen=True)
class Features:
    """One pair of classes and seed.

    Attributes:
        pair, seed: which.
        early: of f_t at every stop.
        pgd, fgsm: (T,) of f_t on the few samples on which both were tried, at the first eps;
            empty where there are many pairs.
        counts: k of every sum of leading features.
        cumulative: of these sums.
        index: of single features.
        useful, robust: of these.
        spearman: by what index is correlated with, (coefficient, p, low, high); nan: not defined.
    """

    pair: Pair
    seed: int
    early: Classifiers
    pgd: Float[ndarray, "T"]
    fgsm: Float[ndarray, "T"]
    counts: Int[ndarray, "K"]
    cumulative: Classifiers
    index: Int[ndarray, "k"]
    useful: Shares
    robust: Shares
    spearman: dict[str, tuple[float, float, float, float]]

    def leading(self, top: int) -> int:
        """Place of the `top` leading features among the sums; or of all, if there are fewer."""
        return int(np.abs(self.counts - min(top, self.counts[-1])).argmin())


def features(run: Run) -> list[Features]:
    """Every pair and seed that is done, in order."""
    return [_features(one) for one in records(run, "features")]


def _features(one: dict[str, Any]) -> Features:
    early = one["early"]
    return Features(
        pair=(one["a"], one["b"]),
        seed=one["seed"],
        early=Classifiers.of(early, one["tested"]),
        pgd=np.array(early.get("pgd", [])) / one["attacked"],
        fgsm=np.array(early.get("fgsm", [])) / one["attacked"],
        counts=np.array(one["counts"]),
        cumulative=Classifiers.of(one["cumulative"], one["tested"]),
        index=np.array(one["index"]),
        useful=shares_of(one["useful"], one["tested"]),
        robust=shares_of(one["robust"], one["attacked"]),
        spearman={
            name: tuple(np.nan if value is None else value for value in values)  # pyright: ignore
            for name, values in one["spearman"].items()
        },
    )


def records(run: Run, part: str) -> list[dict[str, Any]]:
    """Records of a part, in order of pairs and seeds."""
    own = [one for one in run.results.values() if one["part"] == part]
    return sorted(own, key=lambda one: (one.get("a", 0), one.get("b", 0), one["seed"]))


def by_pair(found: Sequence[Features]) -> dict[Pair, list[Features]]:
    """Seeds of every pair."""
    return {one.pair: [other for other in found if other.pair == one.pair] for one in found}


@dataclass(frozen=True)
class Networks:
    """Networks that differ in their seed alone, and the kernel that attacked them.

    Attributes:
        width: neurons or channels.
        gamma0: None: as lazy as the paper's.
        records: of the seeds that did not diverge.
        diverged: how many did.
        rows: their looks over flow time, all seeds.
    """

    width: int
    gamma0: float | None
    records: Sequence[dict[str, Any]]
    diverged: int
    rows: pl.DataFrame

    def each(self, name: str) -> list[float]:
        """An entry of the records, one a seed."""
        return [one[name] for one in self.records]

    def drop(self, name: str) -> list[float]:
        """What an attack costs, one a seed."""
        return [one["test_accuracy"] - one[name] for one in self.records]


def networks(run: Run, pair: Pair) -> list[Networks]:
    """Networks of one pair by width, then those of the ladder by gamma0."""
    own = [one for one in records(run, "network") if (one["a"], one["b"]) == pair]
    kinds = dict.fromkeys((one["width"], one.get("gamma0")) for one in own)
    order = sorted(kinds, key=lambda kind: (kind[1] is not None, kind[1] or 0.0, kind[0]))
    metrics = run.metrics.filter(pl.col("part") == "network") if own else run.metrics
    found = []
    for width, gamma0 in order:
        some = [one for one in own if (one["width"], one.get("gamma0")) == (width, gamma0)]
        alive = [one for one in some if one["status"] != "diverged"]
        rows = metrics.filter(
            (pl.col("a") == pair[0]) & (pl.col("b") == pair[1]) & (pl.col("width") == width)
        )
        if "gamma0" in rows.columns:
            is_null = pl.col("gamma0").is_null()
            rows = rows.filter(is_null if gamma0 is None else pl.col("gamma0") == gamma0)
        found.append(Networks(width, gamma0, alive, len(some) - len(alive), rows))
    return [one for one in found if one.records]
