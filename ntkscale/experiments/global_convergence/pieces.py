"""What `train.py global-convergence` does for each model: follow it, and hold it to its bounds."""

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntkscale.experiments.global_convergence.models import Model, models
from ntkscale.experiments.global_convergence.settings import EXPERIMENT, GlobalConvergenceSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.networks import MLP
from ntkscale.reporting import WandbLog
from ntkscale.tasks import Task
from ntkscale.theory import partially_trained
from ntkscale.theory.infinite_width import lazy_flow
from ntkscale.theory.partially_trained import Flow, Problem, infinite_gram, infinite_kernel
from ntkscale.training import Optimisation, Trainer

_EVEN, _EARLY = 60, 30  # snapshots spread evenly over time, and over its logarithm
_ROUNDING = 1e-9


def groups(settings: GlobalConvergenceSettings) -> list[list[Piece]]:
    """One piece a model; each stands alone."""
    return [[Piece(model.key, partial(_train, model))] for model in models(settings)]


def _train(model: Model, desk: Desk, piece: Piece) -> dict[str, Any]:
    settings = model.settings
    network, task, problem = model.both()
    told = partially_trained.assumptions(problem, step=settings.step)
    promised = partially_trained.guarantee(problem)
    moments = [
        *np.linspace(0, settings.horizon, _EVEN),
        *np.geomspace(settings.step, settings.horizon, _EARLY),
        settings.check * settings.step,
    ]
    found = partially_trained.flow(
        problem,
        settings.horizon,
        step=settings.step,
        at=moments,
        stop_below=settings.floor * float(problem.targets.square().mean()),
        progress=lambda now, total: desk.tell(now / total, f"step {now}"),
    )
    _record_curves(model, desk, piece, problem, task, found)
    line = partially_trained.fit_line(found.times, found.loss)
    end = found.snapshots[-1]
    record: dict[str, Any] = {
        "scaling": model.scaling,
        "activation": model.activation,
        "lowest": problem.extremes[0],
        "largest": problem.extremes[1],
        "loss": float(found.loss[-1]),
        "time": float(found.times[-1]),
        "steps": len(found.times),
        "slope": line.rate,
        "r_squared": line.r_squared,
        "least_rate": float(found.rate.min()),
        "least_proven": float(found.proven.min()),
        "largest_proven": float(found.proven.max()),
        # A bound that is 0 is kept by rounding's leave.
        "violations": int((found.rate < found.proven * (1 - _ROUNDING) - 1e-15).sum()),
        "tightest": float((found.rate / found.proven).min()) if found.proven.min() > 0 else None,
        "above_proven_loss": float(np.log(found.loss / found.proven_loss).max()),
        "schur_slack": min(shot.schur_slack for shot in found.snapshots),
        "active": float(found.active.min()),
        "movement": end.movement,
        "rms_movement": end.rms_movement,
        "feature_distance": end.feature_distance,
        "tangent_distance": end.tangent_distance,
        "distinct": len(task.inputs.unique(dim=0)) == model.size,
        "told": [asdict(one) for one in told],
        "promised": None if promised is None else promised.rate,
    }
    moved = found.hidden - problem.hidden
    lazy = partially_trained.limit_movement(problem, float(found.times[-1]))
    record["limit_movement"] = float(lazy.norm() / problem.hidden.norm())
    record["alike"] = _alike(moved, problem.readout)
    if promised is not None:
        bound = found.loss[0] * np.exp(-promised.rate * found.times)
        record["promise_kept"] = bool(
            (found.loss <= bound * (1 + _ROUNDING)).all()
            and (found.proven >= promised.rate * (1 - _ROUNDING)).all()
            and (moved.abs() <= promised.movement).all()
        )
    if task.test_targets is not None:
        record |= _tests(model, task, problem, found)
    if settings.check and model.seed == settings.seed[0]:
        record["training_gap"] = _training_gap(model, network, task, found)
    rms = moved.square().mean(0).sqrt()
    desk.folder.write_weights(piece.name, {"neuron_movement": rms.cpu()})
    return record


def _record_curves(
    model: Model, desk: Desk, piece: Piece, problem: Problem, task: Task, found: Flow
) -> None:
    """One row a snapshot, in the run's metrics and as a W&B run."""
    log = WandbLog(
        model.settings.wandb,
        desk.home,
        name=piece.name,
        group=f"{EXPERIMENT}/{desk.home.name}",
        config={**desk.folder.config, **piece.key},
    )
    named = {"scaling": model.scaling, "activation": model.activation}
    proven_loss = found.proven_loss
    for shot in found.snapshots:
        row = {
            "time": shot.time,
            "step": shot.step,
            "loss": float(found.loss[shot.step]),
            "mse": 2 * float(found.loss[shot.step]),
            "accuracy": _accuracy(shot.outputs, problem.targets),
            "kernel_distance": shot.tangent_distance,
            "instantaneous_rate": float(found.rate[shot.step]),
            "proven_rate": float(found.proven[shot.step]),
            "proven_loss": float(proven_loss[shot.step]),
            "active_fraction": float(found.active[shot.step]),
            "hidden_movement": shot.movement,
            "hidden_rms_movement": shot.rms_movement,
            "feature_kernel_distance": shot.feature_distance,
        }
        if shot.test_outputs is not None and task.test_targets is not None:
            y = task.test_targets[:, 0]
            row["test_mse"] = float((shot.test_outputs - y).square().mean())
            row["test_accuracy"] = _accuracy(shot.test_outputs, y)
        desk.folder.append({"cell": piece.name, **piece.key, **named, **row})
        log.log(row)
    log.finish()


def _tests(model: Model, task: Task, problem: Problem, found: Flow) -> dict[str, float]:
    """Errors of the network, of its lazy limit, and of that at infinite widths."""
    assert task.test_targets is not None and task.test_inputs is not None
    y, own = task.test_targets[:, 0], found.snapshots[-1].test_outputs
    assert own is not None
    times = [float(found.times[-1]), math.inf]
    _, limit = partially_trained.limit_flow(problem, times)
    assert limit is not None
    net = model.network(task.inputs.shape[1])
    how: dict[str, Any] = {"activation": model.activation, "normalised": net.normalised}
    shape = how | {"depth": model.depth, "bias": model.settings.bias}
    gram, cross = (
        infinite_gram(points, None if points is task.inputs else task.inputs, **shape)
        for points in (task.inputs, task.test_inputs)
    )
    alone = infinite_gram(task.test_inputs, **shape).diagonal()
    # The full mean-field has h of variance G / M, which only homogeneous sigma do not see.
    small = model.settings.frozen if model.scaling == "full-mean-field" else 1
    theta = small * infinite_kernel(gram / small, **how)
    onto = small * infinite_kernel(cross / small, alone / small, gram.diagonal() / small, **how)
    infinite = lazy_flow(theta, problem.targets, times, cross=onto).mean
    gap = (own - limit[0]).square().mean().sqrt() / limit[0].square().mean().sqrt()
    return {
        "test_error": 1 - _accuracy(own, y),
        "test_mse": float((own - y).square().mean()),
        "limit_error": 1 - _accuracy(limit[0], y),
        "limit_mse": float((limit[0] - y).square().mean()),
        "limit_end_error": 1 - _accuracy(limit[1], y),
        "infinite_error": 1 - _accuracy(infinite[0], y),
        "infinite_mse": float((infinite[0] - y).square().mean()),
        "limit_gap": float(gap),
    }


def _training_gap(model: Model, network: MLP, task: Task, found: Flow) -> float:
    """Largest difference of outputs, on all points, to the network trained as such.

    Raises:
        KeyboardInterrupt: Ctrl-C; the piece begins again when the run goes on.
    """
    settings = model.settings
    steps = min(settings.check, len(found.times) - 1)
    shot = next(shot for shot in found.snapshots if shot.step == steps)
    outcome = Trainer(network, task, Optimisation(steps=steps, learning_rate=settings.step)).run()
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    with torch.no_grad():
        gaps = [(network(task.inputs)[:, 0] - shot.outputs).abs().max()]
        if task.test_inputs is not None and shot.test_outputs is not None:
            gaps.append((network(task.test_inputs)[:, 0] - shot.test_outputs).abs().max())
    return max(float(gap) for gap in gaps)


def _alike(moved: Tensor, readout: Tensor) -> float:
    """Share of the squared movement that neurons of one sign of c have in common."""
    common = 0.0
    for sign in (-1, 1):
        own = moved[:, readout.sign() == sign]
        if own.shape[1]:
            common += own.shape[1] * float(own.mean(1).square().sum())
    total = float(moved.square().sum())
    return common / total if total > 0 else 0.0


def _accuracy(f: Tensor, y: Tensor) -> float:
    return float((f * y > 0).double().mean())
