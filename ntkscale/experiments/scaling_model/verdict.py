"""The verdict on `train.py scaling-model`: which laws of theory the solved model shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ntkscale.experiments.scaling_model.answers import solved_answers
from ntkscale.experiments.scaling_model.figures import (
    draw_data,
    draw_exponents,
    draw_phases,
    draw_sgd,
    draw_times,
)
from ntkscale.experiments.scaling_model.measures import (
    Exponent,
    data_exponents,
    expected,
    finite_ratios,
    measured_phase,
    near_theory,
    sgd_exponents,
    time_exponents,
)
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings, expand
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Mark, Section, Table
from ntkscale.runs import Run
from ntkscale.scaling import predict

TIME_TOLERANCE = 0.02
"""Of late exponents in time at infinite width."""
LADDER_TOLERANCE = 0.1
"""Of exponents over the decade or so of batches, data and transients that can be computed."""
COMPUTE_TOLERANCE = 0.05


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = restore(ScalingModelSettings, run.config, run.path)
    settings = expand(
        type(settings)(**{**vars(settings), "circle": tuple(map(Path, settings.circle))})
    )
    folder, metrics = run.path / "figures", run.metrics
    parts = set(metrics["part"].unique().to_list())
    phases = [r for r in run.results.values() if r["part"] == "phases"]
    tables: list[Table] = []
    sections: list[Section] = []
    said: list[str] = []
    if "exponents" in parts:
        times = time_exponents(metrics, settings)
        tables.append(_time_table(times, settings))
        said.append(_time_words(times, settings))
        picture = draw_exponents(times, settings, folder)
        sections.append(Section("Exponents in time", figures=[picture]))
    if phases:
        tables.append(_phase_table(phases))
        said.append(_phase_words(phases))
        sections.append(Section("Phase diagrams", figures=[draw_phases(phases, folder)]))
    if "curves" in parts:
        tables.append(_width_table(finite_ratios(metrics, settings)))
        picture = draw_times(metrics, settings, folder)
        sections.append(Section("Curves in time", figures=[picture]))
    if "sgd" in parts:
        found = sgd_exponents(metrics, settings)
        note = (
            "Theory: the late law min(beta, 2 - 1/alpha), rich times max(1, 2 / (1 + beta)); of "
            "lazy simulations the exact expectation in the same window. Rich ones are read where "
            "lazy ones still cross over to the late law: compare the row above."
        )
        tables.append(_table("One-pass SGD, mse ~ t^-exponent", found, LADDER_TOLERANCE, note))
        said.append(_words("SGD", found))
        sections.append(Section("SGD transients", figures=[draw_sgd(metrics, settings, folder)]))
    if "data" in parts:
        found = data_exponents(metrics, settings)
        note = (
            "Best mse: P^-exponent at the best time to stop, time to stop: P^exponent. Theory: "
            "without noise the plateau's deterministic equivalent over the same P (late: alpha "
            "min(2, beta)), with noise alpha beta / (alpha beta + 1)."
        )
        tables.append(_table("Finite data against P", found, LADDER_TOLERANCE, note))
        said.append(_words("finite data", found))
        picture = draw_data(metrics, settings, folder)
        sections.append(Section("Label noise and early stopping", figures=[picture]))
    if not run.finished:
        said.append("The run is not finished: this is what is done.")
    return Verdict(
        title=f"Solvable model: {run.path.name}",
        summary=" ".join(said),
        tables=tables,
        sections=sections,
        answers=list(solved_answers(metrics, settings)),
    )


def _mark(one: Exponent, tolerance: float) -> Mark:
    if one.refused or np.ptp(one.interval) > 4 * tolerance:
        return "rough"
    return "pass" if abs(one.measured - one.theory) <= tolerance else "fail"


def _table(title: str, found: Sequence[Exponent], tolerance: float, note: str) -> Table:
    rows = [
        {
            **one.what,
            "theory": one.theory,
            "measured": Entry(one.measured, one.interval, _mark(one, tolerance)),
            "window": f"{one.window[0]:.3g} .. {one.window[1]:.3g}",
        }
        for one in found
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["beta"]
    return Table(title, columns, rows, f"{note} Bound: within {tolerance} of theory.".strip())


def _time_table(found: Sequence[Exponent], settings: ScalingModelSettings) -> Table:
    betas = list(dict.fromkeys(float(one.what["beta"]) for one in found))
    rows = []
    for beta in betas:
        says = predict(settings.alpha, beta)
        row: dict[str, Entry | str | float | None] = {
            "beta": beta,
            "regime": says.regime,
            "lazy theory": says.time_lazy,
            "rich theory": says.time_rich,
        }
        for one in found:
            if one.what["beta"] == beta:
                name = f"gamma = {float(one.what['gamma']):g}"
                row[name] = Entry(one.measured, None, _mark(one, TIME_TOLERANCE))
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["beta"]
    low, high = found[0].window if found else (0.0, 0.0)
    return Table(
        "Exponents in time, N and P infinite",
        columns,
        rows,
        f"Fitted for t from {low:.1g} to {high:.1g}. Small gamma still crosses over from lazy to "
        f"rich there, at t ~ gamma^(-1 / (1 - beta)). Bound: within {TIME_TOLERANCE} of theory.",
    )


def _time_words(found: Sequence[Exponent], settings: ScalingModelSettings) -> str:
    parts = []
    for name, gamma in (("lazy", 0.0), (f"gamma = {settings.rich:g}", settings.rich)):
        misses = [one for one in found if one.what["gamma"] == gamma]
        worst = max(misses, key=lambda one: abs(one.measured - one.theory))
        parts.append(
            f"{name} within {abs(worst.measured - worst.theory):.3f} of theory at all "
            f"{len(misses)} beta (farthest at beta = {worst.what['beta']:g})"
        )
    return "Exponents in time: " + "; ".join(parts) + "."


def _phase_table(results: Sequence[dict]) -> Table:
    rows = []
    for r in results:
        row: dict[str, Entry | str | float] = {
            "alpha": Entry(r["alpha"], digits=2),
            "beta": Entry(r["beta"], digits=2),
            "regime": predict(r["alpha"], r["beta"]).regime,
        }
        for name in ("lazy", "rich"):
            theory = expected(r, name)
            near = abs(r[name] - theory) <= COMPUTE_TOLERANCE
            row[f"{name} theory"] = theory
            row[name] = Entry(r[name], mark="pass" if near else "fail")
            row[f"{name}, largest"] = measured_phase(r, name)
        rows.append(row)
    return Table(
        "Compute exponents and largest terms of the loss",
        list(rows[0]),
        rows,
        "Largest: of the falling terms and of the width's, in the middle of the frontier. Rich "
        "super-easy points are gradient flow: alpha beta / (alpha beta + 1). Bound: within "
        f"{COMPUTE_TOLERANCE} of theory.",
    )


def _phase_words(results: Sequence[dict]) -> str:
    near = {name: near_theory(results, name, COMPUTE_TOLERANCE) for name in ("lazy", "rich")}
    said = (
        f"Phase diagrams: the compute exponent is within {COMPUTE_TOLERANCE} of theory at "
        f"{near['lazy']} (lazy) and {near['rich']} (rich) of {len(results)} points"
    )
    far = [
        f"({r['alpha']:g}, {r['beta']:g})"
        for r in results
        if any(abs(r[n] - expected(r, n)) > COMPUTE_TOLERANCE for n in near)
    ]
    return said + (f"; not yet at (alpha, beta) = {', '.join(far)}." if far else ".")


def _width_table(found: Sequence[dict[str, float | str]]) -> Table:
    rows = [
        {
            "beta": Entry(one["beta"], digits=2),
            "N": one["N"],
            "gamma": one["gamma"],
            "farthest ratio": Entry(one["farthest ratio"], (float(one["low"]), float(one["high"]))),
            "within 95 %": Entry(one["inside"], digits=2),
        }
        for one in found
    ]
    return Table(
        "Finite width: mean of draws over the average of theory, along whole curves",
        list(rows[0]) if rows else ["beta"],
        rows,
        "Within 95 %: share of times at which theory lies in the interval of the mean of draws.",
    )


def _words(what: str, found: Sequence[Exponent]) -> str:
    near = [one for one in found if _mark(one, LADDER_TOLERANCE) == "pass"]
    said = f"{what}: {len(near)} of {len(found)} exponents within {LADDER_TOLERANCE} of theory"
    far = [
        ", ".join(
            value if isinstance(value, str) else f"{name} = {value:g}"
            for name, value in one.what.items()
        )
        + f": {one.measured:.2f} for {one.theory:.2f}"
        for one in found
        if _mark(one, LADDER_TOLERANCE) == "fail"
    ]
    return said[0].upper() + said[1:] + (f"; not reached: {'; '.join(far)}." if far else ".")
