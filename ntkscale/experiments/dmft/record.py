"""A cell of `train.py dmft` under the names of the schema: theory and networks as one dashboard.

The tangent kernel of the training points is measured as the tracker measures a network's, so that
its curves lie on those of any other run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ntkscale import ntk
from ntkscale.experiments.dmft.settings import EXPERIMENT, DmftSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.reporting import WandbLog
from ntkscale.schema import QUANTITIES
from ntkscale.theory.dmft import Solution

FULL = "theory"
"""The kind of a cell's rows that are not of an approximation; networks are of kind ``network``."""


Tell = Callable[[int, int], object]
Row = dict[str, Any]
Work = Callable[[Path, Tell], tuple[Sequence[Row], dict[str, Any]]]
"""Given the run's folder and a function to say how far it is: rows of metrics and a record."""


def recorded(settings: DmftSettings, key: dict[str, Any], work: Work) -> Piece:
    """A piece whose rows go to the run's metrics and to W&B."""
    return Piece(key, partial(_do, settings, work))


def _do(settings: DmftSettings, work: Work, desk: Desk, piece: Piece) -> dict[str, Any]:
    rows, record = work(desk.folder.path, lambda now, total: desk.tell(now / total, ""))
    log = WandbLog(
        settings.wandb,
        desk.home,
        name=piece.name,
        group=f"{EXPERIMENT}/{desk.home.name}",
        config={**desk.folder.config, **piece.key},
    )
    for row in _curves(rows):
        log.log(row)
    log.finish()
    for row in rows:
        desk.folder.append({"cell": piece.name, **piece.key, **row})
    return record


def kernel_measures(solution: Solution, targets: Tensor) -> dict[float, dict[str, float]]:
    """Distance, change, alignment and trace of the tangent kernel, by flow time.

    Args:
        solution: of theory or a network.
        targets: (P,) or (P, C).
    """
    kernels = solution.ntk
    if kernels.ndim == 5:  # traced over outputs
        kernels = kernels.diagonal(dim1=3, dim2=4).mean(-1)
    y = targets.reshape(len(targets), -1).to(kernels)
    return {
        time: {
            "kernel_distance": float(ntk.kernel_distance(kernels[0], kernel)),
            "kernel_change": float(ntk.kernel_change(kernels[0], kernel)),
            "kernel_alignment": float(ntk.alignment(kernel, y)),
            "kernel_trace": float(ntk.trace(kernel)) / len(kernel),
        }
        for time, kernel in zip(solution.times.tolist(), kernels, strict=True)
    }


def _curves(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, float]]:
    """The curves of theory, or the mean curves of all seeds of a width.

    The mse of theory has a name of its own, so that it is drawn beside that of networks.
    """
    times: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("time") is None or row["kind"] not in (FULL, "network"):
            continue
        for name, value in row.items():
            if name in QUANTITIES and name != "time" and value is not None:
                own = "theory_mse" if name == "mse" and row["kind"] == FULL else name
                times[row["time"]][own].append(value)
    for time in sorted(times):
        means = {name: float(np.mean(values)) for name, values in times[time].items()}
        yield {"time": time, **means}
