"""The verdict on `train.py kernel-evolution`: claims, measures, correlations, traps."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.kernel_evolution.claims import (
    basin,
    claims,
    curve,
    late_noise,
    rank_correlation,
)
from ntkscale.experiments.kernel_evolution.figures import draw_evolution, draw_paths
from ntkscale.experiments.kernel_evolution.ladder import draw_ladder, ladder_table
from ntkscale.experiments.kernel_evolution.measures import Evolution, evolutions
from ntkscale.experiments.kernel_evolution.settings import KernelEvolutionSettings, settings_of
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run

FEWEST = 3
"""Parents without which nothing is said of the basin."""

UNCONVERGED = 0.02
"""Training error by which linearised networks may stay behind the full one."""

NOISE = 2.0
"""Below this ratio of distances over two spacings and one, velocity is the noise of batches."""

COLUMNS: dict[str, tuple[str, int]] = {
    "train_barrier": ("train barrier", 3),
    "test_barrier": ("test barrier", 3),
    "hamming": ("Hamming", 3),
    "function_distance": ("function distance", 3),
    "disagreement": ("disagreement", 3),
    "kernel_distance": ("kernel distance of children", 3),
    "velocity": ("kernel velocity [1 / epoch]", 3),
    "travelled": ("S(K_0, K_t)", 3),
    "own_error": ("error at t", 3),
    "linear_error": ("linearised error", 3),
    "linear_train_error": ("linearised, training", 3),
    "regression_error": ("regression error", 3),
    "advantage": ("nonlinear advantage", 3),
}
"""Measures by spawn time, with their names and digits."""

CERTAIN = ("train_barrier", "hamming", "velocity", "linear_error")
"""Those of them that stand with their intervals."""


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = settings_of(run)
    title = f"Kernel evolution, {settings.preset}: {run.path.name}"
    late = "" if run.finished else " The run is not finished: this is what is done."
    found, dead = evolutions(run, settings)
    if not found:
        return Verdict(
            title, f"No parent is trained to its end.{_left_out(run, dead)}{late}", [], []
        )
    tables: list[Table] = []
    sections: list[Section] = []
    said: list[str] = []
    by_richness = {one.gamma0: [e for e in found if e.gamma0 == one.gamma0] for one in found}
    folder = run.path / "figures"
    if len(by_richness) > 1:
        tables.append(ladder_table(by_richness))
        sections.append(Section("Lazy to rich", figures=[draw_ladder(by_richness, folder)]))
    for gamma0, own in by_richness.items():
        name = "" if gamma0 is None else f", gamma0 = {gamma0:g}"
        tables += [
            _claims(own, settings, name, run.finished),
            _by_spawn(own, name),
            _by_seed(own, name),
        ]
        if len(own[0].spawn) > 2:
            tables.append(_correlations(own, name))
        stem = "evolution" if gamma0 is None else f"evolution_gamma0={gamma0:g}"
        figures = [draw_evolution(own, folder, stem, name)]
        figures += draw_paths(run, own[0], folder, stem, name)
        sections.append(Section(f"Evolution{name}", figures=figures))
        said += _traps(own, name)
    entries = [row.get("found") for table in tables for row in table.rows]
    judged = [one.mark for one in entries if isinstance(one, Entry) and one.mark]
    if judged:
        rough = judged.count("rough")
        open_ = f", {rough} too rough to judge" if rough else ""
        said.insert(0, f"{judged.count('pass')} of {len(judged)} claims hold{open_}.")
    if found[0].batch_norm != "none":
        said.append(f"Batch-norm statistics on straight paths: {found[0].batch_norm}.")
    return Verdict(title, " ".join(said) + _left_out(run, dead) + late, tables, sections)


def _left_out(run: Run, dead: Sequence[str]) -> str:
    names = [name for name, one in run.results.items() if one.get("status") == "diverged"]
    said = f" Diverged, and left out: {', '.join(names)}." if names else ""
    return said + (f" Dead (kernel zero), and left out: {', '.join(dead)}." if dead else "")


def _claims(
    own: Sequence[Evolution], settings: KernelEvolutionSettings, name: str, finished: bool
) -> Table:
    rows = [
        {"claim": claim.what, "found": claim.found, "bound": claim.bound}
        for claim in claims(own, settings, finished)
    ]
    note = (
        f"Over {len(own)} parents, 95 % intervals: means (ratios: geometric ones) by Student's t, "
        "basin time and the share of barriers by bootstrap. p takes spawn times as independent."
    )
    if not any(row["bound"] for row in rows):
        rows = [{"claim": row["claim"], "found": row["found"]} for row in rows]
        note += " Not judged: bounds are for the presets two-xor, two-xor-slow and fashion-mlp."
        return Table(f"Claims{name}", ["claim", "found"], rows, note)
    return Table(f"Claims{name}", ["claim", "found", "bound"], rows, note)


def _shown(own: Sequence[Evolution]) -> list[str]:
    """Measures that were taken at all."""
    return [name for name in COLUMNS if any(np.isfinite(curve(one, name)).any() for one in own)]


def _by_spawn(own: Sequence[Evolution], name: str) -> Table:
    names = _shown(own)
    rows = []
    for position, spawn in enumerate(own[0].spawn):
        row: dict[str, Entry | str] = {"spawn [epochs]": f"{spawn:g}"}
        for measure in names:
            title, digits = COLUMNS[measure]
            values = [curve(one, measure)[position] for one in own]
            mean = mean_over_seeds(values, digits=digits)
            shown = mean if measure in CERTAIN else Entry(mean.value, digits=digits)
            known = int(np.isfinite(values).sum())
            fewer = 0 < known < len(own)
            row[title] = f"{shown.text} ({known} of {len(own)})" if fewer else shown
        rows.append(row)
    full = mean_over_seeds([one.full_error for one in own]).text
    note = (
        f"Full network at the end: test error {full}. Barriers, Hamming and function distance: "
        "between finished children. Velocity: over one spacing from the spawn time. (k of n): the "
        "other parents have no such network, or it diverged."
    )
    columns = ["spawn [epochs]", *(COLUMNS[measure][0] for measure in names)]
    return Table(f"By spawn time, mean over parents{name}", columns, rows, note)


def _by_seed(own: Sequence[Evolution], name: str) -> Table:
    spawn = [f"{epochs:g}" for epochs in own[0].spawn]
    rows = []
    for one in own:
        for measure in ("train_barrier", "velocity", "hamming", "linear_error", "own_error"):
            values = curve(one, measure)
            if np.isfinite(values).any():
                row: dict[str, Entry | str] = {
                    "seed": str(one.seed),
                    "measure": COLUMNS[measure][0],
                }
                rows.append(row | {s: Entry(float(v)) for s, v in zip(spawn, values, strict=True)})
    title = f"Every parent, by spawn time [epochs]{name}"
    return Table(title, ["seed", "measure", *spawn], rows)


def _correlations(own: Sequence[Evolution], name: str) -> Table:
    """Spearman's rank correlation of every pair of measures with barrier and velocity."""
    names = [n for n in _shown(own) if n not in ("test_barrier", "disagreement")]
    rows = []
    for measure in names:
        row: dict[str, Entry | str] = {"measure": COLUMNS[measure][0]}
        for other in ("train_barrier", "velocity", "linear_error"):
            if measure == other or other not in names:
                continue
            rho, p, each = rank_correlation(own, measure, other)
            known = [value for value in each if np.isfinite(value)]
            spread = f"{min(known):.2f} to {max(known):.2f}" if known else "-"
            row[f"with {COLUMNS[other][0]}"] = f"{rho:.2f} (p = {p:.0e}; {spread})"
        rows.append(row)
    columns = ["measure"] + [
        f"with {COLUMNS[other][0]}"
        for other in ("train_barrier", "velocity", "linear_error")
        if other in names
    ]
    note = "Pooled over parents and spawn times; behind it the range over single parents."
    return Table(f"Spearman's rank correlation{name}", columns, rows, note)


def _basin_in_words(own: Sequence[Evolution]) -> str:
    """When it is sealed, no finer than the spawn times are; or why that cannot be told."""
    sealed = basin(own)
    if sealed is None:
        return ""
    spawn, (low, high) = own[0].spawn, sealed.interval
    if len(own) < FEWEST:
        return f"When the basin is sealed cannot be told from fewer than {FEWEST} parents."
    if sealed.chaotic_throughout and low == high:
        return (
            "Children are connected at no spawn time: the learning rate keeps them apart, or they "
            "leave too early."
        )
    if low < high:
        latest = f"{high:g} epochs" if np.isfinite(high) else "after the last spawn time"
        when = f"sealed at {sealed.time:g} epochs"
        when = when if np.isfinite(sealed.time) else "not sealed by the last spawn time"
        return f"Basin {when}; parents leave open {low:g} to {latest}."
    if np.isinf(sealed.time):
        return "Children are connected at some spawn times, but not at the last one."
    if sealed.time > spawn[0]:
        before = spawn[list(spawn).index(sealed.time) - 1]
        return f"Basin sealed between {before:g} and {sealed.time:g} epochs."
    if spawn[0] > 0:
        return f"Basin sealed at or before {spawn[0]:g} epochs, the first spawn time."
    return "Children are connected from initialisation on: there is no chaotic transient to see."


def _traps(own: Sequence[Evolution], name: str) -> list[str]:
    """What would make the figures mean something else."""
    said, where = [], f"{name.removeprefix(', ')}: " if name else ""
    if words := _basin_in_words(own):
        said.append(where + words)
    left = np.concatenate([one.linear_train_error - one.train_error for one in own])
    behind = left[left > UNCONVERGED]  # what diverged is nan, and in neither
    if len(behind):
        said.append(
            f"{where}Linearised networks did not converge: their training error ends up to "
            f"{behind.max():.2f} above the full network's, so advantages are too large; give more "
            "--linear-epochs."
        )
    noise = late_noise(own)
    if noise < NOISE:
        said.append(
            f"{where}The late kernel velocity is mostly the noise of batches: over twice the "
            f"spacing kernels part {noise:.1f} times as far, where a drift would take them 4 times."
        )
    return said
