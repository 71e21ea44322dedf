"""The error budget: how far every public number moves when nothing about its problem changes.

    python -m benchmarks.numerics [--only ntk dmft] [--variation float32 seeds]

Varied are the precision (float32 against float64), the memory budget and so the cut into chunks,
the number of threads (1 against 2, in processes of their own), the device (with a GPU), the process
(the same again must give the same bits), and the seed or step of what states its own error. Exits
with 1 when a number moves by more than its bound.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks import numerics_errors, numerics_networks, numerics_theory
from benchmarks.numerics_quantity import Quantity, Setting, same_bits
from ntkscale.reporting import Entry, Table, show

ROOT = Path(__file__).resolve().parents[1]
QUANTITIES = [*numerics_networks.QUANTITIES, *numerics_theory.QUANTITIES]
SMALL = 1 << 20
"""Bytes of the small budget: a chunk is a few samples."""
VARIATIONS = ("float32", "memory", "threads", "again", "device", "seeds")

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One variation of one quantity; `bits` says whether the numbers are equal bit for bit."""

    quantity: str
    variation: str
    deviation: float
    bound: float
    unit: str
    bits: bool | None = None

    @property
    def ok(self) -> bool:
        """Within the bound; nan is not."""
        return self.deviation <= self.bound


def precision(quantity: Quantity) -> Iterator[Row]:
    """float32 against float64."""
    if quantity.single is not None:
        exact = quantity.arrays(Setting())
        yield _row(quantity, "float32", _single(quantity), exact, quantity.single)


def budget(quantity: Quantity) -> Iterator[Row]:
    """A small memory budget against the default, in float32."""
    if quantity.memory is not None:
        found = quantity.arrays(Setting(dtype=torch.float32, memory=SMALL))
        yield _row(quantity, "memory 1 MiB", found, _single(quantity), quantity.memory)


def device(quantity: Quantity) -> Iterator[Row]:
    """A GPU against the processor, in float32; nothing without a GPU."""
    if quantity.device is not None and torch.cuda.is_available():
        found = quantity.arrays(Setting(dtype=torch.float32, device="cuda"))
        yield _row(quantity, "cuda", found, _single(quantity), quantity.device)


def threads(quantity: Quantity) -> Iterator[Row]:
    """Two threads against one."""
    one, two = (_elsewhere(count, 0)[quantity.name] for count in (1, 2))
    yield _row(quantity, "threads 1, 2", two, one, quantity.threads)


def again(quantity: Quantity) -> Iterator[Row]:
    """Another process with as many threads: the bits must be equal."""
    for count in (1, 2):
        first, second = (_elsewhere(count, run)[quantity.name] for run in (0, 1))
        label = f"again, {count} thread{'s' * (count > 1)}"
        row = _row(quantity, label, second, first, 0.0)
        # Deviations do not see the sign of zero.
        yield row if row.bits else Row(row.quantity, label, np.nan, 0.0, row.unit, row.bits)


PARTS: dict[str, Callable[[Quantity], Iterator[Row]]] = {
    "float32": precision,
    "memory": budget,
    "threads": threads,
    "again": again,
    "device": device,
}


def stated(names: list[str]) -> Iterator[Row]:
    """Seeds and steps against the error that a number states itself."""
    for check in numerics_errors.CHECKS:
        if _chosen(check.quantity, names):
            yield Row(check.quantity, check.variation, check.compute(), check.bound, check.unit)


def rows(names: list[str], variations: list[str]) -> Iterator[Row]:
    """All rows asked for; `names` are beginnings or parts of quantities, none: all."""
    for variation in variations:
        if variation == "seeds":
            yield from stated(names)
            continue
        for quantity in QUANTITIES:
            if _chosen(quantity.name, names):
                yield from PARTS[variation](quantity)


def table(found: list[Row]) -> Table:
    """The rows as printed."""
    columns = ("quantity", "variation", "largest deviation", "bound", "unit", "bits")
    bits = {True: "equal", False: "differ", None: ""}
    entries = [
        {
            "quantity": row.quantity,
            "variation": row.variation,
            "largest deviation": Entry(_short(row.deviation), mark="pass" if row.ok else "fail"),
            "bound": _short(row.bound),
            "unit": row.unit,
            "bits": bits[row.bits],
        }
        for row in found
    ]
    return Table("Error budget", columns, entries)


def _short(number: float) -> str:
    return f"{number:.2g}"


def _row(quantity: Quantity, variation: str, found: Arrays, exact: Arrays, bound: float) -> Row:
    unit = {"largest": "relative", "each": "relative, each", "absolute": "absolute"}
    moved = quantity.deviation(found, exact)
    bits = same_bits(found, exact)
    return Row(quantity.name, variation, moved, bound, unit[quantity.scale], bits)


@cache
def _single(quantity: Quantity) -> Arrays:
    return quantity.arrays(Setting(dtype=torch.float32))


def _chosen(quantity: str, names: list[str]) -> bool:
    return not names or any(name in quantity for name in names)


@cache
def _elsewhere(count: int, run: int) -> dict[str, Arrays]:
    """All quantities of a process with that many threads; `run` tells equal processes apart."""
    del run
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "numbers.npz"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.numerics", "--worker", path],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)},
            check=True,
        )
        found: dict[str, Arrays] = {quantity.name: {} for quantity in QUANTITIES}
        with np.load(path) as arrays:
            for key, value in arrays.items():
                quantity, part = key.split("|")
                found[quantity][part] = value
    return found


def _work(path: Path) -> None:
    # Nothing of the machine's load may decide how work is cut: that shows in the last bits.
    setting = Setting(dtype=torch.float32, memory=1 << 28)
    arrays = {
        f"{quantity.name}|{part}": value
        for quantity in QUANTITIES
        for part, value in quantity.arrays(setting).items()
    }
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.numerics", description="How far every public number moves."
    )
    parser.add_argument("--only", nargs="+", default=[], help="parts of the quantities' names")
    parser.add_argument("--variation", nargs="+", choices=VARIATIONS, default=list(VARIATIONS))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.worker)
        return 0
    found = list(rows(options.only, options.variation))
    if not found:
        print("nothing to vary: " + ("no GPU" if options.variation == ["device"] else "see --only"))
        return 2
    show(table(found))
    if "device" in options.variation and not torch.cuda.is_available():
        print("no GPU: the device was not varied")
    return int(not all(row.ok for row in found))


if __name__ == "__main__":
    sys.exit(main())
