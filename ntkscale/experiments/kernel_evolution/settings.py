"""Options of `train.py kernel-evolution`, its presets, and what they are expanded to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

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
from ntkscale.runs import Run

EXPERIMENT = "kernel-evolution"
Preset = Literal["two-xor", "two-xor-slow", "fashion-mlp", "fashion-cnn", "ladder", "resnet20"]
Data = Literal["two-xor", "digits", "fashion-mnist", "mnist", "cifar10", "cifar100"]
Model = Literal["mlp", "cnn", "resnet20"]

_BASIN: Mapping[str, Any] = {
    "data": "fashion-mnist",
    "depth": 4,
    "width": 128,
    "size": 4000,
    "epochs": 20.0,
    "learning_rate": 0.07,
    "momentum": 0.9,
    "batch_size": 64,
    "spawn": (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0),
    "linear_epochs": 20.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "two-xor": {},
    "two-xor-slow": {
        "learning_rate": 0.01,
        "epochs": 120.0,
        "spawn": (0.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 40.0),
        "linear_epochs": 60.0,
        "linear_rate": 0.1,
        "children": 0,
        "regression": 0,
    },
    "fashion-mlp": {**_BASIN, "children": 3, "seed": (0, 1, 2, 3, 4, 5)},
    "fashion-cnn": {**_BASIN, "model": "cnn", "depth": 2, "width": 16, "size": 2000,
                    "epochs": 10.0, "linear_epochs": 10.0, "probe": 100, "regression": 0,
                    "spawn": (0.0, 0.25, 0.5, 1.0, 3.0), "test_size": 1000},
    "ladder": {**_BASIN, "gamma0": (0.03, 0.1, 0.2, 0.3, 0.4), "children": 2,
               "learning_rate": 1.0},
    "resnet20": {"data": "cifar10", "model": "resnet20", "width": 16, "size": 0, "test_size": 0,
                 "epochs": 200.0, "learning_rate": 0.1, "momentum": 0.9, "batch_size": 128,
                 "schedule": "cosine", "augmentation": "flip", "linear_epochs": 100.0,
                 "linear_rate": 0.01,
                 "spawn": (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0),
                 "batch_norm": "recompute", "probe": 250, "seed": (0,)},
}  # fmt: skip
"""What each preset makes of options that are not given; `two-xor` is the defaults."""

QUICK: Mapping[str, Any] = {
    "size": 500,
    "test_size": 300,
    "epochs": 6.0,
    "spawn": (0.0, 0.5, 1.0, 3.0),
    "seed": (0, 1),
    "linear_epochs": 6.0,
    "probe": 50,
    "regression": 100,
}
"""What `--quick` makes of any preset, before the preset itself."""


@dataclass(frozen=True)
class KernelEvolutionSettings(Training):
    """Barriers, kernel velocity and linearised training from checkpoints, on one axis of time.

    Presets: two-xor, a toy; two-xor-slow, at a tenth of its learning rate; fashion-mlp and
    fashion-cnn; ladder, the MLP lazy to rich; resnet20, the paper's on CIFAR-10 (a GPU, and data).
    """

    preset: Annotated[Preset, NAME] = "two-xor"
    """one of those above"""
    quick: bool = False
    """rough: small, two seeds"""
    data: Annotated[Data, NAME] = "two-xor"
    """or digits, fashion-mnist, mnist, cifar10, cifar100"""
    size: Integer = 2000
    """training samples; 0: all"""
    test_size: Integer = 2000
    """test samples; 0: all"""
    model: Annotated[Model, NAME] = "mlp"
    """mlp, cnn or resnet20 (batch norm)"""
    width: Integer = 256
    """neurons or channels"""
    depth: Integer = 2
    """hidden layers of the mlp"""
    gamma0: Floats = ()
    """richness, mean-field; none: standard"""
    epochs: Number = 30.0
    """that every network is trained for"""
    spawn: Floats = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0)
    """epochs at which children leave"""
    children: Integer = 2
    """a spawn time; 0: none"""
    linear_epochs: Number = 30.0
    """of linearised training; 0: none"""
    linear_rate: Number = 0.0
    """its constant rate; 0: --learning-rate"""
    learning_rate: Number = 0.1
    """a step (mean-field: flow time)"""
    momentum: Number = 0.0
    """mu; 0: plain SGD"""
    batch_size: Integer = 32
    """samples a step"""
    schedule: Annotated[Literal["constant", "linear", "cosine"], NAME] = "constant"
    """constant, linear or cosine"""
    augmentation: Annotated[Literal["none", "flip", "shift"], NAME] = "none"
    """none, flip or shift"""
    probe: Integer = 200
    """training samples the kernel is on"""
    kernel: Annotated[Literal["averaged", "full"], NAME] = "averaged"
    """averaged over outputs, or full"""
    spacing: Number = 0.4
    """epochs over which velocity is read"""
    regression: Integer = 500
    """samples of kernel regression; 0: none"""
    batch_norm: Annotated[Literal["keep", "recompute"], NAME] = "keep"
    """keep or recompute, on a path"""
    seed: Ints = (0, 1, 2)
    """of weights and order of the parents"""
    data_dir: Text = ""
    """where image files are"""
    download: bool = False
    """fetch images that are missing"""


def expand(settings: KernelEvolutionSettings) -> KernelEvolutionSettings:
    """The settings with preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(with_preset(settings, QUICK), quick=False)
    settings = with_preset(settings, PRESETS[settings.preset])
    require_positive(
        width=settings.width,
        depth=settings.depth,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        probe=settings.probe,
        spacing=settings.spacing,
    )
    if settings.gamma0:
        require_positive(gamma0=settings.gamma0)
    require_distinct(seed=settings.seed, spawn=settings.spawn)
    for option in (
        "size", "test_size", "children", "linear_epochs", "linear_rate", "regression", "momentum"
    ):  # fmt: skip
        if not 0 <= getattr(settings, option) < math.inf:
            raise ValueError(f"--{option.replace('_', '-')} must be 0 or more, and finite.")
    if min(settings.seed) < 0:
        raise ValueError(f"--seed {min(settings.seed)} must be 0 or above.")
    if settings.children == 1:
        raise ValueError("--children 1 leaves no pair to compare: give 2 or more, or 0 for none.")
    for epochs in settings.spawn:
        if not 0 <= epochs < settings.epochs:
            raise ValueError(
                f"--spawn {epochs:g} must lie from 0 to before --epochs {settings.epochs:g}."
            )
    if 2 * settings.spacing > settings.epochs:
        raise ValueError(
            f"--spacing {settings.spacing:g} must fit twice into --epochs {settings.epochs:g}: "
            "velocities need that; lower it."
        )
    if settings.model == "resnet20" and settings.gamma0:
        raise ValueError("--model resnet20 has no --gamma0: leave it out, or take mlp or cnn.")
    if settings.model == "cnn" and settings.depth != 2:
        raise ValueError("--model cnn has two convolutions: leave --depth out.")
    if settings.model != "mlp" and settings.data == "two-xor":
        raise ValueError(f"--model {settings.model} needs images: choose --data, or --model mlp.")
    return replace(settings, spawn=tuple(sorted(settings.spawn)))


def is_preset(settings: KernelEvolutionSettings) -> bool:
    """Whether expanded settings are those of their preset, but for seeds and where things are."""
    own = expand(KernelEvolutionSettings(preset=settings.preset))
    return equal_but_for_seeds(settings, own)


def settings_of(run: Run) -> KernelEvolutionSettings:
    """The options with which a run was made."""
    return expand(restore(KernelEvolutionSettings, run.config, run.path))
