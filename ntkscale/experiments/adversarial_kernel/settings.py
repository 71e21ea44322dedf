"""Options of `train.py adversarial-kernel`, its presets, and what they are expanded to."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from tyro.conf import arg

from ntkscale.experiments.settings import (
    NAME,
    Floats,
    Integer,
    Ints,
    Number,
    Text,
    Training,
    equal_but_for_seeds,
    require_distinct,
    require_positive,
    restore,
    with_preset,
)
from ntkscale.robustness import Threat
from ntkscale.runs import Run

EXPERIMENT = "adversarial-kernel"
GREY_LEVELS = 255
"""In whose units the size of an attack is given."""

IN_DEPTH = 5
"""Up to that many pairs are looked at in depth."""

Preset = Literal[
    "pairs", "all-pairs", "transfer", "ten-classes", "cnn", "mnist", "cifar10", "digits"
]
Part = Literal["features", "held-out", "pictures", "consistency", "transfer", "ten-classes"]
Data = Literal["fashion-mnist", "mnist", "cifar10", "digits"]
DEEP: tuple[Part, ...] = ("features", "held-out", "pictures", "consistency")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "pairs": {},
    "all-pairs": {"pairs": ("all",), "parts": ("features",), "test_size": 400, "seed": (0,)},
    "transfer": {"pairs": ("2-4",), "parts": ("transfer",), "seed": (0, 1, 2, 3, 4)},
    "ten-classes": {"parts": ("ten-classes",), "size": 4000, "test_size": 0, "seed": (0,)},
    "cnn": {"kernel": "cnn", "pairs": ("2-4",), "size": 400, "test_size": 300, "features": 26,
            "attacked": 100, "held_out": 4000, "channels": 32, "width": (8, 16, 32), "seed": (0,),
            "transfer_size": 200, "transfer_time": 1000.0, "gamma0": (),
            "parts": (*DEEP, "transfer")},
    "mnist": {"data": "mnist", "pairs": ("4-9", "3-5", "1-7")},
    "cifar10": {"data": "cifar10", "pairs": ("0-1",), "size": 2000},
    "digits": {"data": "digits", "pairs": ("3-8", "1-7"), "size": 150, "test_size": 0,
               "eps": (16.0, 8.0, 51.0), "features": 30, "seed": (0, 1),
               "parts": (*DEEP, "transfer"), "transfer_size": 100, "transfer_time": 300.0,
               "width": (20, 100), "ladder_width": 50, "gamma0": (0.1, 1.0)},
}  # fmt: skip
"""What each preset makes of options that are not given; `pairs` is the defaults."""

QUICK: Mapping[str, Any] = {
    "size": 200,
    "test_size": 200,
    "held_out": 1000,
    "attacked": 100,
    "features": 30,
    "seed": (0,),
    "width": (20, 100),
    "ladder_width": 50,
    "gamma0": (0.1, 1.0),
    "transfer_size": 100,
    "transfer_time": 1000.0,
}
"""What `--quick` makes of any preset, before the preset itself."""


@dataclass(frozen=True)
class AdversarialKernelSettings(Training):
    """Attacks through the tangent kernel: early stopping, features, transfer to networks.

    Presets: pairs, three in depth; all-pairs; transfer, over width and gamma0; ten-classes; cnn,
    the kernel of a convolutional network; mnist; cifar10 (data needed); digits, fast.
    """

    preset: Annotated[Preset, NAME] = "pairs"
    """one of those above"""
    quick: bool = False
    """rough: small, one seed"""
    parts: Annotated[tuple[Part, ...], arg(metavar="NAME ...")] = DEEP
    """these, transfer, ten-classes"""
    data: Annotated[Data, NAME] = "fashion-mnist"
    """or mnist, cifar10, digits"""
    pairs: Annotated[tuple[str, ...], arg(metavar="A-B ...")] = ("2-4", "5-7", "3-6")
    """of classes; all: every pair"""
    size: Integer = 1000
    """training samples"""
    test_size: Integer = 2000
    """test samples; 0: all"""
    held_out: Integer = 8000
    """samples usefulness is counted on"""
    attacked: Integer = 400
    """test samples single features are attacked on"""
    features: Integer = 68
    """of them attacked, the first --top among them"""
    top: Integer = 20
    """leading features: a classifier"""
    eps: Floats = (8.0, 2.0, 25.5)
    """grey levels of 255; features by the first"""
    times: Floats = (10.0, 100.0, 1000.0, 10_000.0)
    """flow times to stop at, besides never"""
    kernel: Annotated[Literal["mlp", "cnn"], NAME] = "mlp"
    """mlp of infinite width, or a wide cnn's"""
    depth: Integer = 1
    """hidden layers of the mlp"""
    channels: Integer = 64
    """of the cnn"""
    width: Ints = (50, 200, 1000)
    """of networks attacked by the kernel"""
    gamma0: Floats = (0.05, 0.3, 1.0, 3.0)
    """their richness, at --ladder-width"""
    ladder_width: Integer = 200
    """see --gamma0"""
    transfer_size: Integer = 400
    """training samples of networks"""
    transfer_time: Number = 12_000.0
    """flow time they are trained for"""
    seed: Ints = (0, 1, 2)
    """of samples and weights"""
    data_dir: Text = ""
    """where image files are"""
    download: bool = False
    """fetch images that are missing"""

    def threat(self, grey_levels: float) -> Threat:
        """Attacks of that size on pixels from 0 to 1."""
        return Threat(grey_levels / GREY_LEVELS)

    @property
    def stops(self) -> tuple[float, ...]:
        """Flow times at which a kernel's learning is stopped; the last is infinity."""
        return (*self.times, math.inf)

    @property
    def middle_stop(self) -> float:
        """The flow time in the middle of the list."""
        return self.times[len(self.times) // 2]

    @property
    def in_depth(self) -> bool:
        """Whether pairs are so few that each has tables and figures of its own."""
        return len(self.pairs) <= IN_DEPTH

    @property
    def class_pairs(self) -> list[tuple[int, int]]:
        """Pairs of classes, named by their numbers."""
        return [tuple(map(int, pair.split("-"))) for pair in self.pairs]  # pyright: ignore


def expand(settings: AdversarialKernelSettings) -> AdversarialKernelSettings:
    """The settings with preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(with_preset(settings, QUICK), quick=False)
    settings = with_preset(settings, PRESETS[settings.preset])
    if settings.pairs == ("all",):
        every = itertools.combinations(range(10), 2)
        settings = replace(settings, pairs=tuple(f"{a}-{b}" for a, b in every))
    require_distinct(parts=settings.parts, pairs=settings.pairs)  # pyright: ignore
    for pair in settings.pairs:
        a, _, b = pair.partition("-")
        if not (a.isdecimal() and b.isdecimal() and a != b and max(int(a), int(b)) < 10):
            raise ValueError(
                f"--pairs {pair} must be two different classes of 0 to 9, such as 2-4, or all."
            )
    require_positive(
        size=settings.size,
        attacked=settings.attacked,
        top=settings.top,
        eps=settings.eps,
        times=settings.times,
        depth=settings.depth,
        channels=settings.channels,
        width=settings.width,
        ladder_width=settings.ladder_width,
        transfer_size=settings.transfer_size,
        transfer_time=settings.transfer_time,
    )
    if settings.gamma0:
        require_positive(gamma0=settings.gamma0)
    require_distinct(seed=settings.seed)
    for option in ("test_size", "held_out"):
        if getattr(settings, option) < 0:
            raise ValueError(f"--{option.replace('_', '-')} must be 0 or more.")
    if min(settings.seed) < 0:
        raise ValueError(f"--seed {min(settings.seed)} must be 0 or above.")
    if settings.top > settings.size:
        raise ValueError(f"--top {settings.top} exceeds --size {settings.size}: lower it.")
    if settings.features < settings.top + 3:
        raise ValueError(
            f"--features {settings.features} must exceed --top {settings.top} by 3 or more: raise "
            "it, or lower --top."
        )
    if max(settings.eps) > GREY_LEVELS:
        raise ValueError(
            f"--eps {max(settings.eps):g} exceeds {GREY_LEVELS} grey levels: lower it."
        )
    return replace(settings, times=tuple(sorted(settings.times)))


def is_preset(settings: AdversarialKernelSettings) -> bool:
    """Whether expanded settings are those of their preset, but for seeds and where things are."""
    own = expand(AdversarialKernelSettings(preset=settings.preset))
    return equal_but_for_seeds(settings, own)


def settings_of(run: Run) -> AdversarialKernelSettings:
    """The options with which a run was made."""
    return expand(restore(AdversarialKernelSettings, run.config, run.path))
