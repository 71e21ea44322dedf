"""Options of `train.py global-convergence`, its presets, and what they are expanded to."""

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
from ntkscale.networks import activation
from ntkscale.runs import Run

EXPERIMENT = "global-convergence"
Preset = Literal["shallow", "depth", "xor", "widths", "fashion"]
Data = Literal["sphere", "xor", "fashion-mnist", "mnist", "digits"]
Scaling = Literal["mean-field", "ntk", "full-mean-field"]
PICTURES = ("fashion-mnist", "mnist", "digits")

LEAST_FLOOR = 1e-25
"""Over mean y^2: a loss of float64 outputs is not resolved much below."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "shallow": {},
    "depth": {"dimension": (5,), "depth": (1, 2, 3, 4), "label": (0.5,)},
    "xor": {"data": "xor", "size": (100, 200, 400), "dimension": (20,), "label": (1.0,),
            "depth": (2,), "activation": ("relu",), "scaling": ("mean-field", "ntk"),
            "horizon": 3000.0},
    "widths": {"data": "xor", "size": (100,), "dimension": (20,), "label": (1.0,), "depth": (2,),
               "width": (100, 400, 1600, 6400), "frozen": 400, "activation": ("relu",),
               "scaling": ("mean-field", "ntk", "full-mean-field")},
    "fashion": {"data": "fashion-mnist", "size": (200,), "label": (1.0,), "depth": (2,),
                "activation": ("relu",), "scaling": ("mean-field", "ntk"), "horizon": 3000.0},
}  # fmt: skip
"""What each preset makes of options that are not given; `shallow` is the defaults."""

QUICK: Mapping[str, Mapping[str, Any]] = {
    "shallow": {"dimension": (10, 40), "label": (0.5,), "width": (200,), "horizon": 500.0},
    "depth": {"depth": (1, 2), "width": (200,), "frozen": 200, "horizon": 500.0},
    "xor": {"size": (100,), "width": (200,), "frozen": 200, "horizon": 500.0},
    "widths": {"width": (50, 100, 200), "frozen": 200, "horizon": 300.0},
    "fashion": {"size": (60,), "width": (200,), "frozen": 200, "horizon": 300.0,
                "classes": (0, 6), "test_size": 300},
}  # fmt: skip
"""What `--quick` makes of each preset, before the preset itself; two seeds."""


@dataclass(frozen=True)
class GlobalConvergenceSettings(Training):
    """Networks of which the last hidden layer is trained: proven and actual rates, features.

    Presets: shallow (rates over d/n), depth (frozen layers below), xor (mean-field against its
    NTK twin), widths (how far neurons move), fashion (pairs of classes). Every combination of
    values is a run.
    """

    preset: Annotated[Preset, NAME] = "shallow"
    """one of those above"""
    quick: bool = False
    """rough: small, two seeds"""
    data: Annotated[Data, NAME] = "sphere"
    """or xor, fashion-mnist, mnist, digits"""
    classes: Ints = (0, 6, 2, 4, 5, 7)
    """of images: pairs, one after the other"""
    size: Ints = (20,)
    """training points n"""
    test_size: Integer = 1000
    """test points; the sphere has none"""
    dimension: Ints = (5, 10, 20, 40, 100, 400)
    """d of sphere and xor"""
    label: Floats = (1.0, 0.5, 0.1, 0.01)
    """|y| of all labels"""
    depth: Ints = (1,)
    """hidden layers; the last is trained"""
    width: Ints = (600,)
    """neurons of the trained layer"""
    frozen: Integer = 600
    """neurons of each layer below it"""
    bias: Number = 0.5
    """deviation of the frozen biases"""
    activation: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("relu", "tanh")
    """relu, tanh, erf, gelu, linear"""
    scaling: Annotated[tuple[Scaling, ...], arg(metavar="NAME ...")] = ("mean-field",)
    """mean-field, ntk, full-mean-field"""
    step: Number = 1.0
    """learning rate, in flow time"""
    horizon: Number = 1500.0
    """flow time at the end"""
    floor: Number = 1e-10
    """stop at this loss over mean y^2"""
    check: Integer = 300
    """steps of the network itself; 0: none"""
    seed: Ints = (0, 1, 2)
    """of data and weights"""
    data_dir: Text = ""
    """where image files are"""
    download: bool = False
    """fetch images that are missing"""

    @property
    def pairs(self) -> tuple[tuple[int, int] | None, ...]:
        """Pairs of classes; None stands for data that are no images."""
        if self.data not in PICTURES:
            return (None,)
        return tuple(zip(self.classes[::2], self.classes[1::2], strict=True))


def expand(settings: GlobalConvergenceSettings) -> GlobalConvergenceSettings:
    """The settings with preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        preset = {"seed": (0, 1), "check": 50, **QUICK[settings.preset]}
        settings = replace(with_preset(settings, preset), quick=False)
    settings = with_preset(settings, PRESETS[settings.preset])
    require_positive(
        size=settings.size,
        dimension=settings.dimension,
        label=settings.label,
        depth=settings.depth,
        width=settings.width,
        frozen=settings.frozen,
        step=settings.step,
        horizon=settings.horizon,
    )
    require_distinct(seed=settings.seed)
    if min(settings.seed) < 0:
        raise ValueError(f"--seed {min(settings.seed)} must be 0 or above.")
    if not LEAST_FLOOR <= settings.floor < 0.5:
        raise ValueError(
            f"--floor {settings.floor:g} must be from {LEAST_FLOOR:g}, where rounding ends the "
            "fall of a loss, to below .5, where training begins."
        )
    for option in ("test_size", "check", "bias"):
        if not 0 <= getattr(settings, option) < float("inf"):
            raise ValueError(f"--{option.replace('_', '-')} must be 0 or more, and finite.")
    for name in settings.activation:
        if activation(name).power not in (None, 1):
            raise ValueError(
                f"--activation {name} has no bound on its slope, which every theorem here needs: "
                "choose relu, tanh, erf, gelu or linear."
            )
    for option in ("activation", "scaling"):
        require_distinct(**{option: getattr(settings, option)})
    if any(width % 2 for width in settings.width):
        raise ValueError("--width must be even: neurons come in pairs of opposite signs.")
    if "full-mean-field" in settings.scaling and 1 in settings.depth:
        raise ValueError(
            "--scaling full-mean-field divides by the number of frozen neurons: give --depth 2 or "
            "more."
        )
    if settings.data == "xor" and min(settings.dimension) < 2:
        raise ValueError("--dimension of xor must be 2 or more.")
    if min(settings.size) < 2 or settings.horizon < 10 * settings.step:
        raise ValueError("--size needs 2 points or more, --horizon ten times --step or more.")
    if settings.step * round(settings.horizon / settings.step) != settings.horizon:
        settings = replace(
            settings, horizon=settings.step * round(settings.horizon / settings.step)
        )
    if settings.device == "mps":
        raise ValueError("--device mps: Apple's GPUs have no float64; leave it out.")
    if settings.data in PICTURES and (len(settings.classes) % 2 or len(settings.classes) < 2):
        raise ValueError("--classes takes pairs of classes, one after the other: 0 6 2 4.")
    if len(set(settings.pairs)) < len(settings.pairs):
        raise ValueError("--classes has a pair twice; give each once.")
    return replace(
        settings,
        **{
            name: tuple(sorted(getattr(settings, name)))
            for name in ("size", "dimension", "depth", "width")
        },
    )


def is_preset(settings: GlobalConvergenceSettings) -> bool:
    """Whether expanded settings are those of their preset, but for seeds and where things are."""
    own = expand(GlobalConvergenceSettings(preset=settings.preset))
    return equal_but_for_seeds(settings, own, "check")


def settings_of(run: Run) -> GlobalConvergenceSettings:
    """The options with which a run was made."""
    return expand(restore(GlobalConvergenceSettings, run.config, run.path))
