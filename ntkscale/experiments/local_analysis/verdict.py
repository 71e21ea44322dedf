"""The verdict on `train.py local-analysis`: claims, phases, arms, seeds, the bridge, cost."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.local_analysis.bridge_figures import SHARE, bridge_table, draw_bridge
from ntkscale.experiments.local_analysis.claims import Claim, of_bridge, of_descents
from ntkscale.experiments.local_analysis.figures import (
    draw_certificate,
    draw_cost,
    draw_laws,
    draw_neurons,
    draw_stages,
)
from ntkscale.experiments.local_analysis.measures import (
    Bridge,
    Descent,
    bridges,
    costs,
    descents,
    slope,
)
from ntkscale.experiments.local_analysis.settings import (
    LocalAnalysisSettings,
    assumptions,
    is_preset,
    settings_of,
)
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run

JUDGED = ("d10", "d20", "d100")
"""Presets whose claims on descent have a mark; those on the bridge have one in `bridge`."""


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = settings_of(run)
    own = descents(run)
    dead = [cell for cell, record in run.results.items() if record["status"] != "finished"]
    whole = run.finished and is_preset(settings)
    tables: list[Table] = []
    sections: list[Section] = []
    claims: list[Claim] = []
    said: list[str] = []
    groups = [
        [one for one in own if (one.activation, one.samples) == key]
        for key in dict.fromkeys((one.activation, one.samples) for one in own)
    ]
    for group in groups:
        name = _name(group[0], len(groups))
        found = of_descents(group, whole and settings.preset in JUDGED)
        claims += found
        tables += [claim_table(found, group, name), phase_table(group, name)]
        said.append(_words(group, name))
        sections.append(_section(run, group, settings, name))
    if len(groups) > 1:
        tables.insert(0, side_by_side_table(groups))
    if students := bridges(run):
        found = of_bridge(students, SHARE, whole and settings.preset == "bridge")
        claims += found
        tables += [claim_table(found, students, ", bridge"), bridge_table(students)]
        figures = [draw_bridge(students, run.path / "figures")]
        sections.append(Section("Early, along the way, late", figures=figures))
        said.append(_bridge_words(students))
    if timed := costs(run):
        tables.append(cost_table(run))
        sections.append(Section("Cost", figures=[draw_cost(run)]))
        said.append(_cost_words(timed))
    marks = [claim.found.mark for claim in claims if claim.found.mark]
    if marks:
        said.insert(0, f"{marks.count('pass')} of {len(marks)} claims hold on every seed.")
    elif claims:
        said.insert(
            0, "Not judged: bounds are for d10, d20, d100 and bridge as they are, finished."
        )
    missing = assumptions(settings)
    said.append(
        f"Not as the theorem asks: {' '.join(missing)}" if missing
        else "No assumption that can be checked is violated."
    )  # fmt: skip
    if dead:
        said.append(f"Diverged, and left out: {', '.join(dead)}.")
    if not run.finished:
        said.append("The run is not finished: this is what is done.")
    title = f"Local analysis, {settings.preset}: {run.path.name}"
    return Verdict(title, " ".join(said), tables, sections)


def _name(one: Descent, groups: int) -> str:
    if groups == 1 and not one.samples:
        return ""
    return f", {one.activation}" + (f", {one.samples} samples" if one.samples else "")


def _section(
    run: Run, group: Sequence[Descent], settings: LocalAnalysisSettings, name: str
) -> Section:
    tag = f"_{group[0].activation}" + (f"_n={group[0].samples}" if group[0].samples else "")
    tag = tag if name else ""
    folder = run.path / "figures"
    figures = [
        draw_laws(group, folder, f"laws{tag}", name),
        draw_stages(group, settings, folder, f"stages{tag}", name),
        draw_neurons(run, group[0], settings, f"neurons{tag}"),
        *draw_certificate(run, group[0], settings, f"certificate{tag}"),
    ]
    return Section(f"Features at the end of training{name}", figures=figures)


def claim_table(
    found: Sequence[Claim], own: Sequence[Descent] | Sequence[Bridge], name: str
) -> Table:
    """Claim, condition, bound, what was measured, every seed."""
    seeds = ", ".join(str(one.seed) for one in own)
    column = f"seeds {seeds}"
    rows = [
        {
            "claim": claim.what,
            "condition": claim.condition,
            "bound": claim.bound,
            "measured": claim.found,
            "holds": claim.holds,
            column: claim.each,
            "figure": claim.figure,
        }
        for claim in found
    ]
    note = "Mean over seeds with 95 % interval by Student's t, or range; a bound is on every seed."
    return Table(f"Claims{name}", list(rows[0]), rows, note)


def phase_table(own: Sequence[Descent], name: str) -> Table:
    """All arms at the end of every phase."""
    rows: list[dict[str, Entry | str]] = []
    for arm in own[0].arms:
        stages = [("start", "start"), ("stage 1", "stage=1"), ("stage 2", "stage=2")]
        if arm == "schedule":
            for title, stage in stages:
                rows.append(
                    {"arm": arm, "lambda": title}
                    | _columns(lambda m, s=stage: [one.at("schedule", s, m) for one in own])
                )
        for place, lam in enumerate(own[0].lam):
            regularised = arm in ("schedule", "no-stage-1")
            title = f"{lam:.3g}" if regularised else f"0 (as long as {lam:.3g})"
            row = {"arm": arm, "lambda": title}
            row |= _columns(lambda m, a=arm, p=place: [one.ends(a, m)[p] for one in own])
            if regularised:
                law = [one.certificates(arm, "formula_mse")[place] for one in own]
                row["formula"] = Entry(f"{np.mean(law):.3g}")
                eta = [one.certificates(arm, "largest")[place] for one in own]
                row["max eta"] = Entry(max(eta), digits=5)
            rows.append(row)
        if np.isfinite(own[0].final(arm, "mse")):
            rows.append(
                {"arm": arm, "lambda": "then 0"}
                | _columns(lambda m, a=arm: [one.final(a, m) for one in own])
            )
    columns = ["arm", "lambda", "MSE", "formula", "far (10)", "angle [degrees]",
               "largest [degrees]", "mass", "group error", "capture", "max eta"]  # fmt: skip
    note = (
        f"Means over {_seeds(own)} (far: range of seeds; max eta: largest). Far: share of mass "
        "beyond 10 degrees; angle: weighted by mass; capture: |P w|^2 weighted by mass; formula: "
        "MSE with the support at the teacher's directions."
    )
    return Table(f"Arms by phase{name}", columns, rows, note)


def _columns(values) -> dict[str, Entry]:
    far = values("far_10")
    return {
        "MSE": Entry(f"{np.mean(values('mse')):.3g}"),
        "far (10)": Entry(f"{_brief(min(far))} to {_brief(max(far))}"),
        "angle [degrees]": mean_over_seeds(values("weighted_angle"), digits=2),
        "largest [degrees]": Entry(float(np.mean(values("largest_angle"))), digits=2),
        "mass": Entry(float(np.mean(values("mass"))), digits=2),
        "group error": Entry(float(np.mean(values("group_error"))), digits=3),
        "capture": Entry(float(np.mean(values("capture"))), digits=3),
    }


def _seeds(own: Sequence[Descent]) -> str:
    return "one seed" if len(own) == 1 else f"{len(own)} seeds"


def _brief(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}"


def side_by_side_table(groups: Sequence[Sequence[Descent]]) -> Table:
    """One row for each nonlinearity or number of samples, at the last lambda."""
    rows: list[dict[str, Entry | str | int]] = []
    for own in groups:
        row: dict[str, Entry | str | int] = {
            "activation": own[0].activation,
            "samples": own[0].samples or "exact",
        }
        for arm in own[0].arms:
            far = [one.ends(arm, "far_10")[-1] for one in own]
            row[f"far (10), {arm}"] = f"{_brief(min(far))} to {_brief(max(far))}"
        angle = [one.ends("schedule", "weighted_angle") for one in own]
        row["angle [degrees]"] = mean_over_seeds([each[-1] for each in angle], digits=2)
        row["slope of the angle"] = mean_over_seeds(
            [slope(one.lam[-2:], each[-2:]) for one, each in zip(own, angle, strict=True)], digits=2
        )
        row["slope of MSE"] = mean_over_seeds(
            [slope(one.lam, one.ends("schedule", "mse")) for one in own], digits=2
        )
        row["MSE / formula"] = mean_over_seeds(
            [
                one.ends("schedule", "mse")[-1] / one.certificates("schedule", "formula_mse")[-1]
                for one in own
            ],
            digits=2,
        )
        row["max eta"] = Entry(
            max(one.certificates("schedule", "largest")[-1] for one in own), digits=4
        )
        row["capture, stage 1"] = mean_over_seeds(
            [one.at("schedule", "stage=1", "rows_capture") for one in own], digits=2
        )
        rows.append(row)
    note = (
        "At the end of the last lambda, over seeds; slope of the angle between the last two. "
        "With samples, MSE is that of the samples, eta that of the exact loss."
    )
    return Table("Side by side", list(rows[0]), rows, note)


def cost_table(run: Run) -> Table:
    """Seconds of a step."""
    rows = [
        {
            "d": one["dimension"],
            "m": one["width"],
            "multiply-adds a step": f"{one['multiply_adds']:.2g}",
            "time of a step [ms]": Entry(1e3 * one["seconds"], digits=2),
            "8,000 steps [minutes]": Entry(8000 * one["seconds"] / 60, digits=1),
        }
        for one in costs(run)
    ]
    note = "The shortest of several, one student, exact loss; on this machine as busy as it was."
    return Table("Cost", list(rows[0]), rows, note)


def _words(own: Sequence[Descent], name: str) -> str:
    far = [one.ends("schedule", "far_10")[-1] for one in own]
    angle = mean_over_seeds(
        [one.ends("schedule", "weighted_angle")[-1] for one in own], digits=2
    ).text
    said = (
        f"With the schedule{name} {_brief(max(far))} of the mass at most ends farther than 10 "
        f"degrees from the teacher (weighted angle {angle})"
    )
    if "no-regularisation" in own[0].arms:
        other = [one.ends("no-regularisation", "far_10")[-1] for one in own]
        ratio = max(
            one.ends("no-regularisation", "mse")[-1] / one.ends("schedule", "mse")[-1]
            for one in own
        )
        words = "lower" if ratio < 1 else "not lower on every seed"
        said += (
            f"; without regularisation {_brief(min(other))} to {_brief(max(other))} is that far, "
            f"though the loss is {words} (at most {ratio:.2g} of the schedule's)"
        )
    return said + "."


def _bridge_words(own: Sequence[Bridge]) -> str:
    parts = []
    for way in own[0].ways:
        end = mean_over_seeds(
            [one.last(way, "along", "weighted_angle") for one in own], digits=1
        ).text
        late = mean_over_seeds(
            [one.last(way, "late", "weighted_angle") for one in own], digits=2
        ).text
        parts.append(f"{way}: {end}, then {late}")
    return (
        "Weighted angle at the end of training without regularisation, and after the regularised "
        f"end phase, in degrees: {'; '.join(parts)}."
    )


def _cost_words(timed: Sequence[dict]) -> str:
    work, seconds = [one["multiply_adds"] for one in timed], [one["seconds"] for one in timed]
    last = timed[-1]
    power = f"{slope(work[-2:], seconds[-2:]):.2f}" if len(timed) > 1 else "-"
    return (
        f"A step takes {1e3 * last['seconds']:.3g} ms at d = {last['dimension']}, m = "
        f"{last['width']}; time grows as (m^2 d)^{power} between the last two sizes."
    )
