"""How long one step of descent takes as dimension and width grow (a piece of work)."""

import time
from functools import partial
from typing import Any

import torch

from ntkscale.experiments.local_analysis.settings import LocalAnalysisSettings
from ntkscale.experiments.settings import resolve_device
from ntkscale.experiments.work import Desk, Piece
from ntkscale.theory.local_analysis import (
    Population,
    Teacher,
    descend,
    draw_teacher,
    symmetric_start,
    tail,
)

SECONDS = 2.0
"""About how long each size is timed."""


def cost_piece(settings: LocalAnalysisSettings, dimension: int) -> Piece:
    """Times steps of a student of width d^2 / 10."""
    width = max(2 * (dimension**2 // 20), 10)
    key = {"part": "cost", "dimension": dimension, "width": width}
    return Piece(key, partial(_cost, settings))


def _cost(settings: LocalAnalysisSettings, desk: Desk, piece: Piece) -> dict[str, Any]:
    dimension, width = piece.key["dimension"], piece.key["width"]
    count = min(settings.teachers, dimension)
    own, device = draw_teacher(dimension, count, 0.0, 0), resolve_device(settings.device)
    teacher = Teacher(own.directions.to(device), own.weights.to(device))
    exact = Population(teacher, tail("relu"))
    a, W = (part.to(device) for part in symmetric_start(width, dimension, 0))
    best, spent = float("inf"), 0.0
    while spent < SECONDS:  # the shortest of several: others use the machine too
        began = time.perf_counter()
        a, W = descend(exact, a, W, 0.1, 5, 0.05)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - began
        best, spent = min(best, taken / 5), spent + taken
    # Wall times do not belong to the results, which come out alike on every machine.
    desk.folder.append_timing({"cell": piece.name, "seconds": spent, "step_seconds": best})
    desk.folder.append({"cell": piece.name, **piece.key, "step": 0, "teachers": count})
    # Two products of (m, m + k) and (m + k, d), and one with the coefficients.
    operations = width * (width + count) * (2 * dimension + 1)
    return {"status": "finished", "multiply_adds": operations}
