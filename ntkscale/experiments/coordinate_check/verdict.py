"""The verdict on a coordinate check: pass where no coordinate's change depends on width."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ntkscale.experiments.coordinate_check.experiment import (
    TOLERANCE,
    CoordinateCheckSettings,
    Slope,
    slopes,
)
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import (
    Entry,
    Mark,
    Picture,
    Section,
    Table,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run


def judge(run: Run) -> Verdict:
    """Table, figure and summary from a run's files; the figure goes to its `figures/`."""
    settings = restore(CoordinateCheckSettings, run.config, run.path)
    found = slopes(run.metrics)
    steady = [entry for entry in found if np.isfinite(entry.slope)]
    worst = max(steady, key=lambda entry: abs(entry.slope), default=None)
    trained = [result["status"] == "finished" for result in run.results.values()]
    passed = run.finished and all(trained) and all(entry.passes for entry in found)
    summary = (
        f"{settings.parameterization}: {'PASS' if passed else 'FAIL'}. A coordinate passes if "
        f"|slope| < {TOLERANCE}; "
    )
    if worst is None:
        summary += "training diverged at every width."
    else:
        summary += (
            f"the largest is {worst.slope:+.3f} +- {worst.error:.3f} "
            f"({worst.coordinate} after {worst.step} steps)."
        )
    if not all(trained):
        summary += f" {trained.count(False)} of {len(trained)} trainings diverged."
    if not run.finished:
        summary += " The run is not finished, so it cannot pass."
    return Verdict(
        title=f"Coordinate check: {run.path.name}",
        summary=summary,
        tables=[_table(found)],
        sections=[
            Section(
                "Change against width",
                "Each line is one coordinate; flat lines do not depend on width.",
                figures=[_draw(run, run.path / "figures")],
            )
        ],
    )


def _table(found: Sequence[Slope]) -> Table:
    rows = []
    for entry in found:
        mark: Mark = "pass" if entry.passes else "fail"
        rows.append(
            {
                "coordinate": entry.coordinate,
                "steps": entry.step,
                "slope": Entry(entry.slope, mark=mark),
                "standard error": entry.error,
            }
        )
    return Table(
        "Slope of log(rms change) against log(width)",
        list(rows[0]) if rows else ["coordinate"],
        rows,
        "Mean over seeds. Slopes that are missing: training diverged.",
    )


def _draw(run: Run, folder: Path) -> Picture:
    steps = sorted(run.metrics["step"].unique().to_list())
    names = list(dict.fromkeys(run.metrics["coordinate"].to_list()))
    figure, axes = new_figure(len(steps))
    with house_style():
        for ax, step in zip(axes, steps, strict=True):
            for name, colour in zip(names, ladder(len(names)), strict=True):
                rows = run.metrics.filter(
                    (run.metrics["step"] == step) & (run.metrics["coordinate"] == name)
                )
                mean = rows.group_by("width").agg(pl.col("rms_change").mean()).sort("width")
                ax.plot(
                    mean["width"], mean["rms_change"], "o-", color=colour, markersize=4, label=name
                )
            ax.set(
                xscale="log", yscale="log", xlabel="width N [neurons]", title=f"after {step} steps"
            )
            ax.set_ylabel("rms change [1]")
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Picture(
        save_figure(figure, folder, "changes")[0],
        "Rms change of every preactivation and of the output against width.",
        "Mean over seeds.",
    )
