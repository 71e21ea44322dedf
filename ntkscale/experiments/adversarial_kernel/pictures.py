"""Pieces of the part `pictures`: what attacks and features look like, for the first seed."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ntkscale.experiments.adversarial_kernel.features import learnable
from ntkscale.experiments.adversarial_kernel.models import Pair, pair_task, predictor, tested
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.robustness import (
    KernelPredictor,
    feature_images,
    fgsm,
    gradient_images,
)

SHOWN = (0, 1, 2, 5, 10, 20, 50, 200, 500, 900)
"""Features that are pictured, as far as there are so many."""
_STRIP = 3  # images of each class


def picture_pieces(settings: AdversarialKernelSettings, pair: Pair, seed: int) -> list[Piece]:
    """One piece a pair."""
    if "pictures" not in settings.parts or seed != settings.seed[0]:
        return []
    key: dict[str, Any] = {"a": pair[0], "b": pair[1], "seed": seed}
    return [Piece({"part": "pictures", **key}, partial(_pictures, settings, pair, seed))]


def _pictures(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    task = pair_task(settings, pair, seed)
    fitted = predictor(settings, task)
    x, labels = tested(task)
    count = learnable(fitted)
    whole = fitted.at(math.inf)
    with torch.no_grad():
        right = ((whole(x)[:, 0] > 0) == (labels == 1)).cpu()
    chosen = torch.cat(
        [torch.nonzero(right & (labels.cpu() == k))[:_STRIP, 0] for k in (0, 1)]
    ).tolist()
    x, labels = x[chosen], labels[chosen]
    strips: dict[str, Tensor] = {"clean": x, "labels": labels}
    models = {
        "leading": fitted.features(range(min(settings.top, count))),
        "early": fitted.at(settings.middle_stop),
        "all": whole,
    }
    for name, f in models.items():
        moved = fgsm(f, x, labels, settings.threat(settings.eps[0]))
        with torch.no_grad():
            strips[f"outputs,{name}"] = torch.stack([f(x)[:, 0], f(moved)[:, 0]])
        strips[f"attacked,{name}"] = moved
    shown = [index for index in SHOWN if index < count]
    desk.tell(0.2, "gradients")
    pick = [0, len(x) - 1]  # one of each class
    strips["gradients"] = torch.stack(
        [gradient_images(fitted.feature(index), x[pick], labels[pick]) for index in shown]
    )
    strips["gradients,all"] = gradient_images(whole, x[pick], labels[pick])
    desk.tell(0.4, "images optimised towards features")
    cosines = []
    for label in (0, 1):
        optimised, cosine = _optimised(settings, fitted, shown, label)
        strips[f"optimised,{label}"] = optimised
        cosines.append(cosine.tolist())
    desk.folder.write_weights(
        piece.name,
        {k: (v if k == "labels" else v.float()).cpu().contiguous() for k, v in strips.items()},
    )
    desk.folder.append({"cell": piece.name, **piece.key, "pictures": len(shown)})
    return {"shown": shown, "cosine": cosines}


def _optimised(
    settings: AdversarialKernelSettings, fitted: KernelPredictor, shown: list[int], label: int
) -> tuple[Tensor, Tensor]:
    if settings.kernel == "cnn":  # whose Theta(x, x) costs a pass for every image and step
        return feature_images(fitted, shown, label=label, steps=100, step=0.006)
    return feature_images(fitted, shown, label=label)
