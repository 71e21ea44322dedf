"""Options of `train.py circle`, its presets, and what is refused."""

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
    Training,
    require_distinct,
    require_positive,
    with_preset,
)
from ntkscale.tasks import circle_q

Phases = Literal["aligned", "random"]


@dataclass(frozen=True)
class CircleSettings(Training):
    """Lazy and rich networks learn power-law targets on the circle; slopes against theory.

    presets: hard and easy, one target; table, 4 beta; activations, ReLU^1 to 3; depths, 1 to 4;
    phases, aligned against random ones over widths; frontier, loss against compute over widths.
    """

    preset: Annotated[
        Literal["none", "hard", "easy", "table", "activations", "depths", "phases", "frontier"],
        NAME,
    ] = "none"
    """one of those above"""
    quick: bool = False
    """rough: smaller, first seed alone"""
    beta: Floats = (0.5,)
    """source exponents of the target"""
    q: Floats = ()
    """instead of beta: decay of its modes"""
    gamma0: Floats = (1.0,)
    """richness; small is lazy, 1 is rich"""
    lazy: Number = 0.001
    """gamma0 of one lazy network; 0: none"""
    seed: Ints = (0,)
    """seeds of the initialisation"""
    width: Ints = (4096,)
    """neurons of a hidden layer"""
    depth: Ints = (1,)
    """hidden layers"""
    power: Ints = (1,)
    """of ReLU^power: 1, 2 or 3"""
    init: Annotated[Literal["ring", "gaussian"], NAME] = "ring"
    """ring (stratified, depth 1) or gaussian"""
    angles: Integer = 128
    """width is a multiple of 2 angles"""
    bias: bool = True
    """trained biases"""
    phases: Annotated[tuple[Phases, ...], arg(metavar="NAME ...")] = ("aligned",)
    """aligned, random Fourier phases, both"""
    draws: Integer = 1
    """how many targets of random phases"""
    points: Integer = 256
    """equispaced training points"""
    modes: Integer = 0
    """of the target; 0: points/2 - 1"""
    window: Annotated[tuple[float, float], arg(metavar="LOW HIGH")] = (0.0, 0.0)
    """lazy times for slopes; 0 0: chosen"""
    horizon: Number = 0.0
    """flow time to end at; 0: the window"""
    steps: Integer = 60_000
    """at most, in each training"""
    step_fraction: Number = 0.5
    """step size x lambda_max"""
    batched: bool = False
    """train seeds as one ensemble"""
    dtype: Annotated[Literal["auto", "float32", "float64"], NAME] = "auto"
    """auto: float64 where float32 is too coarse"""

    def sources(self, power: int) -> list[tuple[float, float]]:
        """(beta, q) of every target of a ReLU^power network, in the order given.

        beta is that of a kernel which falls as k^(-2 power).
        """
        if self.q:
            return [((2 * q - 1) / (2 * power), q) for q in self.q]
        return [(beta, circle_q(beta, power)) for beta in self.beta]

    def targets(self) -> list[int]:
        """Phases of every target of one q: 0 are aligned ones, n > 0 the n-th random draw."""
        return [
            draw
            for kind in self.phases
            for draw in ([0] if kind == "aligned" else range(1, self.draws + 1))
        ]

    def varying(self) -> list[str]:
        """Names of the axes, besides beta, gamma0 and seed, along which cells differ."""
        several = {
            "power": len(self.power),
            "depth": len(self.depth),
            "phases": len(self.targets()),
            "width": len(self.width),
        }
        return [name for name, count in several.items() if count > 1]


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "hard": {"beta": (0.5,)},
    "easy": {"beta": (1.25,)},
    "table": {
        "beta": (0.25, 0.5, 0.75, 1.25),
        "seed": (0, 1, 2),
        "window": (160.0, 3500.0),
    },
    "activations": {
        "q": (1.0, 1.75),
        "power": (1, 2, 3),
        "seed": (0, 1),
        "width": (2048,),
        "angles": 64,
        "points": 128,
        "steps": 120_000,
    },
    "depths": {
        "beta": (0.5,),
        "depth": (1, 2, 3, 4),
        "seed": (0, 1),
        "width": (512,),
        "init": "gaussian",
        "points": 128,
        "lazy": 1e-5,
    },
    "phases": {
        "beta": (0.5,),
        "phases": ("aligned", "random"),
        "draws": 3,
        "seed": (0, 1),
        "width": (256, 512, 1024, 2048, 4096),
        "angles": 64,
        "points": 128,
        "window": (80.0, 800.0),
        "horizon": 800.0,
    },
    "frontier": {
        "beta": (0.5,),
        "seed": (0, 1, 2, 3),
        "width": (4, 8, 16, 32, 64),
        "init": "gaussian",
        "points": 512,
        "lazy": 1e-4,
        "window": (10.0, 1000.0),
        "horizon": 3000.0,
        "steps": 400_000,
    },
}

QUICK: Mapping[str, Mapping[str, Any]] = {
    "activations": {"width": (1024,), "step_fraction": 0.9},
    "depths": {"width": (256,), "step_fraction": 0.9},
    "phases": {"width": (256, 1024), "draws": 1, "step_fraction": 0.9},
    "frontier": {"width": (4, 8, 16), "points": 256, "horizon": 1000.0, "step_fraction": 0.9},
}
"""What `--quick` makes of a preset, before the preset itself; other runs: width 1024."""


def with_presets(settings: CircleSettings) -> CircleSettings:
    """The settings with their preset and `quick` written out.

    Raises:
        ValueError: the target is described twice.
    """
    preset = PRESETS[settings.preset]
    if settings.q and (settings.beta != (0.5,) or "beta" in preset):
        raise ValueError("--q says what --beta, or a preset, says already; give one of them.")
    if settings.beta != (0.5,) and "q" in preset:
        raise ValueError(f"--preset {settings.preset} varies --q; give --q instead of --beta.")
    if settings.quick:
        rough = QUICK.get(settings.preset, {"width": (1024,), "step_fraction": 0.9})
        preset = {**preset, **rough}
    settings = with_preset(settings, preset)
    if settings.quick:
        settings = replace(settings, seed=settings.seed[:1])
    return replace(settings, preset="none", quick=False)


def check(settings: CircleSettings) -> None:
    """Refuse options out of their range.

    Raises:
        ValueError: the sentence names the option and the cure.
    """
    for q in settings.q:
        if not q > 0.5:
            raise ValueError(
                f"--q {q} has no finite power (sum k^-2q diverges); give a q above 1/2."
            )
    require_positive(
        beta=settings.beta,
        gamma0=settings.gamma0,
        width=settings.width,
        depth=settings.depth,
        power=settings.power,
        draws=settings.draws,
        points=settings.points,
        steps=settings.steps,
        step_fraction=settings.step_fraction,
    )
    require_distinct(seed=settings.seed)
    require_distinct(phases=settings.phases)  # pyright: ignore[reportArgumentType]
    if max(settings.power) > 3:
        raise ValueError(f"--power {max(settings.power)} is unknown; choose 1, 2 or 3.")
    if settings.init == "ring" and settings.depth != (1,):
        raise ValueError(
            f"--init ring is for one hidden layer, not --depth {max(settings.depth)}; "
            "choose --init gaussian."
        )
    if settings.step_fraction >= 1:
        raise ValueError(
            f"--step-fraction {settings.step_fraction} is at the edge of stability; stay below 1."
        )
    low, high = settings.window
    if (low, high) != (0, 0) and not 0 < low < high:
        raise ValueError(f"--window {low} {high} is no range of times; give 0 < low < high.")
    if not 0 <= settings.horizon < math.inf:
        raise ValueError(f"--horizon {settings.horizon} must be a time, or 0.")
    if not 0 <= settings.lazy < math.inf or settings.lazy in settings.gamma0:
        raise ValueError(f"--lazy {settings.lazy} must be 0 (none) or above, and none of --gamma0.")
    if settings.points < 32:
        raise ValueError(f"--points {settings.points} is too few for a power law; give 32 or more.")
