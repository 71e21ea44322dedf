"""Options of `train.py dmft`, its presets, and what they are expanded to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from ntkscale.experiments.settings import (
    NAME,
    Floats,
    Integer,
    Ints,
    Number,
    Recorded,
    Text,
    require_distinct,
    require_positive,
    with_preset,
)
from ntkscale.theory.activations import activation as nonlinearity

EXPERIMENT = "dmft"
Preset = Literal["tanh", "linear", "approximations", "two-layer", "cnn"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tanh": {},
    "linear": {
        "depth": (2, 3, 4, 5),
        "activation": "linear",
        "gamma0": (0.25, 0.5, 1.0, 1.4),
        "num_train": 20,
        "dimension": 40,
        "width": (250, 500, 1000),
        "seed": tuple(range(8)),
        "learning_rate": 0.025,
    },
    "approximations": {
        "depth": (5,),
        "activation": "linear",
        "gamma0": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
        "num_train": 20,
        "dimension": 40,
        "width": (250, 500, 1000),
        "seed": tuple(range(8)),
        "learning_rate": 0.025,
    },
    "two-layer": {
        "depth": (1,),
        "activation": "relu",
        "gamma0": (0.2, 1.0, 2.0, 3.0),
        "num_train": 25,
        "dimension": 40,
        "width": (100, 300, 1000, 3000),
        "seed": (0, 1, 2, 3),
        "learning_rate": 0.15,
    },
    "cnn": {
        "activation": "relu",
        "depth": (2,),
        "gamma0": (0.1, 0.3, 1.0),
        "num_train": 1000,
        "data": "fashion-mnist",
        "width": (16, 32, 64),
        "seed": (0, 1),
        "steps": 500,
        "learning_rate": 0.5,
    },
}
"""What each preset makes of options that are not given; `tanh` is the defaults."""

QUICK: Mapping[str, Mapping[str, Any]] = {
    "tanh": {"num_train": 6, "steps": 30, "learning_rate": 0.3, "width": (50, 100, 200, 400),
             "seed": (0, 1, 2), "samples": 4096},
    "linear": {"depth": (2, 4), "gamma0": (0.5, 1.4), "width": (100, 200, 400)},
    "approximations": {"depth": (4,), "num_train": 10, "dimension": 20, "gamma0": (0.3, 0.8, 1.3),
                       "width": (400,), "seed": (0, 1, 2), "steps": 60},
    "two-layer": {"gamma0": (0.2, 2.0), "num_train": 10, "dimension": 20, "steps": 40,
                  "learning_rate": 0.3, "width": (100, 300, 1000), "samples": 4096},
    "cnn": {"gamma0": (0.3, 1.0), "num_train": 200, "width": (8, 16), "steps": 60},
}  # fmt: skip
"""What `--quick` makes of a preset, before the preset itself."""


@dataclass(frozen=True)
class DmftSettings(Recorded):
    """Networks of finite width beside the theory of infinite width, while both learn features.

    Presets: tanh, deep networks against width; linear, depths and a ladder of gamma0;
    approximations, where each of them fails; two-layer, ReLU; cnn, two classes of images. Solved
    and trained: all depths at the last gamma0, and all gamma0 at the last depth.
    """

    preset: Annotated[Preset, NAME] = "tanh"
    """one of those above"""
    quick: bool = False
    """rough: smaller, fewer seeds"""
    data: Annotated[Literal["gaussian", "digits", "fashion-mnist"], NAME] = "gaussian"
    """gaussian, digits or fashion-mnist"""
    num_train: Integer = 10
    """training points P, of two classes"""
    dimension: Integer = 25
    """D of gaussian inputs"""
    depth: Ints = (3,)
    """hidden layers"""
    activation: Text = "tanh"
    """or relu, erf, gelu, linear"""
    gamma0: Floats = (0.2, 1.0)
    """richness; small is lazy"""
    width: Ints = (50, 100, 200, 400, 800, 1600)
    """neurons or channels of networks"""
    seed: Ints = (0, 1, 2, 3, 4, 5, 6, 7)
    """of weights; first: data and theory"""
    steps: Integer = 100
    """of gradient descent"""
    learning_rate: Number = 0.1
    """flow time per step"""
    samples: Integer = 16384
    """neurons that theory averages over"""
    loss: Annotated[Literal["mse", "cross-entropy"], NAME] = "mse"
    """mse or cross-entropy"""


def expand(settings: DmftSettings) -> DmftSettings:
    """The settings with preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(with_preset(settings, QUICK[settings.preset]), quick=False)
    settings = with_preset(settings, PRESETS[settings.preset])
    require_positive(
        num_train=settings.num_train,
        dimension=settings.dimension,
        depth=settings.depth,
        gamma0=settings.gamma0,
        width=settings.width,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        samples=settings.samples,
    )
    require_distinct(seed=settings.seed)
    nonlinearity(settings.activation)
    if settings.device == "mps":
        raise ValueError("--device mps: Apple's GPUs have no float64; leave it out.")
    if settings.num_train < 2:
        raise ValueError("--num-train must be 2 or more: there are two classes.")
    if settings.steps < 2:
        raise ValueError("--steps must be 2 or more.")
    if min(settings.seed) < 0:
        raise ValueError(f"--seed {min(settings.seed)} must be 0 or above.")
    if settings.preset == "cnn":
        _check_cnn(settings)
    if settings.preset == "approximations" and settings.loss != "mse":
        raise ValueError("--preset approximations is for --loss mse: leave --loss out.")
    return replace(settings, width=tuple(sorted(settings.width)))


def _check_cnn(settings: DmftSettings) -> None:
    if settings.data == "gaussian":
        raise ValueError("--preset cnn needs images: --data digits or fashion-mnist.")
    if settings.depth != (2,):
        raise ValueError("--preset cnn has two convolutions: leave --depth out.")
    if settings.loss != "mse":
        raise ValueError("--preset cnn is for --loss mse: leave --loss out.")


def grid(settings: DmftSettings) -> list[tuple[int, float]]:
    """Depth and gamma0 of everything that is solved: see `DmftSettings`."""
    last_depth, last_gamma0 = settings.depth[-1], settings.gamma0[-1]
    found = [(depth, last_gamma0) for depth in settings.depth]
    return list(dict.fromkeys([*found, *((last_depth, gamma0) for gamma0 in settings.gamma0)]))
