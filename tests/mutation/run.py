"""Do the tests notice a changed formula? `make mutation`; about an hour on two idle cores.

    python -m tests.mutation.run [--seed S] [--mutants 120] [--workers 1] [--again] [--work FOLDER]

Draws mutants in equal shares from the kernel rules, the theory's solvers and the fits, and runs for
each the tests that execute its line, quick ones first, until one fails; a test that does not end
counts as failed. Everything happens in copies of the tree. A killed run goes on by the same
command; `--again` judges survivors again, with the tests as they are now. To begin anew with
changed sources, remove the folder.

What survives has to have its reason in `verdicts.toml`. The result is written to `survivors.md`.
The exit code is 1 if fewer than 95 % of the mutants that matter are killed or a survivor has no
reason, and 2 if the tests fail without a mutant or a package is missing.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutation.child import forked, preload, pytest_here
from tests.mutation.mutants import Mutant, draw
from tests.mutation.seen import Seen, see
from tests.mutation.survivors import report, verdicts_given

ROOT = Path(__file__).parents[2]
COPIED = (
    "ntkscale",
    "tests",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "setup.cfg",
    "README.md",
    "CONTRIBUTING.md",
)
RULES = (
    *(
        "accumulate",
        "by_products",
        "capture",
        "differentiable",
        "factors",
        "gradients",
        "grams",
        "graph",
    ),
    *("jacobian", "ownership", "passes", "patches", "products", "row_products", "rules", "sources"),
    *("structured", "terms", "uses", "waist"),
)
"""Files of the engine that decide what a kernel is; the others decide what it costs."""

PACKAGES = ("cosmic_ray", "coverage")
"""Of the extra `mutation`."""

TESTS = ("tests/ntk", "tests/theory", "tests/scaling")
SECONDS = 25.0
"""CPU seconds of tests for one mutant."""


@dataclass(frozen=True)
class Arguments:
    seed: int
    mutants: int
    workers: int
    again: bool
    work: Path


def rooms(tree: Path) -> dict[str, list[str]]:
    """The files that are mutated, by room."""

    def below(folder: str) -> list[str]:
        return [str(path.relative_to(tree)) for path in sorted((tree / folder).rglob("*.py"))]

    return {
        "kernel rules": [f"ntkscale/ntk/{name}.py" for name in RULES],
        "theory": below("ntkscale/theory"),
        "fits": below("ntkscale/scaling"),
    }


def copied(tree: Path, sources: Path = ROOT) -> Path:
    """A copy of the checkout; tests as they are now, sources as they were when the run began."""
    for name in COPIED:
        if (sources / name).is_file():
            tree.mkdir(parents=True, exist_ok=True)
            shutil.copy2(sources / name, tree / name)
        elif name != "ntkscale" or not (tree / name).exists():
            shutil.copytree(sources / name, tree / name, dirs_exist_ok=True)
    return tree


def judged(mutant: Mutant, tree: Path, seen: Seen, log: Path) -> dict[str, Any]:
    """Run the tests of one mutant; the outcome, and the test that killed it."""
    path = tree / mutant.file
    original, times = path.read_text(), path.stat()
    tests = seen.tests_of(mutant.file, mutant.line, original, SECONDS)
    # A line that runs at import belongs to no test: who kills it has been found out before.
    known = verdicts_given().get((mutant.file, mutant.before, mutant.after), {}).get("killed_by")
    if known:
        first = [name for name in seen.seconds if name.partition("[")[0] == known]
        tests = list(dict.fromkeys([*first, *tests]))
    record = {"key": mutant.key, "tests": len(tests), "by": ""}
    if not tests:
        return {**record, "outcome": "unseen", "seconds": 0.0}
    limit = 20.0 + 3.0 * sum(seen.seconds[name] for name in tests)
    begun = time.monotonic()
    try:
        path.write_text(mutant.source(original))
        # Compiled files are told apart by size and whole seconds: a time of its own for each state.
        os.utime(path, (times.st_atime, times.st_mtime + 1000))
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        found = forked(lambda: pytest_here(tree, files, order=tests), log, limit)
    finally:
        path.write_text(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    record["seconds"] = round(time.monotonic() - begun, 1)
    if not isinstance(found, dict):
        return {**record, "outcome": "time limit", "by": str(found)}
    if found["code"] == 0:
        return {**record, "outcome": "survived"}
    return {**record, "outcome": "killed", "by": found["failed"] or "import"}


def work_off(mutants: list[Mutant], tree: Path, seen: Seen, results: Path) -> None:
    """Judge mutants one after the other; a line of `results` for each."""
    for mutant in mutants:
        record = judged(mutant, tree, seen, tree.with_suffix(".log"))
        with results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{record['outcome']:10} {record['seconds']:6.1f} s  {mutant.key}", flush=True)


def outcomes(results: Path) -> dict[str, dict[str, Any]]:
    """The last record of each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def arguments(words: list[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--mutants", type=int, default=120, help="how many are drawn")
    parser.add_argument("--workers", type=int, default=1, help="processes, one a core")
    parser.add_argument("--again", action="store_true", help="judge survivors again")
    work = Path(tempfile.gettempdir()) / "ntkscale-mutation"
    parser.add_argument("--work", type=Path, default=work, help="folder of copies and results")
    given = parser.parse_args(words)
    if given.mutants < 1 or given.workers < 1:
        parser.error("--mutants and --workers are at least 1")
    return Arguments(**vars(given))


def main() -> int:
    given = arguments()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"mutation: {' and '.join(missing)} cannot be imported; install what is needed by "
            "`pip install -e '.[mutation]'`, or use `make mutation`.",
            file=sys.stderr,
        )
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"
    preload()
    # Some tests draw their models anew every time; here they are the same for every mutant.
    os.environ["ZOO_SEED"] = str(given.seed)
    tree = copied(given.work / "tree-0")
    mutants = draw(tree, rooms(tree), given.mutants, given.seed)
    results = given.work / f"results-{given.seed}.jsonl"
    found = outcomes(results)
    survived = {"survived", "unseen"}
    todo = [
        mutant
        for mutant in mutants
        if mutant.key not in found or (given.again and found[mutant.key]["outcome"] in survived)
    ]
    if todo:
        try:
            seen = see(tree, given.work, TESTS)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
        # Copies of a tree that has been compiled.
        trees = [tree, *(copied(given.work / f"tree-{k}", tree) for k in range(1, given.workers))]
        fork = multiprocessing.get_context("fork")
        shares = [todo[k :: given.workers] for k in range(given.workers)]
        processes = [
            fork.Process(target=work_off, args=(share, tree, seen, results))
            for share, tree in zip(shares, trees, strict=True)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return report(mutants, outcomes(results), given.seed)


if __name__ == "__main__":
    sys.exit(main())
