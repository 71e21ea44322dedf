"""What a run of `train.py adversarial-training` measured, network by network, by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.adversarial_training.kernels import CLEAN, PARTS, PROBES
from ntkscale.experiments.adversarial_training.pieces import Plan, groups
from ntkscale.experiments.adversarial_training.settings import AdversarialTrainingSettings
from ntkscale.experiments.work import Piece, piece_name
from ntkscale.runs import Run

EARLY = 2.0
"""Epochs after which it is asked how much of the change is done."""
LATE = 0.75
"""From this part of the training on, velocity counts as late."""
SHARES = ("trace_share", "centred_trace_share", "squared_share", "centred_squared_share")

Curve = Float[ndarray, "T"]


@dataclass(frozen=True)
class Path:
    """A kernel on one probe, at the times of the looks.

    Attributes:
        epochs: of the looks, (T,).
        distances: S between all of them, (T, T).
        norm: |K_t|, (T,).
        shares: by the names in `SHARES`, (T,) each.
        radius, angle: |K_t - K_0| / |K_T - K_0|, and the angle between K_0 and K_t in degrees, by
            part of the kernel (full, top, bottom), (T,) each.
    """

    epochs: Curve
    distances: Float[ndarray, "T T"]
    norm: Curve
    shares: dict[str, Curve]
    radius: dict[str, Curve]
    angle: dict[str, Curve]

    def at(self, epochs: float) -> int:
        """The look nearest to that many epochs."""
        return int(np.abs(self.epochs - epochs).argmin())

    @property
    def growth(self) -> float:
        """|K_T| / |K_0|."""
        return float(self.norm[-1] / self.norm[0])

    @property
    def early_rotation(self) -> float:
        """Angle to K_0 after two epochs over that at the end."""
        angle = self.angle["full"]
        return float(angle[self.at(EARLY)] / angle[-1])

    @property
    def left_early(self) -> float:
        """S(K_t, K_T) after two epochs."""
        return float(self.distances[self.at(EARLY), -1])

    @property
    def velocity(self) -> Curve:
        """S between successive looks an epoch, (T - 1,)."""
        return np.diagonal(self.distances, 1) / np.diff(self.epochs)

    @property
    def late_velocity(self) -> float:
        """Mean velocity over the last quarter of the training."""
        late = self.epochs[:-1] >= LATE * self.epochs[-1]
        return float(self.velocity[late].mean()) if late.any() else float(self.velocity[-1])


@dataclass(frozen=True)
class Trained:
    """One network. Arrays (T,) are by look, (S,) by spawn time of linearised training.

    Attributes:
        cell: its name on disk.
        attack: what it was trained against: none, fgsm or pgd.
        gamma0: richness; None in the standard parameterization.
        seed: of weights and order.
        epochs: of the looks.
        accuracy: on clean training samples.
        clean, fgsm, robust: test accuracies, the last two under attack.
        paths: of the kernel, by probe.
        spawn: epochs; empty for standard training.
        worst: test accuracy at the end, under all attacks.
        linear_clean, linear_robust: test accuracies of the networks linearised there, after their
            own training, clean and under the attack on themselves; nan where that is not done or
            diverged.
        linear_worst: the same under all attacks, those through the full network among them.
    """

    cell: str
    attack: str
    gamma0: float | None
    seed: int
    epochs: Curve
    accuracy: Curve
    clean: Curve
    fgsm: Curve
    robust: Curve
    paths: dict[str, Path]
    spawn: Float[ndarray, "S"]
    linear_clean: Float[ndarray, "S"]
    linear_robust: Float[ndarray, "S"]
    linear_worst: Float[ndarray, "S"]
    worst: float

    def at(self, epochs: float) -> int:
        """The look nearest to that many epochs."""
        return int(np.abs(self.epochs - epochs).argmin())


def trained(run: Run, settings: AdversarialTrainingSettings) -> tuple[list[Trained], list[str]]:
    """Every network whose kernels are measured, in order, and the names of dead ones.

    A network is dead when its kernel is zero. Those that diverged, or are not done, are in neither.
    """
    found, dead = [], []
    for pieces in groups(settings):
        network, kernels = pieces[:2]
        status = run.results.get(kernels.name, {}).get("status")
        if status == "finished":
            found.append(_trained(run, pieces[0]))
        elif status == "dead":
            dead.append(network.name)
    return found, dead


def _trained(run: Run, piece: Piece) -> Trained:
    plan: Plan = piece.do.args[0]  # pyright: ignore[reportFunctionMemberAccess]
    record = run.results[piece_name(plan.piece("kernels"))]
    rows = run.metrics.filter(pl.col("cell") == piece.name).sort("step")
    epochs = rows["epoch"].to_numpy()

    def column(name: str) -> Curve:
        return rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def path(probe: str) -> Path:
        own, prefix = record[probe], "" if probe == CLEAN else f"{probe}_"
        return Path(
            epochs=epochs,
            distances=np.array(own["distances"]),
            norm=np.array(own["norm"]),
            shares={name: column(f"{prefix}{name}") for name in SHARES},
            radius={part: np.array(own[f"{part}_radius"], dtype=float) for part in PARTS},
            angle={part: np.degrees(np.array(own[f"{part}_angle"], dtype=float)) for part in PARTS},
        )

    spawn = list(plan.spawns.values())
    linear = [run.results.get(piece_name(plan.piece("linearised", spawn=e)), {}) for e in spawn]
    linear = [one if one.get("status") == "finished" else {} for one in linear]
    return Trained(
        cell=piece.name,
        attack=plan.attack,
        gamma0=plan.gamma0,
        seed=plan.seed,
        epochs=epochs,
        accuracy=column("accuracy"),
        clean=column("test_accuracy"),
        fgsm=column("fgsm_accuracy"),
        robust=column("robust_accuracy"),
        paths={probe: path(probe) for probe in PROBES},
        spawn=np.array(spawn),
        linear_clean=np.array([one.get("test_accuracy", np.nan) for one in linear]),
        linear_robust=np.array([one.get("robust_accuracy", np.nan) for one in linear]),
        linear_worst=np.array([one.get("worst_accuracy", np.nan) for one in linear]),
        worst=run.results[piece.name]["worst_accuracy"],
    )


def of_attack(own: Sequence[Trained], attack: str) -> list[Trained]:
    """Those trained against one attack, in the order of their seeds."""
    return [one for one in own if one.attack == attack]
