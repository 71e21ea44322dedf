"""Everything that may go wrong while a run is written, and what must hold all the same.

Usage: python -m tests.faults.run [--kills 200] [--seed S] [--only WORD] [--small] [--list]

Every row makes one failure happen, in processes of its own, and looks. A table comes at the end;
the exit code is 1 if a row failed, or if fewer processes were killed than asked for.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.faults import (
    damage,
    disk,
    kills,
    kills_of_pages,
    kills_of_workers,
    memory,
    not_finite,
    ranks,
    signals,
    surroundings,
    writers,
)
from tests.faults.row import Row, Seen, look
from tests.faults.toys import warm_up

ROWS: tuple[Row, ...] = tuple(
    row
    for part in (
        kills,
        kills_of_pages,
        kills_of_workers,
        signals,
        disk,
        writers,
        damage,
        surroundings,
        not_finite,
        memory,
        ranks,
    )
    for row in part.ROWS
)
SECONDS = 900.0
"""A row may take so long."""


def table(rows: list[tuple[Row, Seen]]) -> str:
    """All rows with what was seen, one below the other."""
    lines = []
    for row, seen in rows:
        said = seen.said.splitlines()[0] if seen.said else ""
        killed = f"{seen.killed} killed" if seen.killed else ""
        lines += [
            f"{seen.verdict:7}  {row.fault}",
            f"{seen.seconds:5.0f} s  {row.holds}",
            f"{killed:>10}  -> {said}" if killed else f"         -> {said}",
        ]
    return "\n".join(lines)


def main() -> int:
    """Check the rows; exit code 0 if none failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill, all rows")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random")
    parser.add_argument("--only", default="", help="rows whose failure holds this word")
    parser.add_argument("--small", action="store_true", help="the part of the normal test suite")
    parser.add_argument("--list", action="store_true", help="name the rows")
    options = parser.parse_args()
    chosen = [row for row in ROWS if options.only in row.fault]
    if options.small:
        chosen = [row for row in chosen if row.in_suite]
    if options.list:
        print("\n".join(f"{row.fault}: {row.holds}" for row in chosen))
        return 0
    if not chosen:
        print(f"no row holds {options.only!r}; --list names them.", file=sys.stderr)
        return 2
    seed = random.randrange(2**32) if options.seed is None else options.seed
    memory.large_pieces_apart()
    torch.set_num_threads(1)  # a forked process may not use the parent's threads
    os.environ["OMP_NUM_THREADS"] = "1"
    found: list[tuple[Row, Seen]] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as place:
        tempfile.tempdir = place
        warm_up(Path(place) / "warm")
        for number, row in enumerate(chosen):
            seen = look(
                row,
                Path(place) / str(number),
                seed + number,
                options.kills,
                small=options.small,
                seconds=SECONDS,
            )
            found.append((row, seen))
            print(
                f"{number + 1:2} of {len(chosen)}  {seen.verdict:7} {seen.seconds:4.1f} s "
                f"({seen.cpu:4.1f} busy)  {row.fault}",
                flush=True,
            )
            if seen.verdict == "FAILED":
                print(seen.said, flush=True)
    verdicts = [seen.verdict for _, seen in found]
    killed = sum(seen.killed for _, seen in found)
    print(f"\n{table(found)}\n")
    print(
        f"{verdicts.count('ok')} rows hold, {verdicts.count('FAILED')} failed, "
        f"{verdicts.count('skipped')} skipped; {killed} processes were killed; "
        f"{time.monotonic() - begun:.0f} s, --seed {seed}."
    )
    enough = killed >= options.kills or options.small or bool(options.only)
    if not enough:
        print(f"only {killed} of {options.kills} kills were made.", file=sys.stderr)
    return 0 if enough and "FAILED" not in verdicts else 1


if __name__ == "__main__":
    sys.exit(main())
