"""The verdict on `train.py dmft`: do networks near theory, how fast, what fails from when on."""

import math
from pathlib import Path
from typing import Any

import polars as pl
from scipy.stats import t as student_t

from ntkscale.experiments.dmft.answers import solved_answers
from ntkscale.experiments.dmft.cells import kinds
from ntkscale.experiments.dmft.cnn_verdict import judge_cnn
from ntkscale.experiments.dmft.figures import (
    draw_approximations,
    draw_cnn,
    draw_errors,
    draw_losses,
)
from ntkscale.experiments.dmft.finite_width import Slope, slopes, standard_error_of_mean
from ntkscale.experiments.dmft.movement import draw_movement, movement_table, movements
from ntkscale.experiments.dmft.pictures import draw_densities, draw_kernels
from ntkscale.experiments.dmft.record import FULL
from ntkscale.experiments.dmft.settings import DmftSettings, expand, grid
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Mark, Section, Table
from ntkscale.runs import Run

BOUND = 0.03
"""Relative error of a final kernel that theory is allowed, besides Monte-Carlo errors."""


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = expand(restore(DmftSettings, run.config, run.path))
    folder, frame = run.path / "figures", run.metrics
    if "cell" in frame.columns:  # of a killed run a cell may be there by half
        frame = frame.filter(pl.col("cell").is_in(list(run.results)))
    title = f"Mean-field theory: {run.path.name}"
    late = "" if run.finished else " The run is not finished: this is what is done."
    if "width" not in frame.columns or frame["width"].is_null().all():
        return Verdict(title, f"No network is trained yet.{late}", [], [])
    if settings.preset == "cnn":
        trained, table, said = judge_cnn(run, settings, frame)
        sections = [Section("CNNs", figures=[draw_cnn(trained, settings, folder)])]
        return Verdict(title, said + late, [table], sections)
    return _theory(run, settings, frame, folder, title, late)


def _theory(
    run: Run, settings: DmftSettings, frame: pl.DataFrame, folder: Path, title: str, late: str
) -> Verdict:
    table, said = _kernels(run, settings, frame)
    moved = movements(run.path, settings)
    tables = [table, movement_table(moved, settings)]
    sections = [
        Section("Losses", figures=[draw_losses(frame, settings, folder)]),
        Section(
            "Kernels",
            figures=[
                draw_errors(frame, settings, folder),
                *draw_kernels(run.path, settings, folder),
                *draw_movement(moved, settings, folder),
            ],
        ),
    ]
    if densities := draw_densities(run.path, settings, folder):
        sections.append(Section("Densities", figures=densities))
    if len(kinds(settings)) > 2:
        table, words = _approximations(frame, settings)
        tables.append(table)
        said += f" {words}"
        picture = draw_approximations(frame, settings, folder)
        sections.append(Section("Approximations", figures=[picture]))
    answers = list(solved_answers(frame, settings))
    return Verdict(title, said + late, tables, sections, answers)


def _kernels(run: Run, settings: DmftSettings, frame: pl.DataFrame) -> tuple[Table, str]:
    """A row for each depth, gamma0 and kernel."""
    widest, rows, stopped = settings.width[-1], [], []
    marks: list[Mark] = []
    for depth, gamma0 in grid(settings):
        record = next(
            (
                r
                for r in run.results.values()
                if r["part"] == "theory" and r["depth"] == depth and r["gamma0"] == gamma0
            ),
            None,
        )
        if record is None:  # not solved yet
            continue
        if not record["converged"]:
            stopped.append(f"L = {depth}, gamma0 = {gamma0:g}: {record['message']}")
        own = frame.filter(
            (pl.col("depth") == depth) & (pl.col("gamma0") == gamma0) & (pl.col("kind") == FULL)
        ).filter(pl.col("kernel").is_not_null())
        laws = {slope.kernel: slope for slope in slopes(own)}
        last = own.filter((pl.col("width") == widest) & (pl.col("part") == "final"))
        for kernel in [k for k in dict.fromkeys(last["kernel"].to_list()) if k != "outputs"]:
            each = last.filter(pl.col("kernel") == kernel)
            single = each.filter(pl.col("seed").is_not_null())["error"].to_list()
            mean = each.filter(pl.col("seed").is_null())["error"][0]
            theory = _stated_error(record, kernel)
            row: dict[str, Entry | str | float | None] = {
                "L": str(depth),
                "gamma0": Entry(gamma0, digits=2),
                "kernel": kernel,
            }
            # What is not finite is null on disk.
            lost = sum(error is None for error in single)
            if mean is None or lost:
                marks.append("fail")
                row["mean of networks"] = Entry(f"diverged: {lost} of {len(single)}", mark="fail")
            else:
                scatter = standard_error_of_mean(single, mean)
                marks.append(_mark(mean, theory, scatter, len(single)))
                row |= {
                    "mean of networks": Entry(mean, mark=marks[-1]),
                    "one network": sum(single) / len(single),
                    "error of theory": theory,
                    "error of seeds": None if math.isnan(scatter) else scatter,
                }
            rows.append(row | _law(laws.get(kernel)))
    table = Table(
        f"Relative error of final kernels at width {widest:,}, theory against networks",
        list(max(rows, key=len)) if rows else ["kernel"],
        rows,
        f"Bound: {BOUND:.0%} and the standard error of theory for the mean over seeds; too rough: "
        "within two standard errors of theory and the 95 % interval of the seeds' mean besides, "
        "or one seed alone. "
        "p: of the error of single networks over all times, mean and 95 % interval over seeds; "
        "theory: .5.",
    )
    if not rows:
        return table, f"No network of width {widest:,} is trained yet."
    said = (
        f"{marks.count('pass')} of {len(marks)} final kernels of width {widest:,} differ from "
        f"theory by at most {BOUND:.0%} and its own error, {marks.count('rough')} more by what the "
        f"seeds leave open, {marks.count('fail')} by more."
    )
    return table, said + (f" Theory stopped early: {'; '.join(stopped)}" if stopped else "")


def _stated_error(record: dict[str, Any], kernel: str) -> float:
    """Relative standard error of theory's kernel; of the tangent kernel the largest of all."""
    if kernel == "ntk":
        return max([*record["phi_error"], *record["g_error"]])
    name = kernel.rstrip("0123456789")
    return record[f"{name}_error"][int(kernel.removeprefix(name)) - 1]


def _mark(mean: float, theory: float, scatter: float, seeds: int) -> Mark:
    if mean <= BOUND + theory:
        return "pass"
    if math.isnan(scatter):
        return "rough"
    # The scatter of few seeds is itself little known.
    seeds_leave = float(student_t.ppf(0.975, seeds - 1)) * scatter
    return "rough" if mean <= BOUND + math.hypot(2 * theory, seeds_leave) else "fail"


def _law(law: Slope | None) -> dict[str, Entry]:
    """Exponent of the error in the width, or why there is none."""
    if law is None:
        return {"width^-p": Entry(None)}
    if law.reason:
        return {"width^-p": Entry(f"no law: {law.reason}")}
    return {
        "width^-p": Entry(law.exponent, law.interval, digits=2),
        "r^2": Entry(law.r_squared, digits=3),
    }


def _approximations(frame: pl.DataFrame, settings: DmftSettings) -> tuple[Table, str]:
    """Mean error of Phi and G by kind of theory and gamma0, and where each kind fails."""
    depth, rows, words = settings.depth[-1], [], []
    own = frame.filter(
        (pl.col("depth") == depth)
        & (pl.col("width") == settings.width[-1])
        & pl.col("seed").is_null()
        & pl.col("kernel").str.contains("^(phi|g)")
        & (pl.col("part") == "all")
    )
    gammas = sorted(settings.gamma0)
    found = {
        (kind, gamma0): own.filter((pl.col("kind") == kind) & (pl.col("gamma0") == gamma0))
        for kind in kinds(settings)
        for gamma0 in gammas
    }
    best = {gamma0: _mean(found[FULL, gamma0], "error") for gamma0 in gammas}
    for kind in kinds(settings):
        row: dict[str, Entry | str] = {"theory": kind}
        fails = None
        for gamma0 in gammas:
            limit = best[gamma0]
            if limit is None:  # nothing to measure by: not trained yet, or diverged
                continue
            error = _mean(found[kind, gamma0], "error")
            aligned = _mean(found[kind, gamma0], "alignment")
            text = "none" if error is None else f"{error:.3f} ({aligned:.4f})"
            bad = error is None or error > BOUND + limit
            fails = gamma0 if bad and fails is None else fails
            # The full theory is the measure: it is not judged by itself.
            mark = None if kind == FULL else "fail" if bad else "pass"
            row[f"gamma0 = {gamma0:g}"] = Entry(text, mark=mark)
        rows.append(row)
        if kind != FULL:
            words.append(f"{kind} " + (f"from {fails:g} on" if fails else "nowhere on this ladder"))
    columns = ["theory", *(f"gamma0 = {g:g}" for g in gammas)]
    note = (
        f"Bound: the full theory's error and {BOUND:.0%}. none: it diverged, or ended before the "
        "full theory."
    )
    title = f"Mean relative error (alignment) of Phi and G over all times, L = {depth}"
    return Table(title, columns, rows, note), f"Fails in gamma0: {'; '.join(words)}."


def _mean(own: pl.DataFrame, column: str) -> float | None:
    """Over kernels; None if there are none or one of them is not finite (null on disk)."""
    values = own[column]
    mean = values.mean()
    return mean if isinstance(mean, float) and not values.is_null().any() else None
