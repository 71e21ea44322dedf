"""What is claimed of kernels under adversarial training, each claim with its figure and its bound.

The paper gives no numbers. Bounds are those of this project's prototypes on Fashion-MNIST and
belong to the preset `fashion-mlp`; for other data and models the same figures stand without a mark.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ntkscale.experiments.adversarial_training.kernels import PROBES
from ntkscale.experiments.adversarial_training.measures import Path, Trained, of_attack
from ntkscale.experiments.adversarial_training.pieces import TITLES
from ntkscale.experiments.adversarial_training.settings import (
    AdversarialTrainingSettings,
    is_preset,
)
from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.kernel_evolution.claims import ratio_over_seeds
from ntkscale.reporting import Entry, Mark

ENOUGH = 5
"""Seeds without which nothing is marked as passed or failed."""
SHARE_GAIN = 0.08
GROWTH = 0.5


@dataclass(frozen=True)
class Claim:
    """One line of the verdict.

    Attributes:
        what: is claimed.
        probe: that it is claimed on.
        found: mean over seeds, with its interval.
        bound: in words; empty: none.
    """

    what: str
    probe: str
    found: Entry
    bound: str = ""


@dataclass(frozen=True)
class _Question:
    """A number of each pair of networks, adversarial and standard, of one seed."""

    what: str
    of: Callable[[Path, Path], float]
    bound: str = ""
    least: float | None = None
    most: float | None = None
    geometric: bool = False
    digits: int = 3


def _questions(top: int) -> list[_Question]:
    return [
        _Question(
            f"top-{top} trace share at the end, minus standard",
            lambda a, s: a.shares["trace_share"][-1] - s.shares["trace_share"][-1],
            f"at least {SHARE_GAIN:g}",
            least=SHARE_GAIN,
        ),
        _Question(
            "|K_T| / |K_0| - 1, over standard",
            lambda a, s: _over(a.growth - 1, s.growth - 1),
            f"less than {GROWTH:g}",
            most=GROWTH,
        ),
        _Question(
            "angle after 2 epochs over that at the end, minus standard",
            lambda a, s: a.early_rotation - s.early_rotation,
            digits=2,
        ),
        _Question(
            "distance left after 2 epochs, S(K_2, K_T), over standard",
            lambda a, s: _over(a.left_early, s.left_early),
            geometric=True,
            digits=2,
        ),
        _Question(
            "late kernel velocity, over standard",
            lambda a, s: _over(a.late_velocity, s.late_velocity),
            geometric=True,
            digits=2,
        ),
        _Question(
            f"top-{top} trace share of centred kernels, minus standard",
            lambda a, s: a.shares["centred_trace_share"][-1] - s.shares["centred_trace_share"][-1],
        ),
        _Question(
            f"top-{top} squared share of centred kernels, minus standard",
            lambda a, s: (
                a.shares["centred_squared_share"][-1] - s.shares["centred_squared_share"][-1]
            ),
        ),
    ]


def _over(adversarial: float, standard: float) -> float:
    """Their ratio; not defined where nothing moves, as in trainings of two epochs."""
    return adversarial / standard if standard else float("nan")


def pairs(own: Sequence[Trained], attack: str) -> list[tuple[Trained, Trained]]:
    """Adversarially trained networks with the standard ones of the same seed."""
    standard = {one.seed: one for one in of_attack(own, "none")}
    return [(one, standard[one.seed]) for one in of_attack(own, attack) if one.seed in standard]


def claims(
    own: Sequence[Trained], settings: AdversarialTrainingSettings, finished: bool
) -> list[Claim]:
    """All claims that the run has something to say of, for one richness.

    Args:
        own: networks of that richness.
        settings: of the run.
        finished: whether it is; what is not is not marked.
    """
    judged = settings.preset == "fashion-mlp" and is_preset(settings) and finished
    found = []
    for question in _questions(settings.top):
        for attack in [name for name in settings.attack if name != "none"]:
            for probe in PROBES:
                values = [
                    question.of(a.paths[probe], s.paths[probe]) for a, s in pairs(own, attack)
                ]
                if not values:
                    continue
                average = ratio_over_seeds if question.geometric else mean_over_seeds
                entry = average(values, digits=question.digits)
                if judged and question.bound:
                    count = int(np.isfinite(values).sum())
                    mark = mark_of(entry, count, question.least, question.most)
                    entry = Entry(entry.value, entry.interval, mark, entry.digits)
                what = f"{TITLES[attack]}: {question.what}"
                found.append(Claim(what, probe, entry, question.bound if judged else ""))
    return found


def mark_of(entry: Entry, seeds: int, least: float | None, most: float | None) -> Mark:
    """Pass or fail where the whole interval is within the bound or beyond it, else rough."""
    if seeds < ENOUGH or entry.interval is None:
        return "rough"
    low, high = entry.interval
    inside = (least is None or low >= least) and (most is None or high < most)
    outside = (least is not None and high < least) or (most is not None and low >= most)
    return "pass" if inside else "fail" if outside else "rough"


def rotation_in_words(own: Sequence[Trained], attack: str, probe: str) -> str:
    """Whether adversarially trained kernels turn earlier, as far as the seeds can tell."""
    both = pairs(own, attack)
    if len(both) < 2:
        return ""
    shares = [[one.paths[probe].early_rotation for one in side] for side in zip(*both, strict=True)]
    gap = mean_over_seeds([a - s for a, s in zip(*shares, strict=True)], digits=2)
    low, high = gap.interval or (np.nan, np.nan)
    said = (
        "more" if low > 0 else "less" if high < 0 else f"{len(both)} seeds do not tell them apart"
    )
    means = [mean_over_seeds(side, digits=2).text for side in shares]
    return (
        f"On the {probe} probe {TITLES[attack]} training has done {means[0]} of its final rotation "
        f"after 2 epochs, standard training {means[1]}: {said} (difference {gap.text})."
    )


def learned_early(own: Sequence[Trained], attack: str) -> str:
    """How much of the robustness is there after two epochs, in the network and in its kernel."""
    mine = of_attack(own, attack)
    shares = [one.robust[one.at(2.0)] / one.robust[-1] for one in mine if one.robust[-1] > 0]
    if not shares:
        return ""
    said = (
        f"After 2 epochs {TITLES[attack]} training has {mean_over_seeds(shares, digits=2).text} of "
        "its final robust accuracy"
    )
    linear = np.array([one.linear_worst for one in mine])
    if linear.size and np.isfinite(linear).all():
        near = int(np.abs(mine[0].spawn - 2.0).argmin())
        first, later = (mean_over_seeds(list(linear[:, i]), digits=2).text for i in (0, near))
        end = mean_over_seeds([one.worst for one in mine], digits=2).text
        spawn = mine[0].spawn
        said += (
            f"; linearised at {spawn[near]:g} epochs it reaches {later} under all attacks, "
            f"at {spawn[0]:g} {first}, the full network {end}"
        )
    return f"{said}."
