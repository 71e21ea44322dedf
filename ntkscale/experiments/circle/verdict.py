"""The verdict on a circle run: what theory says, what the networks did, and how sure that is."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.circle.answers import circle_answers
from ntkscale.experiments.circle.cells import columns, label
from ntkscale.experiments.circle.experiment import settings_of
from ntkscale.experiments.circle.figures import (
    draw_exponents,
    draw_kernel,
    draw_losses,
    draw_pictures,
    draw_spectra,
    shown,
)
from ntkscale.experiments.circle.frontier_verdict import compute_frontier
from ntkscale.experiments.circle.measures import (
    GROWING,
    Baseline,
    Trained,
    alike,
    mean_and_deviation,
    measure,
)
from ntkscale.experiments.circle.phases import compare_phases
from ntkscale.experiments.circle.prediction import draw_prediction, predict_cells, prediction_table
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.experiments.verdict import Verdict, tracker_cost
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run
from ntkscale.scaling import regime

ROUGH_WIDTH = 4096
"""Below this width the ring-stratified baseline scatters too much to be quoted."""

LIKE = 0.03
"""Exponents this close to that of the lazy flow count as lazy."""
NEAR = 0.1
"""Exponents this close to the rich theory, which holds beyond any finite window, count as such."""


def judge(run: Run) -> Verdict:
    """Tables, figures and a summary from a run's files; figures go to its `figures/`.

    Raises:
        RunFolderError: a file of the run is damaged.
    """
    settings = settings_of(run)
    cells = measure(run, settings)
    predicted = predict_cells(cells, settings)
    rough = settings.init == "ring" and max(settings.width) < ROUGH_WIDTH
    figures = run.path / "figures"
    sections = [
        Section(
            "Learning curves",
            "Training mse with the target's analytic tail. Dotted: the exact flow of the network's "
            "own initial kernel, which is what a lazy network does. Slopes are fitted where a "
            "curve has the losses which that flow has in the shaded window.",
            figures=[draw_losses(cells, settings, figures)],
        ),
        Section(
            "Exponent against source exponent",
            "The line and the curve are theory, lazy t^-beta and rich t^-(2 beta / (1 + beta)) for "
            "hard tasks; crosses are the infinite-width kernel in the same window.",
            figures=[draw_exponents(cells, figures)],
        ),
        Section(
            "What the initial kernel says",
            "Left: its eigenvalues; the slope is alpha. Right: the target power above each "
            "eigenvalue; the slope is beta.",
            figures=[draw_spectra(cells, settings, figures)],
        ),
        Section(
            "Whole curves predicted from the initial kernel",
            "The solvable model, started from the eigenvalues of K_0 and the target on its "
            "eigenvectors; nothing is fitted.",
            figures=[draw_prediction(predicted, settings, figures)],
        ),
        Section(
            "How the kernel moves",
            f"Growth of the kernel along eigenvector {GROWING} of K_0, and distance from K_0.",
            figures=[
                draw_kernel(cells, settings, figures),
                *draw_pictures(run, settings, cells),
            ],
        ),
    ]
    tables = [
        _verdict_table(cells, settings, rough),
        prediction_table(predicted, settings),
        _seed_table(cells, settings),
        _baseline_table(cells, settings),
    ]
    said = _summary(run, settings, cells, rough)
    # A ladder of widths is judged for what it was asked for: phases, or compute.
    ladder = None
    if len(settings.phases) == 2:
        ladder = compare_phases(cells, figures)
    elif settings.init == "gaussian" and len(settings.width) > 2:
        ladder = compute_frontier(cells, settings, figures)
    if ladder is not None:
        words, table, section = ladder
        said, tables, sections = f"{words} {said}", [table, *tables], [section, *sections]
    return Verdict(
        title=f"Circle: {run.path.name}",
        summary=said,
        tables=tables,
        sections=sections,
        answers=circle_answers(cells, settings),
    )


def _summary(run: Run, settings: CircleSettings, cells: Sequence[Trained], rough: bool) -> str:
    parts: list[str] = []
    richest = max(settings.gamma0)
    for own in alike([cell for cell in shown(cells) if cell.gamma0 == richest]):
        said = label(settings, own[0].condition)
        gain, deviation = mean_and_deviation(cell.gain for cell in own)
        if not np.isfinite(gain):
            parts.append(f"{said}: the richest network did not get through the window.")
            continue
        growth, _ = mean_and_deviation(cell.growth_law for cell in own)
        place = regime(own[0].baseline.measured.alpha, own[0].baseline.source)
        spread = f" +- {deviation:.3f}" if np.isfinite(deviation) else ""
        parts.append(
            f"{said} ({place}): at gamma0 = {richest:g} the exponent is "
            f"{gain:+.3f}{spread} against the lazy flow's"
            + (f", the kernel grows as t^{growth:.2f}." if np.isfinite(growth) else ".")
        )
    if settings.phases == ("random",):
        parts.append("The target's phases are random: alpha and beta alone do not decide then.")
    if rough:
        parts.append(f"Rough: figures to quote need a width of {ROUGH_WIDTH} or more.")
    if not run.finished:
        parts.append("The run is not finished: what is missing is not in the tables.")
    parts.append(tracker_cost(run))
    return " ".join(parts)


def _verdict_table(cells: Sequence[Trained], settings: CircleSettings, rough: bool) -> Table:
    """One row for every condition, over its seeds."""
    rows = []
    known = all(cell.baseline.source == cell.baseline.beta for cell in cells)
    for own in alike(cells):
        base = own[0].baseline
        exponent = mean_and_deviation(c.slope.exponent if c.slope else np.nan for c in own)
        lazy, _ = mean_and_deviation(c.baseline.lazy.exponent for c in own)
        gain, spread = mean_and_deviation(c.gain for c in own)
        growth, _ = mean_and_deviation(c.growth_law for c in own)
        found = {} if known else _measured(own)
        rows.append(
            {
                "beta": Entry(base.beta, digits=2),
                **columns(settings, base.condition),
                **found,
                "regime": regime(base.measured.alpha, base.source),
                "gamma0": f"{own[0].gamma0:g}",
                "seeds": len(own),
                "lazy theory": base.infinite.exponent,
                "lazy flow": lazy,
                "rich theory": mean_and_deviation(cell.predicted for cell in own)[0],
                "measured": Entry(exponent[0]),
                "sd": exponent[1],
                "measured - lazy": gain,
                "sd of it": spread,
                "kernel growth": Entry(growth, digits=2),
                "distance": Entry(_mean_last(own)),
                "verdict": _word(own, gain, rough),
            }
        )
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in ("beta of K_0", "alpha of K_0", "2 power"):
        if name in names:
            names.insert(1 + len(settings.varying()), names.pop(names.index(name)))
    return Table(
        "Exponents in time, mse ~ t^-exponent",
        names or ["beta"],
        rows,
        "lazy theory: infinite-width kernel, same window. lazy flow: exact flow of the initial "
        "kernel. kernel growth: exponent of u_10^T K_t u_10 in t. distance: S(K_0, K_t), last. "
        f"as lazy: within {LIKE} of the lazy flow; as rich theory: within {NEAR} of it. For ReLU^q "
        "with q > 1 and several layers rich theory is that of the beta measured on K_0.",
    )


def _measured(cells: Sequence[Trained]) -> dict[str, Entry]:
    """alpha and beta read off K_0, with the hull of their intervals over seeds."""
    found = [cell.baseline.measured for cell in cells]
    alphas, betas = (
        np.array([getattr(one, f"{name}_interval") for one in found]) for name in ("alpha", "beta")
    )
    return {
        "2 power": Entry(2 * cells[0].condition.power),
        "alpha of K_0": Entry(
            float(np.mean([one.alpha for one in found])),
            (alphas[:, 0].min(), alphas[:, 1].max()),
            digits=2,
        ),
        "beta of K_0": Entry(
            float(np.mean([one.beta for one in found])), (betas[:, 0].min(), betas[:, 1].max())
        ),
    }


def _mean_last(cells: Sequence[Trained]) -> float:
    return mean_and_deviation(
        cell.distance[-1] if len(cell.distance) else np.nan for cell in cells
    )[0]


def _word(cells: Sequence[Trained], gain: float, rough: bool) -> str:
    """What happened, in two or three words."""
    if any(cell.status == "diverged" for cell in cells):
        return "diverged"
    if not np.isfinite(gain):
        return "window not reached"
    theory = cells[0].predicted
    exponent, _ = mean_and_deviation(c.slope.exponent if c.slope else np.nan for c in cells)
    if abs(gain) <= LIKE:
        word = "as lazy"
    elif gain < 0:
        word = "slower than lazy"
    else:
        word = "faster than lazy"
        word += ", as rich theory" if abs(exponent - theory) <= NEAR else ""
    return f"{word} (rough)" if rough else word


def _seed_table(cells: Sequence[Trained], settings: CircleSettings) -> Table:
    rows = []
    for cell in cells:
        slope = cell.slope
        rows.append(
            {
                "beta": Entry(cell.baseline.beta, digits=2),
                **columns(settings, cell.condition),
                "gamma0": f"{cell.gamma0:g}",
                "seed": cell.baseline.seed,
                "measured": Entry(slope.exponent, slope.interval) if slope else Entry(None),
                "R^2": Entry(slope.r_squared, digits=4) if slope else Entry(None),
                "window (t)": f"{cell.window[0]:.0f} .. {cell.window[1]:.0f}"
                if cell.window
                else "-",
                "measured - lazy": cell.gain,
                "measured - rich theory": slope.exponent - cell.predicted if slope else None,
                "kernel growth": Entry(cell.growth_law, digits=2),
                "ended": cell.status,
                "note": slope.reason if slope and not slope.is_power_law else "",
            }
        )
    return Table("Every seed", list(rows[0]) if rows else ["beta"], rows, "Intervals are 95 %.")


def _baseline_table(cells: Sequence[Trained], settings: CircleSettings) -> Table:
    bases: list[Baseline] = [group[0].baseline for group in _by_start(cells)]
    rows = [
        {
            "beta": Entry(base.beta, digits=2),
            **columns(settings, base.condition),
            "seed": base.seed,
            "alpha at t = 0": Entry(base.measured.alpha, base.measured.alpha_interval),
            "beta at t = 0": Entry(base.measured.beta, base.measured.beta_interval),
            "index window": f"{base.measured.window[0]} .. {base.measured.window[1]}",
            "lazy flow": Entry(base.lazy.exponent, base.lazy.interval),
            "infinite width": Entry(base.infinite.exponent),
            "lazy - infinite": base.lazy.exponent - base.infinite.exponent,
            "lazy - beta": base.lazy.exponent - base.measured.beta,
        }
        for base in bases
    ]
    return Table(
        "What the initial kernel predicts",
        list(rows[0]) if rows else ["beta"],
        rows,
        "alpha and beta are read off K_0 in the window of indices; the lazy flow is its exact "
        "linearised training, with the target's tail. Intervals are 95 %.",
    )


def _by_start(cells: Sequence[Trained]) -> list[list[Trained]]:
    """Cells that started from the same kernel and have the same target."""
    found: dict[int, list[Trained]] = {}
    for cell in cells:
        found.setdefault(id(cell.baseline), []).append(cell)
    return list(found.values())
