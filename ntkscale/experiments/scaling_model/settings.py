"""Options of `train.py scaling-model`, checked."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ntkscale import runs
from ntkscale.experiments.settings import (
    Common,
    Floats,
    Ints,
    Number,
    require_distinct,
    require_positive,
)
from ntkscale.experiments.solvable_options import (
    require_capacity,
    require_rates,
    require_seeds,
    require_stable,
)

EXPERIMENT = "scaling-model"
Part = Literal["exponents", "phases", "curves", "sgd", "data"]


@dataclass(frozen=True)
class ScalingModelSettings(Common):
    """Exponents, phases, curves, SGD transients and finite data of the solvable model.

    Curves are solved for every beta, lazy and rich; the rich one is the largest gamma.
    """

    quick: bool = False
    """rough: fewer points, three seeds"""
    parts: Annotated[tuple[Part, ...], arg(metavar="NAME ...")] = (
        "exponents",
        "phases",
        "curves",
        "sgd",
        "data",
    )
    """exponents phases curves sgd data"""
    alpha: Number = 1.5
    """capacity exponent, above 1"""
    beta: Floats = (0.5, 1.25, 2.2)
    """source exponents of the curves"""
    gamma: Floats = (0.0, 0.01, 0.1, 1.0)
    """feature-learning rates; 0 is lazy"""
    width: Ints = (64, 256, 1024)
    """finite widths N"""
    batch_size: Ints = (2, 8, 32)
    """B of one-pass SGD"""
    num_data: Ints = (64, 128, 256, 512, 1024)
    """training points P"""
    noise: Number = 0.5
    """standard deviation of noisy labels"""
    learning_rate: Number = 0.1
    """of the SGD"""
    horizon: Number = 10_000.0
    """flow time of the curves; SGD: a tenth"""
    seed: Ints = (0, 1, 2, 3, 4, 5, 6, 7)
    """draws of A_0, of data and batches"""
    circle: Annotated[tuple[Path, ...], arg(metavar="RUN ...")] = ()
    """circle runs to compare exponents with"""

    @property
    def rich(self) -> float:
        """The largest gamma."""
        return max(self.gamma)


def expand(settings: ScalingModelSettings) -> ScalingModelSettings:
    """The settings with `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(
            settings,
            quick=True,
            width=settings.width[:2],
            num_data=settings.num_data[:4],
            batch_size=settings.batch_size[:2],
            gamma=tuple(sorted({min(settings.gamma), settings.rich})),
            horizon=min(settings.horizon, 2000.0),
            seed=settings.seed[:3],
        )
    require_positive(
        beta=settings.beta,
        width=settings.width,
        batch_size=settings.batch_size,
        num_data=settings.num_data,
        noise=settings.noise,
        learning_rate=settings.learning_rate,
        horizon=settings.horizon,
    )
    require_distinct(seed=settings.seed, gamma=settings.gamma)
    require_distinct(parts=settings.parts)  # pyright: ignore[reportArgumentType]
    if min(settings.gamma) != 0 or settings.rich <= 0:
        raise ValueError("--gamma needs 0, which is lazy, and a value above it.")
    require_capacity(settings.alpha)
    require_seeds(settings.seed)
    require_rates(settings.gamma)
    if "data" in settings.parts and len(settings.num_data) < 3:
        raise ValueError("--num-data needs three values or more, or there is no exponent.")
    if "sgd" in settings.parts or "phases" in settings.parts:
        require_stable(settings.alpha, settings.learning_rate, min(settings.batch_size))
    for path in settings.circle:
        if not (path / "config.json").exists() or runs.load(path).config["experiment"] != "circle":
            raise ValueError(f"--circle {path} is no circle run; name the folder of one.")
    return settings
