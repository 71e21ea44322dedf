"""Features early, along the way, or late: students of several kinds on one teacher, one loss.

One large step and a fitted read-out; mean-field students of several gamma0 from lazy to rich,
trained without regularisation; then for all of them the same regularised end phase. Looked at by
the same measures, so that at equal loss their features can be compared.
"""

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ntkscale.experiments.local_analysis.descent import looks, teacher_of
from ntkscale.experiments.local_analysis.record import open_logs
from ntkscale.experiments.local_analysis.settings import LocalAnalysisSettings
from ntkscale.experiments.work import Desk, Piece, save_piece
from ntkscale.theory.local_analysis import (
    FAR,
    MeanField,
    Population,
    Student,
    balance,
    descend,
    early_step,
    measure,
    second_layer,
    symmetric_start,
    tail,
)

ONE_STEP = "one large step"
LOOKS = 40
"""Log-spaced times at which students are looked at."""


def way_name(gamma0: float) -> str:
    """What a mean-field student is called."""
    return f"gamma0 = {gamma0:g}"


def bridge_piece(settings: LocalAnalysisSettings, seed: int) -> Piece:
    """All students of one teacher; those of several gamma0 side by side."""
    return Piece({"part": "bridge", "seed": seed}, partial(_bridge, settings))


def _bridge(settings: LocalAnalysisSettings, desk: Desk, piece: Piece) -> dict[str, Any]:
    teacher, phi = teacher_of(settings, piece.key["seed"]), tail("relu")
    exact, seed = Population(teacher, phi), piece.key["seed"]
    device = teacher.directions.device
    ways = [ONE_STEP, *map(way_name, settings.gamma0)]
    # The large step has no flow time, and so no curve.
    logs = open_logs(settings, desk, piece, "way", ways[1:])

    def look(a: Tensor, W: Tensor, way: str, stage: str, time: float | None, lam: float) -> None:
        found = asdict(measure(a, W, teacher, phi))
        far = found.pop("far")
        row = {"cell": piece.name, **piece.key, "way": way, "stage": stage, "lam": lam}
        row |= {"time": time, "mse": float(exact.loss(a, W)), **found}
        row |= {f"far_{d:g}": v for d, v in zip(FAR, far, strict=True)}
        desk.folder.append(row)
        if way in logs and time is not None:
            logs[way].log(row)

    fields = [MeanField(g, settings.width, settings.dimension) for g in settings.gamma0]
    times = _times(settings)
    if desk.saved is None:
        students = [one.start(seed) for one in fields]
        A, V = (torch.stack(part).to(device) for part in zip(*students, strict=True))
        for way, a, W in zip(ways[1:], A, V, strict=True):
            look(a, W, way, "start", 0.0, 0.0)
        read_out, directions = _one_step(settings, exact, seed, device, look)
        stage, done = "along", 0
    else:
        tensors, meta = desk.saved
        A, V, read_out, directions = (tensors[n].to(device) for n in ("A", "V", "a", "W"))
        stage, done = meta["stage"], meta["done"]

    def save(stage: str, done: int) -> None:
        tensors = {"A": A, "V": V, "a": read_out, "W": directions}
        save_piece(desk, piece, tensors, {"stage": stage, "done": done})

    half = 1 + len(times)
    if stage == "along":
        for index in range(done, len(times)):
            before = times[index - 1] if index else 0
            A, V = _flow(exact, fields, A, V, times[index] - before, settings.flow_step)
            at = times[index] * settings.flow_step
            for way, a, W in zip(ways[1:], A, V, strict=True):
                look(a, W, way, "along", at, 0.0)
            save("along", index + 1)
            desk.tell(0.5 * (index + 1) / half, f"flow time {at:g}")
        # The student of the large step goes on without lambda, for as many steps as the end phase.
        before = 0
        for step in looks(settings.steps * len(settings.lam), LOOKS):
            read_out, directions = descend(
                exact, read_out, directions, 0.0, step - before, settings.rate
            )
            look(read_out, directions, ONE_STEP, "along", None, 0.0)
            before = step
        A, V = balance(torch.cat((read_out[None], A)), torch.cat((directions[None], V)))
        stage, done = "late", 0
        save(stage, done)
    for index in range(done, len(settings.lam)):
        lam = settings.lam[index]
        A, V = descend(exact, A, V, lam, settings.steps, settings.rate)
        for way, a, W in zip(ways, A, V, strict=True):
            look(a, W, way, "late", None, lam)
        save("late", index + 1)
        desk.tell(0.5 + 0.5 * (index + 1) / len(settings.lam), f"lambda {lam:g}")
    for log in logs.values():
        log.finish()
    finite = bool(V.isfinite().all())
    status = "finished" if finite else "diverged"
    return {"status": status, "least_angle": teacher.least_angle, "power": exact.scale}


def _times(settings: LocalAnalysisSettings) -> list[int]:
    """Steps at which students on their way are looked at."""
    return looks(max(int(settings.horizon / settings.flow_step), 1), LOOKS)


def _one_step(
    settings: LocalAnalysisSettings, exact: Population, seed: int, device: torch.device, look: Any
) -> Student:
    a, W = (part.to(device) for part in symmetric_start(settings.width, settings.dimension, seed))
    look(a, W, ONE_STEP, "start", 0.0, 0.0)
    a, W = balance(*second_layer(exact, early_step(exact, a, W), settings.ridge))
    look(a, W, ONE_STEP, "early", None, 0.0)
    return a, W


def _flow(
    exact: Population, fields: list[MeanField], A: Tensor, V: Tensor, steps: int, size: float
) -> Student:
    """Descent at the rates of each richness."""
    rates = [one.rates(size) for one in fields]
    of_a = torch.tensor([a for a, _ in rates], dtype=A.dtype, device=A.device)
    of_v = torch.tensor([v for _, v in rates], dtype=A.dtype, device=A.device)
    return descend(exact, A, V, 0.0, steps, (of_a, of_v))
