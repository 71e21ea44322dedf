"""Options of `train.py adversarial-training`, its presets, and what they are expanded to."""

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
from ntkscale.runs import Run

EXPERIMENT = "adversarial-training"
Preset = Literal["fashion-mlp", "fashion-cnn", "mnist-mlp", "cifar10-cnn", "digits"]
Data = Literal["fashion-mnist", "digits", "mnist", "cifar10"]
Attack = Literal["none", "fgsm", "pgd"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fashion-mlp": {},
    "fashion-cnn": {"model": "cnn", "width": 16, "size": 2000, "test_size": 500, "epochs": 12.0,
                    "probe": 100, "linear_spawn": (0.0, 4.0), "linear_epochs": 3.0},
    "mnist-mlp": {"data": "mnist"},
    "cifar10-cnn": {"data": "cifar10", "model": "cnn", "width": 32, "size": 10_000,
                    "test_size": 2000, "eps": 8.0, "epochs": 30.0, "learning_rate": 0.05,
                    "probe": 100, "linear_spawn": (0.0, 8.0), "linear_epochs": 4.0},
    "digits": {"data": "digits", "width": 64, "size": 1000, "test_size": 0, "batch_size": 32,
               "probe": 100},
}  # fmt: skip
"""What each preset makes of options that are not given; `fashion-mlp` is the defaults."""

QUICK: Mapping[str, Any] = {
    "size": 500,
    "test_size": 300,
    "epochs": 6.0,
    "probe": 60,
    "linear_spawn": (0.0, 2.0),
    "linear_epochs": 2.0,
    "seed": (0, 1),
}
"""What `--quick` makes of any preset, before the preset itself."""


@dataclass(frozen=True)
class AdversarialTrainingSettings(Training):
    """Kernels during adversarial and standard training, on clean and on attacked probes.

    Presets: fashion-mlp and fashion-cnn; mnist-mlp and cifar10-cnn (need data); digits, fast.
    Attacks change no pixel by more than eps, in grey levels of 255.
    """

    preset: Annotated[Preset, NAME] = "fashion-mlp"
    """one of those above"""
    quick: bool = False
    """rough: small, two seeds"""
    data: Annotated[Data, NAME] = "fashion-mnist"
    """or digits, mnist, cifar10"""
    classes: Ints = ()
    """two of them; none given: all"""
    size: Integer = 4000
    """training samples; 0: all"""
    test_size: Integer = 1000
    """test samples; 0: all"""
    model: Annotated[Literal["mlp", "cnn"], NAME] = "mlp"
    """mlp or cnn"""
    width: Integer = 200
    """neurons or channels"""
    depth: Integer = 2
    """hidden layers of the mlp"""
    gamma0: Floats = ()
    """richness, mean-field; none: standard"""
    attack: Annotated[tuple[Attack, ...], arg(metavar="NAME ...")] = ("none", "fgsm", "pgd")
    """trained against: none, fgsm, pgd"""
    eps: Number = 25.5
    """grey levels of 255"""
    train_steps: Integer = 5
    """of PGD in training"""
    step_size: Number = 0.0
    """of it, grey levels; 0: 2.5 eps / steps"""
    eval_steps: Integer = 10
    """of PGD on tests and probe"""
    epochs: Number = 16.0
    """that every network is trained for"""
    learning_rate: Number = 0.1
    """flow time a step"""
    batch_size: Integer = 64
    """samples a step"""
    probe: Integer = 250
    """training samples the kernel is on"""
    kernel: Annotated[Literal["averaged", "full"], NAME] = "averaged"
    """averaged over outputs, or full"""
    top: Integer = 20
    """leading eigenvalues: shares, parts"""
    linear_spawn: Floats = (0.0, 1.0, 2.0, 4.0, 8.0)
    """epochs linearised training begins at"""
    linear_epochs: Number = 8.0
    """length of that; 0: none"""
    seed: Ints = (0, 1, 2, 3, 4)
    """of weights and order"""
    data_dir: Text = ""
    """where image files are"""
    download: bool = False
    """fetch images that are missing"""


def expand(settings: AdversarialTrainingSettings) -> AdversarialTrainingSettings:
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
        eps=settings.eps,
        train_steps=settings.train_steps,
        eval_steps=settings.eval_steps,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        top=settings.top,
    )
    if settings.gamma0:
        require_positive(gamma0=settings.gamma0)
    require_distinct(seed=settings.seed)
    if len(set(settings.attack)) < len(settings.attack) or not settings.attack:
        raise ValueError("--attack needs each of none, fgsm and pgd at most once, and one of them.")
    for option in ("size", "test_size", "step_size", "linear_epochs"):
        if not 0 <= getattr(settings, option) < math.inf:
            raise ValueError(f"--{option.replace('_', '-')} must be 0 or more, and finite.")
    if min(settings.seed) < 0:
        raise ValueError(f"--seed {min(settings.seed)} must be 0 or above.")
    if settings.eps >= 255:
        raise ValueError(f"--eps {settings.eps:g} turns black into white: give less than 255.")
    if settings.classes and (len(settings.classes) != 2 or len(set(settings.classes)) != 2):
        raise ValueError("--classes takes two different ones; leave it out for all.")
    if not settings.top < settings.probe:
        raise ValueError(
            f"--top {settings.top} leaves nothing of a kernel on --probe {settings.probe} samples: "
            "give less, or a larger probe."
        )
    if settings.epochs < 1:
        raise ValueError(f"--epochs {settings.epochs:g} must be 1 or more.")
    if settings.linear_epochs:
        require_distinct(linear_spawn=settings.linear_spawn)
        for epochs in settings.linear_spawn:
            if not 0 <= epochs < settings.epochs:
                raise ValueError(
                    f"--linear-spawn {epochs:g} must lie from 0 to before --epochs "
                    f"{settings.epochs:g}."
                )
    if settings.model == "cnn" and settings.depth != 2:
        raise ValueError("--model cnn has two convolutions: leave --depth out.")
    return replace(settings, linear_spawn=tuple(sorted(settings.linear_spawn)))


def is_preset(settings: AdversarialTrainingSettings) -> bool:
    """Whether expanded settings are those of their preset, but for seeds and where things are."""
    own = expand(AdversarialTrainingSettings(preset=settings.preset))
    return equal_but_for_seeds(settings, own)


def settings_of(run: Run) -> AdversarialTrainingSettings:
    """The options with which a run was made."""
    return expand(restore(AdversarialTrainingSettings, run.config, run.path))
