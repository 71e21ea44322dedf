"""Options of `train.py local-analysis`, its presets, and what they are expanded to."""

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
    equal_but_for_seeds,
    require_distinct,
    require_positive,
    restore,
    with_preset,
)
from ntkscale.runs import Run
from ntkscale.theory.local_analysis import draw_teacher, tail, violated

EXPERIMENT = "local-analysis"
Preset = Literal["d10", "d20", "d100", "sampled", "activations", "bridge"]
Arm = Literal["schedule", "no-regularisation", "no-stage-1", "neither"]
ARMS: tuple[Arm, ...] = ("schedule", "no-regularisation", "no-stage-1", "neither")

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "d10": {},
    "d20": {"dimension": 20, "teachers": 4, "width": 80},
    "d100": {
        "dimension": 100, "teachers": 5, "width": 1000, "steps": 6000, "rate": 0.2,
        "lam": (0.1, 0.05, 0.025, 0.0125), "arms": ("schedule", "no-regularisation"),
        "cost": (10, 20, 50, 100), "final_steps": 0, "seed": (0,),
    },
    "sampled": {
        "samples": (200, 1000, 4000), "steps": 2000, "rate": 0.1, "lam": (0.1, 0.05, 0.025),
        "arms": ("schedule", "no-regularisation"), "final_steps": 0, "seed": (0, 1, 2),
    },
    "activations": {
        "activation": ("relu", "abs", "relu2", "gelu", "erf", "square"), "steps": 4000,
        "lam": (0.1, 0.05, 0.025, 0.0125), "final_steps": 0, "seed": (0, 1, 2),
    },
    "bridge": {
        "gamma0": (0.03, 0.1, 0.3, 1.0, 3.0), "activation": (),
        "lam": (0.1, 0.05, 0.025, 0.0125),
    },
}  # fmt: skip
"""What each preset makes of options that are not given; `d10` is the defaults."""

QUICK: Mapping[str, Any] = {
    "width": 30,
    "steps": 1500,
    "lam": (0.1, 0.05, 0.025),
    "final_steps": 500,
    "horizon": 3000.0,
    "seed": (0, 1),
}
"""What `--quick` makes of any preset, before the preset itself."""


@dataclass(frozen=True)
class LocalAnalysisSettings(Training):
    """Does descent find a teacher's directions? One large step, read-out, regularised end phase.

    Presets: d10 and d20, exact loss in 10 and 20 dimensions; d100, how cost grows; sampled;
    activations; bridge, features early, along the way (gamma0) or late, on one task.
    """

    preset: Annotated[Preset, NAME] = "d10"
    """one of those above"""
    quick: bool = False
    """rough: small, two seeds"""
    dimension: Integer = 10
    """d of the inputs"""
    teachers: Integer = 3
    """neurons of the teacher"""
    width: Integer = 50
    """neurons of the student, an even number"""
    least_angle: Number = 50.0
    """degrees between teacher directions"""
    activation: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("relu",)
    """or abs, relu2, gelu, erf, tanh, square"""
    samples: Ints = (0,)
    """training samples; 0: the exact loss"""
    arms: Annotated[tuple[Arm, ...], arg(metavar="NAME ...")] = ARMS
    """schedule no-regularisation no-stage-1 neither"""
    lam: Floats = (0.1, 0.05, 0.025, 0.0125, 0.00625)
    """lambda of each phase, for ReLU's power"""
    steps: Integer = 8000
    """of descent, each phase"""
    final_steps: Integer = 8000
    """after the last phase, lambda = 0"""
    rate: Number = 0.05
    """step size of stage 3, for ReLU's power"""
    ridge: Number = 1e-3
    """of stage 2, for ReLU's power"""
    gamma0: Floats = ()
    """of mean-field students: features along the way"""
    horizon: Number = 20_000.0
    """flow time they are trained for"""
    flow_step: Number = 2.0
    """flow time a step"""
    cost: Ints = ()
    """dimensions to time a step in, width d^2 / 10"""
    seed: Ints = (0, 1, 2, 3, 4)
    """of teacher, student and samples"""

    def scale(self, activation: str) -> float:
        """By which lambda, ridge and 1 / rate of that nonlinearity are multiplied."""
        return tail(activation).power / tail("relu").power


def expand(settings: LocalAnalysisSettings) -> LocalAnalysisSettings:
    """The settings with preset and `quick` written out, checked.

    Raises:
        ValueError: an option is out of its range; the sentence names it and the cure.
    """
    if settings.quick:
        settings = replace(with_preset(settings, QUICK), quick=False)
    settings = with_preset(settings, PRESETS[settings.preset])
    if settings.device == "mps":
        raise ValueError("--device mps has no double precision, which this needs: leave it out.")
    require_positive(
        dimension=settings.dimension,
        teachers=settings.teachers,
        width=settings.width,
        lam=settings.lam,
        steps=settings.steps,
        rate=settings.rate,
        ridge=settings.ridge,
        horizon=settings.horizon,
        flow_step=settings.flow_step,
    )
    for option in ("gamma0", "cost"):
        if getattr(settings, option):
            require_positive(**{option: getattr(settings, option)})
    require_distinct(seed=settings.seed, samples=settings.samples, arms=settings.arms)  # pyright: ignore
    if not (settings.activation or settings.gamma0):
        raise ValueError("--activation is empty, and so is --gamma0: give one of them.")
    if len(set(settings.activation)) < len(settings.activation):
        raise ValueError("--activation has a name twice; give each once.")
    if min(settings.seed) < 0 or settings.final_steps < 0:
        raise ValueError("--seed and --final-steps must be 0 or above.")
    if settings.width % 2:
        raise ValueError(
            f"--width {settings.width} is odd: neurons start in pairs, give an even one."
        )
    if not 0 <= settings.least_angle < 90:
        raise ValueError(f"--least-angle {settings.least_angle:g} must be from 0 to below 90.")
    for count in settings.samples:
        if count and count <= settings.dimension + 1:
            raise ValueError(
                f"--samples {count} are fitted by a constant and a line: give more than "
                f"{settings.dimension + 1}, or 0 for the exact loss."
            )
    if settings.activation and "schedule" not in settings.arms:
        raise ValueError("--arms needs schedule, which the others are compared with.")
    for name in settings.activation:
        tail(name)
    if settings.rate * max(settings.lam) >= 1:
        raise ValueError(f"--rate {settings.rate:g} overshoots at the largest --lam: lower it.")
    for seed in settings.seed:
        draw_teacher(settings.dimension, settings.teachers, settings.least_angle, seed)
    return replace(
        settings,
        lam=tuple(sorted(settings.lam, reverse=True)),
        gamma0=tuple(sorted(settings.gamma0)),
    )


def assumptions(settings: LocalAnalysisSettings) -> list[str]:
    """What the theorem asks for and this run does not give it, in sentences."""
    found: dict[str, list[int]] = {}
    for seed in settings.seed:
        teacher = draw_teacher(settings.dimension, settings.teachers, settings.least_angle, seed)
        for name in settings.activation or ("relu",):
            for said in violated(teacher, tail(name), settings.width):
                found.setdefault(said, []).append(seed)
    every = len(settings.seed)
    said = [
        text if len(seeds) == every else f"{text} (seed {', '.join(map(str, seeds))})"
        for text, seeds in found.items()
    ]
    few = [count for count in settings.samples if 0 < count < settings.dimension**2]
    if few:
        said.append(
            f"{', '.join(map(str, few))} samples are fewer than d^2 = {settings.dimension**2}: one "
            "step on them does not find the teacher's subspace."
        )
    return said


def is_preset(settings: LocalAnalysisSettings) -> bool:
    """Whether expanded settings are those of their preset, but for seeds and where things are."""
    own = expand(LocalAnalysisSettings(preset=settings.preset))
    return equal_but_for_seeds(settings, own)


def settings_of(run: Run) -> LocalAnalysisSettings:
    """The options with which a run was made."""
    return expand(restore(LocalAnalysisSettings, run.config, run.path))
