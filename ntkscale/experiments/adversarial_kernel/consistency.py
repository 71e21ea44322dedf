"""Pieces of the part `consistency`: do kernels of other architectures have the same features?"""

from functools import partial
from typing import Any

import torch

from ntkscale.experiments.adversarial_kernel.features import learnable
from ntkscale.experiments.adversarial_kernel.models import Pair, mlp, pair_task, tested
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.networks import CNN
from ntkscale.robustness import (
    InfiniteWidthKernel,
    KernelPredictor,
    NetworkKernel,
    feature_consistency,
)
from ntkscale.robustness.expansion import Kernel
from ntkscale.tasks import Task

DEPTHS = (1, 2, 3)
CHANNELS = 16
COUNTS = (1, 5, 20, 100)


def consistency_pieces(settings: AdversarialKernelSettings, pair: Pair, seed: int) -> list[Piece]:
    """One piece a pair and seed."""
    if "consistency" not in settings.parts:
        return []
    key: dict[str, Any] = {"a": pair[0], "b": pair[1], "seed": seed}
    return [Piece({"part": "consistency", **key}, partial(_consistency, settings, pair, seed))]


def compared(settings: AdversarialKernelSettings, task: Task, seed: int) -> dict[str, Kernel]:
    """Kernels by name: infinite MLPs of several depths, finite ones, two draws of a CNN."""
    found: dict[str, Kernel] = {f"infinite mlp, depth {d}": InfiniteWidthKernel(d) for d in DEPTHS}
    for width in settings.width:
        found[f"mlp, width {width}"] = NetworkKernel(mlp(task, width, 1, None, seed))
    shape = task.inputs.shape
    for other in (0, 1):
        network = CNN(
            shape[1], (shape[2], shape[3]), 1, width=CHANNELS, seed=2 * seed + other,
            parameterization="ntk",
        ).to(task.inputs.device)  # fmt: skip
        found[f"cnn, {CHANNELS} channels{', again' * other}"] = NetworkKernel(network)
    return found


def _consistency(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    task = pair_task(settings, pair, seed)
    x, _ = tested(task)
    kernels = compared(settings, task, seed)
    fitted = []
    for done, (name, kernel) in enumerate(kernels.items()):
        desk.tell(done / len(kernels), name)
        fitted.append(KernelPredictor(kernel, task.inputs, task.targets))
    least = min(learnable(one) for one in fitted)
    counts = sorted({k for k in (*COUNTS, settings.top) if k <= least})
    found = feature_consistency(fitted, counts, x)
    desk.folder.write_kernel(
        piece.name,
        0,
        {"overlap": found.overlap.contiguous(), "correlation": found.correlation.contiguous()},
    )
    for place, k in enumerate(counts):
        for position, name in enumerate(kernels):
            if position:
                row = {"features": k, "other": name, "chance": float(found.chance[place])}
                row["overlap"] = float(found.overlap[place, 0, position])
                row["correlation"] = float(found.correlation[place, 0, position])
                desk.folder.append({"cell": piece.name, **piece.key, **row})
    return {"names": list(kernels), "counts": counts, "chance": torch.Tensor.tolist(found.chance)}
