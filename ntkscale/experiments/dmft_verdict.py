"""The verdict on `train.py dmft`: do networks near theory, how fast, what fails from when on."""

import math
from pathlib import Path

import polars as pl

from ntkscale.experiments.dmft import DmftSettings, expand, grid
from ntkscale.experiments.dmft_cells import FULL, kinds
from ntkscale.experiments.dmft_figures import (
    draw_approximations,
    draw_cnn,
    draw_errors,
    draw_losses,
)
from ntkscale.experiments.finite_width import slopes
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run

BOUND = 0.03
"""Relative error of a final kernel that theory is allowed, besides Monte-Carlo errors."""


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = expand(restore(DmftSettings, run.config, run.path))
    folder, frame = run.path / "figures", run.metrics
    title = f"Mean-field theory: {run.path.name}"
    late = "" if run.finished else " The run is not finished: this is what is done."
    if settings.preset == "cnn":
        table, said = _cnn(frame, settings)
        sections = [Section("CNNs", figures=[draw_cnn(frame, settings, folder)])]
        return Verdict(title, said + late, [table], sections)
    return _theory(run, settings, frame, folder, title, late)


def _theory(
    run: Run, settings: DmftSettings, frame: pl.DataFrame, folder: Path, title: str, late: str
) -> Verdict:
    if "width" not in frame.columns or "error" not in frame.columns:
        return Verdict(title, f"No network is trained yet.{late}", [], [])
    table, said = _kernels(run, settings, frame)
    tables = [table]
    sections = [
        Section("Losses", figures=[draw_losses(frame, settings, folder)]),
        Section("Kernels", figures=[draw_errors(frame, settings, folder)]),
    ]
    if len(kinds(settings)) > 2:
        table, words = _approximations(frame, settings)
        tables.append(table)
        said += f" {words}"
        picture = draw_approximations(frame, settings, folder)
        sections.append(Section("Approximations", figures=[picture]))
    return Verdict(title, said + late, tables, sections)


def _kernels(run: Run, settings: DmftSettings, frame: pl.DataFrame) -> tuple[Table, str]:
    """A row for each depth, gamma0 and kernel."""
    widest, rows, near, unclear, total = settings.width[-1], [], 0, 0, 0
    stopped: list[str] = []
    for depth, gamma0 in grid(settings):
        own = frame.filter(
            (pl.col("depth") == depth) & (pl.col("gamma0") == gamma0) & (pl.col("kind") == FULL)
        ).filter(pl.col("kernel").is_not_null())
        record = next(
            r
            for r in run.results.values()
            if r["part"] == "theory" and r["depth"] == depth and r["gamma0"] == gamma0
        )
        if not record["converged"]:
            stopped.append(f"L = {depth}, gamma0 = {gamma0:g}: {record['message']}")
        laws = {slope.kernel: slope for slope in slopes(own)}
        last = own.filter((pl.col("width") == widest) & (pl.col("part") == "final"))
        for kernel in [k for k in dict.fromkeys(last["kernel"].to_list()) if k != "outputs"]:
            each = last.filter(pl.col("kernel") == kernel)
            single = each.filter(pl.col("seed").is_not_null())["error"].to_list()
            mean = float(each.filter(pl.col("seed").is_null())["error"][0])
            stated = [*record["phi_error"], *record["g_error"]]
            layer = int(kernel.lstrip("phig")) - 1 if kernel != "ntk" else 0
            part = record["phi_error" if kernel.startswith("phi") else "g_error"]
            theory = max(stated) if kernel == "ntk" else part[layer]
            scatter = math.sqrt(sum(e**2 for e in single)) / len(single)
            within = mean <= BOUND + theory
            rough = mean <= BOUND + 2 * math.hypot(theory, scatter)
            near, total = near + within, total + 1
            unclear += rough and not within
            law = laws.get(kernel)
            rows.append(
                {
                    "L": depth,
                    "gamma0": Entry(gamma0, digits=2),
                    "kernel": kernel,
                    "mean of networks": Entry(
                        mean, mark="pass" if within else "rough" if rough else "fail"
                    ),
                    "one network": sum(single) / len(single),
                    "error of theory": theory,
                    "error of seeds": scatter,
                    "width^-p": Entry(None)
                    if law is None
                    else Entry(law.exponent, law.interval, digits=2),
                    "r^2": None if law is None else Entry(law.r_squared, digits=3),
                }
            )
    table = Table(
        f"Relative error of final kernels at width {widest:,}, theory against networks",
        list(rows[0]) if rows else ["kernel"],
        rows,
        f"Bound: {BOUND:.0%} and the standard error of theory for the mean over seeds; too rough: "
        "within two standard errors of theory and of the seeds' mean besides. p: of the error of "
        "single networks over all times, mean and 95 % interval over seeds; theory: .5.",
    )
    said = (
        f"{near} of {total} final kernels of width {widest:,} differ from theory by at most "
        f"{BOUND:.0%} and its own error, {unclear} more by what the seeds leave open."
    )
    return table, said + (f" Theory stopped early: {'; '.join(stopped)}" if stopped else "")


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
    for kind in kinds(settings):
        row: dict[str, Entry | str] = {"theory": kind}
        fails = None
        for gamma0 in gammas:
            error = found[kind, gamma0]["error"].mean()
            best = found[FULL, gamma0]["error"].mean()
            if not isinstance(error, float) or not isinstance(best, float):
                continue
            bad = error > BOUND + best
            fails = gamma0 if bad and fails is None else fails
            aligned = found[kind, gamma0]["alignment"].mean()
            row[f"gamma0 = {gamma0:g}"] = Entry(
                f"{error:.3f} ({aligned:.4f})", mark="fail" if bad else "pass"
            )
        rows.append(row)
        if kind != FULL:
            words.append(f"{kind} " + (f"from {fails:g} on" if fails else "nowhere on this ladder"))
    columns = ["theory", *(f"gamma0 = {g:g}" for g in gammas)]
    note = f"Bound: the full theory's error and {BOUND:.0%}."
    title = f"Mean relative error (alignment) of Phi and G over all times, L = {depth}"
    return Table(title, columns, rows, note), f"Fails in gamma0: {'; '.join(words)}."


def _cnn(frame: pl.DataFrame, settings: DmftSettings) -> tuple[Table, str]:
    """What networks end with; whether widths differ less than gamma0."""
    ends = frame.filter(pl.col("time") == pl.col("time").max().over("cell"))
    mean = ends.group_by("gamma0", "width", maintain_order=True).agg(
        pl.col("test_mse", "test_error", "alignment").mean()
    )
    rows = [
        {name: Entry(value, digits=3) for name, value in row.items()}
        for row in mean.rows(named=True)
    ]
    low, high = settings.width[max(len(settings.width) - 2, 0)], settings.width[-1]
    said = []
    for gamma0 in settings.gamma0:
        own = {r["width"]: r["test_mse"] for r in mean.rows(named=True) if r["gamma0"] == gamma0}
        if low in own and high in own:
            said.append(f"{abs(own[low] / own[high] - 1):.1%} at gamma0 = {gamma0:g}")
    table = Table("CNNs at the end, means over seeds", mean.columns, rows)
    return table, f"Test mse of widths {low} and {high} differs by {', '.join(said)}."
