"""What a run of `train.py local-analysis` measured, read back from its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy import ndarray

from ntkscale.experiments.local_analysis.descent import DESCENT
from ntkscale.runs import Run


@dataclass(frozen=True)
class Descent:
    """All arms on one teacher.

    Attributes:
        cell: its name on disk.
        activation, samples, seed: which.
        record: what the piece ended in.
        rows: its looks, in order.
    """

    cell: str
    activation: str
    samples: int
    seed: int
    record: dict[str, Any]
    rows: pl.DataFrame

    @property
    def arms(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(self.rows["arm"].to_list()))

    def looks(self, arm: str) -> pl.DataFrame:
        """Of stage 3 and what comes after it."""
        return self.rows.filter((pl.col("arm") == arm) & (pl.col("phase") >= 0))

    @property
    def lam(self) -> Float[ndarray, "L"]:
        """Of the phases, as they were used, descending."""
        own = self.looks("schedule").filter(pl.col("lam") > 0)
        return own["lam"].unique(maintain_order=True).to_numpy()

    def ends(self, arm: str, name: str) -> Float[ndarray, "L"]:
        """A measure at the end of every phase with regularisation of the others."""
        own = self.looks(arm)
        last = own.group_by("phase", maintain_order=True).last()
        return last[name].to_numpy()[: len(self.lam)].astype(float)

    def final(self, arm: str, name: str) -> float:
        """A measure after the phase without lambda that ends training; nan without one."""
        own = self.looks(arm).filter(pl.col("stage") == "end")
        return float(own[name][-1]) if len(own) else float("nan")

    def at(self, arm: str, stage: str, name: str) -> float:
        """A measure at the start or after stage 1 or 2."""
        own = self.rows.filter((pl.col("arm") == arm) & (pl.col("stage") == stage))
        return float(own[name][-1])

    def certificates(self, arm: str, name: str) -> list[float]:
        """A number of the dual certificate, or of the laws, at the end of every phase."""
        return [float(one[name]) for one in self.record["certificates"] if one["arm"] == arm]


@dataclass(frozen=True)
class Bridge:
    """Students of all kinds on one teacher.

    Attributes:
        seed: which.
        power: loss of the best constant and line.
        rows: looks, in order.
    """

    seed: int
    power: float
    rows: pl.DataFrame

    @property
    def ways(self) -> list[str]:
        """Kinds of students, the one large step first."""
        return sorted(
            dict.fromkeys(self.rows["way"].to_list()), key=lambda way: way.startswith("gamma0")
        )

    def of(self, way: str, *stages: str) -> pl.DataFrame:
        """Looks at one kind in some stages."""
        return self.rows.filter((pl.col("way") == way) & pl.col("stage").is_in(list(stages)))

    def last(self, way: str, stage: str, name: str) -> float:
        """A measure at the end of a stage; nan if the way has no such stage."""
        own = self.of(way, stage)
        return float(own[name][-1]) if len(own) else float("nan")

    def at_loss(self, way: str, share: float, name: str) -> float:
        """A measure when the loss first falls to a share of `power`, without regularisation."""
        own = self.of(way, "early", "along").filter(pl.col("mse") <= share * self.power)
        return float(own[name][0]) if len(own) else float("nan")


def descents(run: Run) -> list[Descent]:
    """What is finished."""
    return [
        Descent(
            cell,
            record["activation"],
            record["samples"],
            record["seed"],
            record,
            run.metrics.filter(run.metrics["cell"] == cell),
        )
        for cell, record in run.results.items()
        if record["part"].startswith(DESCENT) and record["status"] == "finished"
    ]


def bridges(run: Run) -> list[Bridge]:
    """What is finished."""
    return [
        Bridge(record["seed"], record["power"], run.metrics.filter(run.metrics["cell"] == cell))
        for cell, record in run.results.items()
        if record["part"] == "bridge" and record["status"] == "finished"
    ]


def costs(run: Run) -> list[dict[str, Any]]:
    """Dimension, width, multiply-adds and seconds of a step."""
    seconds = {line["cell"]: line["step_seconds"] for line in run.timings if "step_seconds" in line}
    return [
        {**record, "seconds": seconds[cell]}
        for cell, record in run.results.items()
        if record["part"] == "cost" and cell in seconds
    ]


def slope(x: Sequence[float] | ndarray, y: Sequence[float] | ndarray) -> float:
    """Of log y against log x; nan for fewer than two points or what has no logarithm."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 2 or not (np.isfinite(y).all() and (y > 0).all()):
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
