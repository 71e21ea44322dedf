"""The table of a mutation run, and the page of what survived, with its reasons."""

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.mutation.mutants import Mutant

HERE = Path(__file__).parent
WANTED = 0.95
"""Share of the mutants that matter (all but the equivalent ones) that must be killed."""

HEAD = """# Mutants that survived, or did once

Written by `python -m tests.mutation.run --seed {seed} --mutants {number}`; the reasons stand in
`verdicts.toml`. *Equivalent*: nothing that the code promises changes; a test of it would only
repeat the code.

"""


def report(mutants: list[Mutant], found: dict[str, dict[str, Any]], seed: int) -> int:
    """Print the table and write `survivors.md`; the exit code."""
    verdicts = verdicts_given()
    table = Table("room", "mutants", "killed", "of these by time", "survived", "equivalent")
    totals: Counter[str] = Counter()
    by_room: dict[str, Counter[str]] = {}
    rows, unexplained = [], []
    for mutant in mutants:
        record = found.get(mutant.key, {"outcome": "not judged", "by": ""})
        verdict = verdicts.get((mutant.file, mutant.before, mutant.after), {})
        room = by_room.setdefault(mutant.file.split("/")[1], Counter())
        kinds = ["mutants", _kind(record["outcome"])]
        if record["outcome"] == "time limit":
            kinds.append("time")
        if kinds[1] == "survived":
            kinds += ["equivalent"] if "equivalent" in verdict else []
            if "equivalent" not in verdict:
                unexplained.append(mutant)
            rows.append(_row(mutant, verdict.get("equivalent", "**no reason given**")))
        elif "killed_by" in verdict:
            kinds.append("by new tests")
            rows.append(_row(mutant, f"killed now by `{verdict['killed_by']}`"))
        room.update(kinds)
        totals.update(kinds)
    columns = ("mutants", "killed", "time", "survived", "equivalent")
    for name, counts in [*by_room.items(), ("all", totals)]:
        table.add_row(name, *(str(counts[column]) for column in columns))
    Console().print(table)
    matter = totals["mutants"] - totals["not judged"] - totals["equivalent"]
    share = totals["killed"] / max(matter, 1)
    counted = (
        f"{totals['mutants']} mutants: {totals['killed']} killed ({totals['by new tests']} of "
        f"them by tests written when they had survived, {totals['time']} by the time limit), "
        f"{totals['survived']} survived, {totals['equivalent']} of these equivalent. Of the "
        f"{matter} that matter, {100 * share:.1f} % are killed.\n"
    )
    if totals["not judged"]:
        counted += f"{totals['not judged']} were not judged; the same command goes on with them.\n"
    lines = ["| where | was | mutant | verdict |", "| --- | --- | --- | --- |", *rows]
    page = HEAD.format(seed=seed, number=len(mutants)) + counted + "\n" + "\n".join(lines) + "\n"
    (HERE / "survivors.md").write_text(page)
    print(counted)
    for mutant in unexplained:
        print(f"{mutant.key}\n    was  {mutant.before}\n    is   {mutant.after}")
    return int(share < WANTED or bool(unexplained) or totals["not judged"] > 0)


def _kind(outcome: str) -> str:
    return {"time limit": "killed", "unseen": "survived"}.get(outcome, outcome)


def _row(mutant: Mutant, verdict: str) -> str:
    cells = (f"{mutant.file}:{mutant.line}", f"`{mutant.before}`", f"`{mutant.after}`", verdict)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def verdicts_given() -> dict[tuple[str, str, str], dict[str, str]]:
    """Reasons by file and line, as it was and is; a change of the line asks for a new reason."""
    entries = tomllib.loads((HERE / "verdicts.toml").read_text())["verdict"]
    return {(entry["file"], entry["before"], entry["after"]): entry for entry in entries}
