"""What a training run is asked to do, checked when it is written down."""

import math
from dataclasses import dataclass
from typing import Literal

Method = Literal["flow", "sgd", "momentum", "adam"]
Schedule = Literal["constant", "linear", "cosine"]
Augmentation = Literal["none", "flip", "shift"]


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    Learning rates are flow time per step: `theta -= eta gamma^2 grad L`, so that one value means
    the same at every width and richness (Adam apart, which has no flow time).

    Raises:
        ValueError: a value out of range, or an option that the method has no use for.
    """

    method: Method = "sgd"
    """flow: full-batch gradient flow by small steps; sgd; momentum; adam"""
    steps: int = 10_000
    """the run ends after this many steps"""
    horizon: float | None = None
    """the run ends at this flow time, if that comes first"""
    learning_rate: float = 0.1
    """eta, flow time per step (Adam: its own unit); gradient flow chooses its own"""
    batch_size: int | None = None
    """samples per step, without replacement; default: the whole training set"""
    schedule: Schedule = "constant"
    """learning rate after the warm-up: constant, or falling to zero at the last step"""
    warmup: int = 0
    """steps over which the learning rate rises linearly"""
    momentum: float = 0.9
    """mu of the momentum method; its flow time is eta / (1 - mu) a step"""
    weight_decay: float = 0.0
    """theta -= eta weight_decay theta, whatever gamma is"""
    step_fraction: float = 0.5
    """gradient flow: eta lambda_max of the kernel; below 2 for stability"""
    augmentation: Augmentation = "none"
    """images: random horizontal flips, or shifts by up to an eighth of the image"""

    def __post_init__(self) -> None:
        for name, known in (
            ("method", ("flow", "sgd", "momentum", "adam")),
            ("schedule", ("constant", "linear", "cosine")),
            ("augmentation", ("none", "flip", "shift")),
        ):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} {value!r} is unknown: choose one of {', '.join(known)}.")
        for name, value, holds, wanted in (
            ("steps", self.steps, self.steps >= 1, "at least 1"),
            ("horizon", self.horizon, self.horizon is None or self.horizon > 0, "above 0"),
            ("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0"),
            ("batch_size", self.batch_size, (self.batch_size or 1) >= 1, "at least 1"),
            ("warmup", self.warmup, 0 <= self.warmup < self.steps, "in [0, steps)"),
            ("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0"),
            ("step_fraction", self.step_fraction, 0 < self.step_fraction < 2, "in (0, 2)"),
        ):
            if not holds or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"{name} is {value}, but it must be {wanted}.")
        if self.batch_size == 0:
            raise ValueError("batch_size is 0, but it must be at least 1.")
        if self.method == "flow":
            for name, default in (
                ("batch_size", None),
                ("schedule", "constant"),
                ("warmup", 0),
                ("augmentation", "none"),
            ):
                if getattr(self, name) != default:
                    raise ValueError(
                        f"gradient flow has no {name}: leave {name} at {default!r} "
                        "or choose method 'sgd'."
                    )
        if self.method == "adam" and self.horizon is not None:
            raise ValueError("Adam has no flow time: give steps instead of a horizon.")

    @property
    def has_flow_time(self) -> bool:
        """Whether time is defined: for every method but Adam."""
        return self.method != "adam"

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step number `step` (from 0).

        It rises as (step + 1) / warmup, then stays, or falls linearly or as half a cosine from its
        full value at the end of the warm-up to zero at `steps`. A pure function of the step, so
        that resuming needs no scheduler state.
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / (self.steps - self.warmup)
        if self.schedule == "linear":
            return self.learning_rate * (1 - done)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate

    def flow_time(self, learning_rate: float) -> float:
        """Flow time of one step: eta, or eta / (1 - mu) with momentum."""
        return learning_rate / (1 - self.momentum) if self.method == "momentum" else learning_rate
