"""One teacher, all arms side by side: the three stages, looked at on the way (a piece of work)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkscale.experiments.local_analysis.record import open_logs
from ntkscale.experiments.local_analysis.settings import LocalAnalysisSettings
from ntkscale.experiments.settings import resolve_device
from ntkscale.experiments.work import Desk, Piece, save_piece
from ntkscale.theory.local_analysis import (
    FAR,
    Objective,
    Population,
    Student,
    Teacher,
    balance,
    certify,
    descend,
    draw_samples,
    draw_teacher,
    early_step,
    measure,
    minimiser,
    penalty,
    second_layer,
    symmetric_start,
    tail,
    violated,
)

DESCENT = "descent"
"""Kind of these pieces, before the name of their nonlinearity."""

LOOKS = 13
"""At most so many looks a phase, log-spaced in steps."""

MONTE_CARLO = 100_000
"""Samples that the exact loss is compared with."""


@dataclass(frozen=True)
class Phase:
    """A stretch of descent: its lambda (for ReLU's power) and how many steps."""

    lam: float
    steps: int


def phases(settings: LocalAnalysisSettings) -> list[Phase]:
    """Those of stage 3; a last one without lambda if there is to be one."""
    found = [Phase(lam, settings.steps) for lam in settings.lam]
    return found + ([Phase(0.0, settings.final_steps)] if settings.final_steps else [])


def looks(steps: int, most: int = LOOKS) -> list[int]:
    """Steps of a phase at which it is looked at, log-spaced, the last among them."""
    return sorted({round(step) for step in np.geomspace(1, steps, most)})


def teacher_of(settings: LocalAnalysisSettings, seed: int) -> Teacher:
    """The teacher of a seed, where the run's tensors are."""
    device = resolve_device(settings.device)
    own = draw_teacher(settings.dimension, settings.teachers, settings.least_angle, seed)
    return Teacher(own.directions.to(device), own.weights.to(device))


def descent_piece(
    settings: LocalAnalysisSettings, activation: str, samples: int, seed: int
) -> Piece:
    """All arms of one teacher."""
    key = {"part": f"{DESCENT}-{activation}", "samples": samples, "seed": seed}
    return Piece(key, partial(_descent, settings, activation))


def _descent(
    settings: LocalAnalysisSettings, activation: str, desk: Desk, piece: Piece
) -> dict[str, Any]:
    teacher, phi = teacher_of(settings, piece.key["seed"]), tail(activation)
    exact = Population(teacher, phi)
    count, seed = piece.key["samples"], piece.key["seed"]
    objective: Objective = exact if not count else draw_samples(teacher, phi, count, 1000 + seed)
    scale, plan = settings.scale(activation), phases(settings)
    rate = settings.rate / scale
    on = torch.tensor(
        [arm in ("schedule", "no-stage-1") for arm in settings.arms],
        dtype=torch.float64, device=teacher.directions.device,
    )  # fmt: skip

    logs = open_logs(settings, desk, piece, "arm", settings.arms)

    def look(a: Tensor, W: Tensor, stage: str, phase: int, lam: float, step: int) -> None:
        strengths = scale * lam * on
        losses = objective.loss(a, W)
        # The certificate's condition holds lambda of the whole, so the same units are recorded.
        objectives = losses + strengths * penalty(a, W)
        for place, arm in enumerate(settings.arms):
            row = {"cell": piece.name, **piece.key, "arm": arm, "stage": stage, "phase": phase}
            row |= {"lam": float(strengths[place]), "step": step, "time": step * rate}
            row |= {"mse": float(losses[place]), "objective": float(objectives[place])}
            if count:
                row["test_mse"] = float(exact.loss(a[place], W[place]))
            found = asdict(measure(a[place], W[place], teacher, phi))
            far = found.pop("far")
            row |= found | {f"far_{d:g}": value for d, value in zip(FAR, far, strict=True)}
            desk.folder.append(row)
            logs[arm].log(row)

    def keep(a: Tensor, W: Tensor, name: str) -> None:
        desk.folder.write_weights(f"{piece.name},{name}", {"a": a.cpu(), "W": W.cpu()})

    if desk.saved is None:
        before, landed, (a, W) = _first_stages(settings, objective, seed, on.device, scale)
        for name, (read_out, directions) in (("start", before), ("stage=1", landed)):
            look(read_out, directions, name, -1, 0.0, 0)
            keep(read_out, directions, name)
        look(a, W, "stage=2", -1, 0.0, 0)
        keep(a, W, "stage=2")
        record = _checks(exact, a[0], W[0], seed) if not count else {}
        record |= {"certificates": []}
        position, done = 0, 0
        save_piece(desk, piece, {"a": a, "W": W}, {"at": [0, 0], "record": record})
    else:
        tensors, meta = desk.saved
        a, W = (tensors[name].to(on.device) for name in ("a", "W"))
        (position, done), record = meta["at"], meta["record"]
    for index in range(position, len(plan)):
        phase, first = plan[index], sum(earlier.steps for earlier in plan[:index])
        for step in looks(phase.steps):
            if step <= done:
                continue
            a, W = descend(objective, a, W, scale * phase.lam * on, step - done, rate)
            done, at = step, [index, step]
            look(a, W, "stage=3" if phase.lam else "end", index, phase.lam, first + step)
            desk.tell((index + step / phase.steps) / len(plan), f"lambda {phase.lam:g}  {step}")
            if step == phase.steps:
                keep(a, W, f"phase={index}")
                at = [index + 1, 0]
                if phase.lam:
                    lam = scale * phase.lam
                    record["certificates"] += _certificates(exact, a, W, lam, settings.arms)
            save_piece(desk, piece, {"a": a, "W": W}, {"at": at, "record": record})
        done = 0
    for log in logs.values():
        log.finish()
    return {
        "activation": activation,
        "status": "finished" if bool(W.isfinite().all()) else "diverged",
        "least_angle": teacher.least_angle,
        "condition": min(teacher.condition, 1e300),
        "violated": violated(teacher, phi, settings.width),
        "scale": scale,
        "power": exact.scale,
        **record,
    }


def _first_stages(
    settings: LocalAnalysisSettings,
    objective: Objective,
    seed: int,
    device: torch.device,
    scale: float,
) -> tuple[Student, Student, Student]:
    """Students of all arms at the start, after stage 1, and balanced after stage 2."""
    a, W = (part.to(device) for part in symmetric_start(settings.width, settings.dimension, seed))
    stepped = early_step(objective, a, W)
    landed = torch.stack([W if _skips(arm) else stepped for arm in settings.arms])
    start = a.expand(len(settings.arms), -1), W.expand(len(settings.arms), -1, -1)
    fitted = second_layer(objective, landed, scale * settings.ridge)
    return (start[0].clone(), start[1].clone()), (start[0].clone(), landed), balance(*fitted)


def _skips(arm: str) -> bool:
    return arm in ("no-stage-1", "neither")


def _certificates(
    exact: Population, a: Tensor, W: Tensor, lam: float, arms: Sequence[str]
) -> list[dict[str, Any]]:
    """Of the regularised arms at the end of a phase, with what the laws say."""
    law, found = minimiser(exact, lam), []
    for place, arm in enumerate(arms):
        if arm in ("schedule", "no-stage-1"):
            own = {"arm": arm, "lam": lam, **asdict(certify(exact, a[place], W[place], lam))}
            own |= {"formula_mse": law.mse, "formula_mass": law.mass}
            found.append({**own, "formula_holds": law.holds(exact)})
    return found


def _checks(exact: Population, a: Tensor, W: Tensor, seed: int) -> dict[str, Any]:
    """The exact loss against samples, in standard errors, and its gradient against autograd."""
    sample = draw_samples(exact.teacher, exact.phi, MONTE_CARLO, 5000 + seed)
    # Mean and scatter of the squared error with the best constant and line of these samples.
    squares = _squared_errors(sample.inputs, sample.targets, sample.basis, a, W, exact)
    deviation = squares.std() / len(squares) ** 0.5
    by_a, by_w, loss = exact.gradients(a, W)
    with torch.enable_grad():
        leaves = a.clone().requires_grad_(), W.clone().requires_grad_()
        slow = torch.autograd.grad(exact.loss(*leaves), leaves)
    own, other = (torch.cat([part.flatten() for part in pair]) for pair in ((by_a, by_w), slow))
    return {
        "monte_carlo": float((squares.mean() - loss) / deviation),
        "gradient_error": float((own - other).norm() / other.norm()),
    }


def _squared_errors(
    x: Tensor, y: Tensor, basis: Tensor, a: Tensor, W: Tensor, exact: Population
) -> Tensor:
    norms = W.norm(dim=1)
    units = (W / norms[:, None]).T
    outputs = [exact.phi.function(part @ units) @ (a * norms) for part in x.split(10_000)]
    error = torch.cat(outputs) - y
    return (error - basis @ (basis.T @ error)).square()
