"""Which tests execute which lines, measured once for each test file.

Each file of tests runs once under coverage, with the test's id as its context. A mutant is then
judged only by tests that execute its line, and a line that runs at import by those of its
statement.
"""

import ast
import hashlib
import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tests.mutation.child import forked, pytest_here

CPU_LIMIT = 900.0
"""Seconds of CPU for one file of tests under coverage."""


@dataclass(frozen=True)
class Seen:
    """What the tests execute.

    Attributes:
        lines: for each source file and line, the ids of the tests that execute it.
        seconds: CPU seconds of each test, coverage included.
    """

    lines: dict[str, dict[int, set[str]]]
    seconds: dict[str, float]

    def tests_of(self, file: str, line: int, source: str, limit: float) -> list[str]:
        """Tests that execute a line, quick files first, of `limit` seconds at most together."""
        lines = self.lines.get(file, {})
        seeing = lines.get(line, set())
        if not seeing:
            for first, last in _statements_around(source, line):
                seeing = set().union(*(lines.get(k, set()) for k in range(first, last + 1)))
                if seeing:
                    break
            else:  # it runs at import: all tests of the files that have to do with it
                near = {_file(name) for tests in lines.values() for name in tests}
                seeing = {name for name in self.seconds if _file(name) in near}
        # From every file of tests in turn, or many quick ones of one file would crowd out the rest.
        files: dict[str, list[str]] = {}
        for name in sorted(seeing, key=self._order):
            files.setdefault(_file(name), []).append(name)
        turns = [name for turn in zip_longest(*files.values()) for name in turn if name is not None]
        chosen: dict[str, list[str]] = {}
        spent = 0.0
        for name in turns:
            if not chosen or spent + self.seconds[name] <= limit:
                spent += self.seconds[name]
                chosen.setdefault(_file(name), []).append(name)
        quick = sorted(chosen.values(), key=lambda own: sum(self.seconds[name] for name in own))
        return [name for own in quick for name in own]

    def _order(self, name: str) -> tuple[float, str]:
        return self.seconds[name], name


def _file(test: str) -> str:
    return test.partition("::")[0]


def _statements_around(source: str, line: int) -> list[tuple[int, int]]:
    """First and last line of the statements that hold a line, innermost first."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return sorted(spans, key=lambda span: span[1] - span[0])


def see(tree: Path, work: Path, folders: tuple[str, ...]) -> Seen:
    """Measure every file of tests that has changed, or a module beside it, since the last time.

    Raises:
        RuntimeError: a test fails in the unchanged tree.
    """
    lines: dict[str, dict[int, set[str]]] = {}
    seconds: dict[str, float] = {}
    for path in sorted(path for folder in folders for path in (tree / folder).rglob("test_*.py")):
        name = str(path.relative_to(tree))
        if "test_tiles" in name:  # of files and processes; slow, and they decide nothing of a rule
            continue
        beside = sorted(p for p in path.parent.glob("*.py") if not p.name.startswith("test_"))
        key = hashlib.sha256(b"".join(p.read_bytes() for p in [path, *beside])).hexdigest()
        kept = work / "seen" / (name.replace("/", "+") + ".json")
        if not kept.exists() or json.loads(kept.read_text())["key"] != key:
            kept.parent.mkdir(parents=True, exist_ok=True)
            found = _measure(tree, name, kept.with_suffix(".log"))
            kept.write_text(json.dumps({"key": key, **found}))
            print(f"seen {name}: {sum(found['seconds'].values()):.1f} s", flush=True)
        found = json.loads(kept.read_text())
        seconds |= found["seconds"]
        for file, by_line in found["lines"].items():
            for line, tests in by_line.items():
                lines.setdefault(file, {}).setdefault(int(line), set()).update(
                    found["tests"][k] for k in tests
                )
    return Seen(lines, seconds)


def _measure(tree: Path, name: str, log: Path) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        import coverage  # pyright: ignore[reportMissingImports]

        tracer = coverage.Coverage(
            data_file=None, source=[str(tree / "ntkscale")], config_file=False, messages=False
        )
        tracer.start()
        result = pytest_here(tree, [name], entering=tracer.switch_context, bytecode=True)
        tracer.stop()
        data = tracer.get_data()
        tests = {test: k for k, test in enumerate(result["seconds"])}
        lines = {
            str(Path(file).relative_to(tree)): {
                line: [tests[context] for context in contexts if context in tests]
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        return {**result, "tests": list(tests), "lines": lines}

    found = forked(work, log, CPU_LIMIT)
    if not isinstance(found, dict) or found["code"] not in {0, 5}:
        raise RuntimeError(f"{name} fails in the unchanged tree; {log} has the reason.")
    return found
