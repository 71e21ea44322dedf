"""What `train.py dmft` solves and trains, one cell after the other.

A cell of theory solves one depth and gamma0, by the full equations and by every approximation that
there is for it. A cell of networks trains all seeds of one width beside them. Solutions of both, at
a few times, are kept in the run's `solutions/`, where the cells that need them find them.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkscale.experiments.cells import cell_name
from ntkscale.experiments.dmft.finite_width import at_times, errors, look_steps, same_times
from ntkscale.experiments.dmft.record import FULL, Row, Tell, kernel_measures, recorded
from ntkscale.experiments.dmft.settings import DmftSettings, grid
from ntkscale.experiments.dmft.wide_networks import SINGLE, Descent, average, train_networks
from ntkscale.experiments.settings import resolve_device
from ntkscale.experiments.work import Piece
from ntkscale.tasks import images
from ntkscale.theory.dmft import (
    Solution,
    draw,
    leading_order,
    solve,
    solve_linear,
    solve_two_layer,
    static_ntk,
)

TIMES = 11
"""At which kernels are compared, start and end among them."""
FIELDS = 2000
"""Neurons of theory that densities are drawn from."""


def cells(settings: DmftSettings) -> list[Piece]:
    """All cells, theory before the networks that are compared with it."""
    found = []
    for depth, gamma0 in grid(settings):
        key = {"depth": depth, "gamma0": gamma0}
        work = partial(_theory, settings, depth, gamma0)
        found.append(recorded(settings, {"part": "theory", **key}, work))
        for width in settings.width:
            work = partial(_networks, settings, depth, gamma0, width)
            found.append(recorded(settings, {"part": "networks", **key, "width": width}, work))
    return found


def kinds(settings: DmftSettings) -> list[str]:
    """Names of the full theory and of the approximations solved beside it, the full one first."""
    found = [FULL, "static NTK"]
    if settings.preset == "approximations":
        found.append("gradient independence")
        if settings.activation == "linear":
            found += ["leading order", "leading order, as printed"]
    return found


def descent(settings: DmftSettings, depth: int, gamma0: float) -> Descent:
    """What theory solves and networks learn."""
    x, y = data(settings)
    return Descent(
        x,
        y,
        depth,
        settings.activation,
        gamma0,
        settings.learning_rate,
        loss=settings.loss,
        dtype=torch.float32 if gamma0 >= SINGLE else torch.float64,
    )


def data(settings: DmftSettings) -> tuple[Tensor, Tensor]:
    """Inputs (P, D) and targets: -1, then +1; with cross-entropy one-hot rows (P, 2)."""
    points, seed = settings.num_train, settings.seed[0]
    device = resolve_device(settings.device)
    if settings.data == "gaussian":
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(points, settings.dimension, generator=generator, dtype=torch.float64)
        labels = (torch.arange(points) >= points // 2).long()
    else:
        task = images(
            settings.data, size=points, test_size=0, classes=(0, 1), seed=seed, dtype=torch.float64
        )
        assert task.labels is not None
        order = task.labels.argsort(stable=True)
        x, labels = task.inputs[order].flatten(1), task.labels[order]
    if settings.loss == "cross-entropy":
        return x.to(device), torch.nn.functional.one_hot(labels, 2).double().to(device)
    return x.to(device), (2.0 * labels - 1.0).to(device)


def kept(folder: Path, kind: str, depth: int, gamma0: float, width: int | None = None) -> Path:
    """Where a solution lies: of theory by its kind, of networks by width (mean over seeds)."""
    key = {"depth": depth, "gamma0": gamma0}
    key |= {} if width is None else {"width": width}
    return folder / "solutions" / f"{kind.replace(' ', '-')},{cell_name(key)}.safetensors"


def _theory(
    settings: DmftSettings, depth: int, gamma0: float, folder: Path, tell: Tell
) -> tuple[list[Row], dict[str, Any]]:
    """Every kind of theory: losses at all times; kernels and densities go to `solutions/`."""
    rows: list[Row] = []
    record: dict[str, Any] = {}
    end = float("inf")
    for kind in kinds(settings):
        # Where a killed Monte-Carlo solution goes on from.
        unfinished = kept(folder, f"unfinished {kind}", depth, gamma0)
        solution = _solution(settings, kind, depth, gamma0, tell, unfinished)
        # If the full theory ended early, the others are compared up to there.
        end = float(solution.times[-1]) if kind == FULL else end
        few = replace(at_times(solution, TIMES, until=end), fields=None)
        few.save(kept(folder, kind, depth, gamma0))
        measured = kernel_measures(few, data(settings)[1])
        error = solution.standard_error.get("mse", torch.zeros_like(solution.mse))
        known = "mse" in solution.standard_error
        for time, loss, mse, own in zip(
            solution.times.tolist(),
            solution.loss.tolist(),
            solution.mse.tolist(),
            error.tolist(),
            strict=True,
        ):
            row: Row = {"kind": kind, "time": time, "loss": loss, "mse": mse}
            rows.append(row | ({"mse_error": own} if known else {}) | measured.get(time, {}))
        if kind == FULL:
            record = {
                "converged": solution.converged,
                "message": solution.message,
                "phi_error": solution.standard_error["phi_at"][:, -1].tolist(),
                "g_error": solution.standard_error["g_at"][:, -1].tolist(),
            }
            ends = at_times(solution, 2)
            if ends.fields is None:
                drawn = draw(solution, FIELDS, times=[0, len(solution.times) - 1])
                ends = replace(ends, fields=drawn)
            ends.save(kept(folder, f"{kind} ends", depth, gamma0))
    return rows, record


def _solution(
    settings: DmftSettings, kind: str, depth: int, gamma0: float, tell: Tell, unfinished: Path
) -> Solution:
    x, y = data(settings)
    common: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "steps": settings.steps,
    }
    linear = settings.activation == "linear"
    if kind == "static NTK":
        phi = settings.activation
        return static_ntk(x, y, depth=depth, activation=phi, loss=settings.loss, **common)
    if kind.startswith("leading order"):
        right = not kind.endswith("printed")
        return leading_order(x, y, depth=depth, gamma0=gamma0, corrected=right, **common)
    common |= {"gamma0": gamma0, "loss": settings.loss, "progress": tell}
    responses = kind == FULL
    if linear:
        return solve_linear(x, y, depth=depth, responses=responses, **common)
    common |= {
        "activation": settings.activation,
        "samples": settings.samples,
        "seed": settings.seed[0],
        "fields": min(FIELDS, settings.samples),
        "checkpoint": unfinished,
    }
    if depth == 1:
        return solve_two_layer(x, y, **common)
    return solve(x, y, depth=depth, responses=responses, **common)


def _networks(
    settings: DmftSettings, depth: int, gamma0: float, width: int, folder: Path, tell: Tell
) -> tuple[list[Row], dict[str, Any]]:
    """All seeds of a width: losses, and errors against every kind of theory."""
    learned = descent(settings, depth, gamma0)
    theories = {kind: Solution.load(kept(folder, kind, depth, gamma0)) for kind in kinds(settings)}
    largest = width == settings.width[-1]
    found = list(
        train_networks(
            learned,
            width=width,
            seeds=settings.seed,
            looks=look_steps(theories[FULL], learned),
            fields=int(largest),
            progress=tell,
        )
    )
    mean = average(found)
    rows: list[Row] = []
    for seed, network in [*zip(settings.seed, found, strict=True), (None, mean)]:
        if seed is not None:
            measured = kernel_measures(network, data(settings)[1])
            for time, loss, mse in zip(
                network.times.tolist(), network.loss.tolist(), network.mse.tolist(), strict=True
            ):
                row: Row = {"kind": "network", "time": time, "loss": loss, "mse": mse}
                rows.append(row | {"seed": seed} | measured[time])
        for kind, theory in theories.items():
            if same_times(theory, network):  # an approximation may end before the full theory
                own = errors(network, theory)
                rows += [{"kind": kind, "seed": seed, **row} for row in own]
    mean.save(kept(folder, "networks", depth, gamma0, width))
    if largest:
        at_times(found[0], 2).save(kept(folder, "network ends", depth, gamma0, width))
    return rows, {}
