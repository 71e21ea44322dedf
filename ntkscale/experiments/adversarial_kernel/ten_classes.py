"""Pieces of the part `ten-classes`: a predictor of ten outputs under attack."""

import resource
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ntkscale.experiments.adversarial_kernel.models import pair_task, predictor, tested
from ntkscale.experiments.adversarial_kernel.settings import AdversarialKernelSettings
from ntkscale.experiments.work import Desk, Piece
from ntkscale.robustness import (
    Expansion,
    KernelPredictor,
    Threat,
    correct,
    loss_gradient,
    pgd,
    random_signs,
)

_STRIP = 8
_AT_ONCE = 1000  # inputs


def ten_class_pieces(settings: AdversarialKernelSettings) -> list[Piece]:
    """One piece a seed."""
    if "ten-classes" not in settings.parts:
        return []
    return [
        Piece({"part": "ten-classes", "seed": seed}, partial(_ten_classes, settings, seed))
        for seed in settings.seed
    ]


def _ten_classes(
    settings: AdversarialKernelSettings, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    """Every flow time under FGSM of every size; PGD-10 on some of the test images."""
    started = time.monotonic()
    task = pair_task(settings, None, seed)
    fitted = predictor(settings, task)
    x, labels = tested(task)
    few = slice(min(settings.attacked, len(x)))
    threats = [settings.threat(eps) for eps in settings.eps]
    fit = time.monotonic() - started
    columns: dict[str, list[Any]] = {
        name: [] for name in ("clean", "random", "attacked", "pgd", "fgsm")
    }
    strips: dict[str, Tensor] = {}
    attack = 0.0
    for done, stop in enumerate(settings.stops):
        desk.tell(done / len(settings.stops), f"t = {stop:g}")
        f = _at(fitted, stop)
        started = time.monotonic()
        moved = _steps(f, x, labels, threats)
        right = [_right(f, inputs, labels) for inputs in (x, *moved)]
        attack = time.monotonic() - started
        columns["clean"].append(right[0])
        columns["attacked"].append(right[1:])
        columns["random"].append(_right(f, random_signs(x, threats[0]), labels))
        columns["fgsm"].append(_right(f, moved[0][few], labels[few]))
        iterated = pgd(f, x[few], labels[few], threats[0])
        columns["pgd"].append(_right(f, iterated, labels[few]))
        if done == len(settings.stops) - 1:
            with torch.no_grad():
                shown = [f(inputs[:_STRIP]) for inputs in (x, moved[0])]
            strips = {
                "clean": x[:_STRIP],
                "attacked": moved[0][:_STRIP],
                "labels": labels[:_STRIP],
                "said": torch.stack([outputs.argmax(1) for outputs in shown]),
            }
        desk.folder.append(
            {
                "cell": piece.name,
                **piece.key,
                "stop": f"{stop:g}",
                "test_accuracy": right[0] / len(x),
                "fgsm_accuracy": right[1] / len(x),
            }
        )
    desk.folder.write_weights(piece.name, {k: v.cpu().contiguous() for k, v in strips.items()})
    desk.folder.append_timing(
        {
            "cell": piece.name,
            "fit_seconds": fit,
            # One gradient, and outputs for the clean inputs and for every eps.
            "attack_seconds": attack,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    )
    return {"tested": len(x), "attacked_few": len(x[few]), **columns}


def _at(fitted: KernelPredictor, stop: float) -> Expansion:
    """f_t, in float32 where the kernel has a closed form: half the time, and the same signs."""
    f = fitted.at(stop)
    return f.to(torch.float32) if hasattr(f, "to") else f  # pyright: ignore


def _steps(f: Expansion, x: Tensor, labels: Tensor, threats: list[Threat]) -> list[Tensor]:
    """FGSM of several sizes from one gradient."""
    found: list[list[Tensor]] = [[] for _ in threats]
    for some, own in zip(x.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
        _, gradient = loss_gradient(f, some, own)
        for moved, threat in zip(found, threats, strict=True):
            ahead = threat.steepest(gradient).to(some)
            moved.append(threat.project(some + threat.eps * ahead, some))
    return [torch.cat(moved) for moved in found]


def _right(f: Expansion, x: Tensor, labels: Tensor) -> int:
    with torch.no_grad():
        blocks = zip(x.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True)
        return sum(int(correct(f(some), own).sum()) for some, own in blocks)
