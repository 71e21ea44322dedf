"""What other libraries say about the project's numbers, on random cases.

    make bench-environment              # neural-tangents, curvlinops and torchattacks; once
    python -m benchmarks.referees [--seed 7] [--cases 5] [--only scipy-fits neural-tangents]

Prints the seed, which repeats the cases. Exits with 1 when a number is outside its bound or a
referee is not installed.
"""

import argparse
import importlib
import secrets
import sys
import time

from benchmarks.referees.environments import AbsentError
from benchmarks.referees.ruling import Ruling
from ntkscale.reporting import Entry, Table, show

REFEREES = {
    "neural-tangents": "by_neural_tangents",
    "curvlinops": "by_curvlinops",
    "torchattacks": "by_torchattacks",
    "scipy-fits": "scipy_fits",
    "scipy-flows": "scipy_flows",
    "scipy-integrals": "scipy_integrals",
}


def table(rows: list[Ruling], title: str) -> Table:
    """The rows under a title."""
    columns = ("quantity", "referee", "cases", "largest deviation", "bound")
    entries = [
        {
            "quantity": row.quantity,
            "referee": row.referee,
            "cases": row.cases,
            "largest deviation": Entry(f"{row.deviation:.2g}", mark="pass" if row.ok else "fail"),
            "bound": f"{row.bound:.2g}",
        }
        for row in rows
    ]
    note = "Deviations are relative to the largest entry unless the quantity says otherwise."
    return Table(title, columns, entries, note)


def main() -> int:
    """Ask every referee, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.referees",
        description="Other libraries on the project's numbers.",
    )
    parser.add_argument("--seed", type=int, help="of the cases; a fresh one is drawn and printed")
    parser.add_argument("--cases", type=int, default=5, help="random cases a quantity")
    parser.add_argument("--only", nargs="+", choices=REFEREES, default=list(REFEREES))
    options = parser.parse_args()
    if options.cases < 1:
        parser.error(f"--cases is {options.cases}; take 1 or more.")
    if options.seed is not None and options.seed < 0:
        parser.error(f"--seed is {options.seed}; take 0 or more.")
    seed = secrets.randbits(31) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rows: list[Ruling] = []
    absent: list[str] = []
    for name in options.only:
        started = time.perf_counter()
        referee = importlib.import_module(f"benchmarks.referees.{REFEREES[name]}")
        try:
            rows += referee.rule(seed, options.cases)
        except AbsentError as error:
            absent.append(f"{name} did not take part: {error}")
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    show(table(rows, f"Referees, seed {seed}"))
    for line in absent:
        print(line)
    return int(bool(absent) or not all(row.ok for row in rows))


if __name__ == "__main__":
    sys.exit(main())
