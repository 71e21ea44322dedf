"""The verdict on a finished run as a W&B run of its own, beside those of its cells."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from ntkscale.experiments import Answer, Verdict
from ntkscale.reporting import Entry, Table, WandbLog
from ntkscale.reporting.workspace_charts import (
    ANSWER_COLUMNS,
    ANSWERS,
    NUMBER_COLUMNS,
    NUMBERS,
    SPAWN,
    SPECTRA,
    SPECTRUM_COLUMNS,
)
from ntkscale.runs import Run

Value = str | float | None

_ROWS = 2000  # of a table: W&B draws no more than a few thousand
_TASKS = 20  # with columns of their own; the table of answers has all
_CELLS, _TIMES, _INDICES = 12, 5, 64  # of spectra
_NAMING = 3  # columns that say what a row of a table is about


def log_verdict(mode: str, run: Run, verdict: Verdict) -> None:
    """Record summary, tables and figures of a verdict in a W&B run named ``verdict``.

    Args:
        mode: of the record: offline, online or disabled.
        run: what was judged.
        verdict: with the figures drawn.
    """
    group = f"{run.config['experiment']}/{run.path.name}"
    pictures = [figure for section in verdict.sections for figure in section.figures]
    log = WandbLog(
        mode,  # pyright: ignore[reportArgumentType]
        run.path,
        name="verdict",
        group=group,
        config=run.config,
        job="verdict",
    )
    if not log.recording:
        return
    tables: dict[str, tuple[Sequence[str], Iterator[list[Value]]]] = {
        ANSWERS: (ANSWER_COLUMNS, (_answer(answer) for answer in verdict.answers)),
        NUMBERS: (NUMBER_COLUMNS, (row for table in verdict.tables for row in _numbers(table))),
        SPECTRA: (SPECTRUM_COLUMNS, _spectra(run.metrics)),
    }
    full = {
        key: (columns, [[group, *row] for row in islice(rows, _ROWS)])
        for key, (columns, rows) in tables.items()
    }
    log.conclude(_summary(verdict), {key: table for key, table in full.items() if table[1]})
    log.log_figures({one.png.stem: one.png for one in pictures if isinstance(one.png, Path)})
    log.finish()


def _summary(verdict: Verdict) -> dict[str, str | float]:
    """What stands in W&B's table of runs; tasks are numbered where the run has several."""
    marks = [
        entry.mark
        for table in verdict.tables
        for row in table.rows
        for entry in row.values()
        if isinstance(entry, Entry) and entry.mark
    ]
    said = "nothing is judged"
    if marks:
        rough = f", {marks.count('rough')} too rough to judge" if "rough" in marks else ""
        said = f"{marks.count('pass')} of {len(marks)} claims hold{rough}"
    found: dict[str, str | float] = {"verdict": said, "said": verdict.summary}
    found |= {f"claims_{mark}": marks.count(mark) for mark in ("pass", "fail", "rough")}
    places = [" or ".join(answer.regimes) for answer in verdict.answers if answer.regimes]
    if places:
        found["regime"] = "; ".join(dict.fromkeys(places))
    for i, answer in enumerate(verdict.answers[:_TASKS], start=1):
        which = "" if len(verdict.answers) == 1 else f"_{i:02d}"
        named = zip(ANSWER_COLUMNS[1:], _answer(answer), strict=True)
        found |= {f"{name}{which}": value for name, value in named if value is not None}
    return found


def _answer(answer: Answer) -> list[Value]:
    """By `ANSWER_COLUMNS`, after the run."""
    numbers = [answer.alpha, answer.beta, answer.gain, answer.ratio]
    regime = " or ".join(answer.regimes) or None
    return [answer.task, regime, answer.helps, *(v for one in numbers for v in _three(one))]


def _numbers(table: Table) -> Iterator[list[Value]]:
    """Every number of a table by `NUMBER_COLUMNS`, after the run."""
    naming = table.columns[:_NAMING]
    for row in table.rows:
        entries = {n: e if isinstance(e, Entry) else Entry(e) for n, e in row.items()}
        words = {
            name: entry.text if _number(entry.value) is None else f"{name} {entry.text}"
            for name, entry in entries.items()
            if name in naming and entry.interval is None and not entry.mark
        }
        spawn = _number(entries[SPAWN].value) if SPAWN in entries else None
        for name, entry in entries.items():
            value, low, high = _three(entry)
            if isinstance(entry.value, str) or value is None:
                continue
            about = ", ".join(word for other, word in words.items() if other != name and word)
            yield [table.title, about, name, value, low, high, entry.mark, spawn]


def _three(entry: Entry) -> tuple[float | None, float | None, float | None]:
    """Value, low and high; None for what is no finite number."""
    low, high = entry.interval or (None, None)
    return _number(entry.value), _number(low), _number(high)


def _number(value: str | float | int | None) -> float | None:
    try:
        found = float(value if value is not None else math.nan)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _spectra(metrics: pl.DataFrame) -> Iterator[list[Value]]:
    """Leading eigenvalues of the first cells by `SPECTRUM_COLUMNS`, after the run; start to end."""
    if not {"cell", "time", "kernel_eigenvalues"} <= set(metrics.columns):
        return
    kept = metrics.drop_nulls(["time", "kernel_eigenvalues"])
    for cell in kept["cell"].unique(maintain_order=True).to_list()[:_CELLS]:
        rows = kept.filter(pl.col("cell") == cell).sort("time")
        last = len(rows) - 1
        for place in dict.fromkeys(round(i * last / (_TIMES - 1)) for i in range(_TIMES)):
            values = rows["kernel_eigenvalues"][place].to_list()[:_INDICES]
            for index, value in enumerate(values, start=1):
                yield [cell, rows["time"][place], float(index), _number(value)]
