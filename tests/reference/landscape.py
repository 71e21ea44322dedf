"""Geometry of networks, slow and obvious: one copied network, one sample, one entry at a time."""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


def on_the_line(
    model: nn.Module,
    start: dict[str, Tensor],
    end: dict[str, Tensor],
    alpha: float,
    statistics_inputs: Tensor | None = None,
) -> nn.Module:
    """A network of its own at (1 - alpha) start + alpha end, evaluating."""
    between = copy.deepcopy(model)
    state = {
        name: (1 - alpha) * start[name] + alpha * end[name]
        if start[name].is_floating_point()
        else start[name]
        for name in start
    }
    between.load_state_dict(state)
    if statistics_inputs is not None:
        update_bn([statistics_inputs], between)
    return between.eval()


def error_rates(
    model: nn.Module,
    start: dict[str, Tensor],
    end: dict[str, Tensor],
    inputs: Tensor,
    labels: Tensor,
    points: int,
    statistics_inputs: Tensor | None = None,
) -> list[float]:
    """Share of wrong labels along the line, sample by sample."""
    rates = []
    for i in range(points):
        network = on_the_line(model, start, end, i / (points - 1), statistics_inputs)
        wrong = 0
        for x, label in zip(inputs, labels, strict=True):
            row = network(x[None])[0].tolist()
            chosen = row.index(max(row)) if len(row) > 1 else int(row[0] > 0)
            wrong += chosen != int(label)
        rates.append(wrong / len(inputs))
    return rates


def patterns_by_hooks(model: nn.Module, inputs: Tensor) -> Tensor:
    """(units, m) from hooks on ReLU modules, one sample at a time."""
    columns: list[Tensor] = []
    rows: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows.append(args[0].clone().flatten() > 0)

    handles = [
        part.register_forward_pre_hook(before)
        for part in model.modules()
        if isinstance(part, nn.ReLU)
    ]
    for x in inputs:
        rows.clear()
        model(x[None])
        columns.append(torch.cat(rows))
    for handle in handles:
        handle.remove()
    return torch.stack(columns, dim=1)


def plane_by_svd(table: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (T, 2) up to signs, and shares of variance, from the table's own SVD."""
    u, s, _ = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    return u[:, :2] * s[:2], s[:2] ** 2 / (s**2).sum()


def basin_time_by_search(times: list[float], barriers: list[list[float]], limit: float) -> float:
    for i, time in enumerate(times):
        if all(sum(row) / len(row) < limit for row in barriers[i:]):
            return time
    return float("inf")


def every_resample(
    times: list[float], barriers: list[list[float]], limit: float
) -> dict[float, float]:
    """Chance of each basin time when pairs are drawn with replacement, by all ordered draws."""
    pairs = len(barriers[0])
    chances: dict[float, float] = {}
    for draw in itertools.product(range(pairs), repeat=pairs):
        found = basin_time_by_search(times, [[row[p] for p in draw] for row in barriers], limit)
        chances[found] = chances.get(found, 0.0) + pairs**-pairs
    return chances


def primal_ridge(train: Tensor, targets: Tensor, new: Tensor, epsilon: float) -> Tensor:
    """Predictions of min |J w - y|^2 + epsilon |w|^2, solved for w; rows of J are points."""
    size = train.shape[1]
    normal = train.T @ train + epsilon * torch.eye(size, dtype=train.dtype)
    return new @ torch.linalg.solve(normal, train.T @ targets)
