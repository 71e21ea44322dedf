"""Hostile files by the thousand: `make fuzz`.

    python -m tests.faults.fuzz [--files 10000] [--seed S] [--only TEXT] [--one I]

Every format in a process of its own: files are damaged, read through the public reader, and judged.
Allowed is the documented error in one sentence, or what the file says; not allowed is any other
error, a hang, more memory than a file of that size is worth, code that runs, or a change elsewhere.
A file is known by seed, format and number: `--only FORMAT --one NUMBER` reads it again.
"""

import argparse
import faulthandler
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.fuzz_arrays import ARRAY_FORMATS
from tests.faults.fuzz_formats import Format
from tests.faults.fuzz_lists import LIST_FORMATS
from tests.faults.fuzz_pages import PAGE_FORMATS
from tests.faults.fuzz_runs import RUN_FORMATS
from tests.faults.fuzz_watch import Watch

FORMATS = [*RUN_FORMATS, *LIST_FORMATS, *ARRAY_FORMATS, *PAGE_FORMATS]
_KINDS = 5  # of failures that are shown for a format
_DEATHS = 20  # of a format's process


def read_one(form: Format, watch: Watch, seed: int, number: int) -> bool:
    """Write and read one hostile file; whether it was taken.

    Raises:
        BaseException: whatever must not happen.
    """
    form.write(Random(f"{seed} {form.name} {number}"), watch.place, watch.outside, watch.lying)
    return watch.judge(form.read, form.errors)


def fuzz(form: Format, root: Path, seed: int, first: int, count: int) -> dict:
    """Read files `first` to `count` of a format; how many were taken, refused, and what failed."""
    warnings.simplefilter("error")
    logging.disable()
    watch = Watch(root)
    read_sound(form, watch)
    watch.audit()
    watch.limit()
    tally: Counter[str] = Counter()
    failures: dict[str, str] = {}
    at = os.open(root / "at", os.O_WRONLY | os.O_CREAT)
    for number in range(first, count):
        os.pwrite(at, str(number).encode(), 0)
        try:
            tally["accepted" if read_one(form, watch, seed, number) else "refused"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            tally["failures"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            failures.setdefault(kind, f"{form.name} {number}: {kind}: {str(error)[:300]!r}")
        if number % 100 == 0:
            (root / "tally").write_text(json.dumps({**tally, "kinds": list(failures.values())}))
    return {**tally, "kinds": list(failures.values())}


def read_sound(form: Format, watch: Watch) -> None:
    """Read undamaged files, which must be taken; this also imports what reading needs."""
    for name, content in form.files().items():
        path = watch.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if form.name not in _MADE_BY_DAMAGE:
        assert watch.judge(form.read, ()), form.name
    else:
        form.write(Random(0), watch.place, watch.outside, {})
        watch.judge(form.read, form.errors)


_MADE_BY_DAMAGE = ("own data (.npz)", "CIFAR-5M")  # whose parts are put together damaged


def _in_a_process(form: Format, seed: int, count: int, root: Path) -> dict:
    """All files of a format; a process that dies is a failure, and the next goes on behind it."""
    total: Counter[str] = Counter()
    kinds: list[str] = []
    first = 0
    for _ in range(_DEATHS):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        words = ["--child", form.name, "--seed", seed, "--files", count, "--first", first]
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.fuzz", *map(str, words), "--root", str(root)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=False,
        )
        last = root / "tally"
        found = json.loads(done.stdout or (last.read_text() if last.exists() else "{}"))
        kinds += found.pop("kinds", [])
        total.update(found)
        if done.returncode == 0:
            break
        if not (root / "at").exists():
            raise SystemExit(f"{form.name}: sound files are not read; see above for why.")
        first = int((root / "at").read_text()) + 1
        total["failures"] += 1
        kinds.append(f"{form.name} {first - 1}: the process died (code {done.returncode})")
    return {**total, "kinds": kinds}


def main() -> int:
    """The table of all formats; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000, help="of each format")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--only", default="", help="formats whose name holds this")
    parser.add_argument("--one", type=int, help="read this file alone, and show what happens")
    for name, kind in (("--child", str), ("--first", int), ("--root", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        faulthandler.enable()
        form = next(form for form in FORMATS if form.name == options.child)
        print(json.dumps(fuzz(form, options.root, options.seed, options.first, options.files)))
        return 0
    chosen = [form for form in FORMATS if options.only in form.name]
    with tempfile.TemporaryDirectory() as root:
        if options.one is not None:
            watch = Watch(Path(root) / "one")
            read_sound(chosen[0], watch)
            print("taken" if read_one(chosen[0], watch, options.seed, options.one) else "refused")
            return 0
        print(f"seed {options.seed}, {options.files:,} files of each format\n")
        print(f"{'format':24}{'files':>8}{'accepted':>10}{'refused':>9}{'failures':>10}{'s':>7}")
        failed: list[str] = []
        for form in chosen:
            began = time.monotonic()
            found = _in_a_process(form, options.seed, options.files, Path(root) / "place")
            numbers = [found.get(name, 0) for name in ("accepted", "refused", "failures")]
            columns = f"{numbers[0]:>10,}{numbers[1]:>9,}{numbers[2]:>10,}"
            seconds = time.monotonic() - began
            print(f"{form.name:24}{sum(numbers):>8,}{columns}{seconds:>7.0f}", flush=True)
            for said in found["kinds"][:_KINDS]:
                print(f"    {said}", flush=True)
            failed += [form.name] * bool(numbers[2])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
