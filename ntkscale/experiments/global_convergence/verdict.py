"""The verdict on `train.py global-convergence`: claims, tables of rates and of features, words."""

from collections.abc import Sequence

import numpy as np

from ntkscale.experiments.global_convergence.claims import claims
from ntkscale.experiments.global_convergence.figures import (
    draw_kernels,
    draw_losses,
    draw_neurons,
    draw_rates,
    draw_tests,
    draw_widths,
)
from ntkscale.experiments.global_convergence.measures import (
    CURVE,
    KEYS,
    PANEL,
    Record,
    caption,
    grouped,
    mean,
    records_of,
    varied,
)
from ntkscale.experiments.global_convergence.settings import (
    GlobalConvergenceSettings,
    settings_of,
)
from ntkscale.experiments.global_convergence.told import told_table
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import Entry, Section, Table
from ntkscale.runs import Run


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = settings_of(run)
    title = f"Global convergence, {settings.preset}: {run.path.name}"
    records = records_of(run)
    if not records:
        return Verdict(title, "No network is trained to its end.", [], [])
    listed = claims(records, settings, run.finished)
    tables = [_claims(listed), told_table(records), _rates(records, settings)]
    tested = any("test_error" in record for record in records)
    if tested or len(settings.scaling) > 1:
        tables.append(_features(records))
    folder = run.path / "figures"
    sections = [
        Section(
            "Losses and rates",
            figures=[
                draw_losses(run.metrics, records, folder),
                draw_rates(run.metrics, records, folder),
            ],
        )
    ]
    moved = [
        draw_kernels(run.metrics, records, folder),
        draw_neurons(run, records, folder),
    ]
    if len(settings.width) > 1:
        moved.insert(0, draw_widths(records, folder))
    if tested:
        sections.append(Section("Test errors", figures=[draw_tests(run.metrics, records, folder)]))
    sections.append(Section("Features", figures=moved))
    marks = [one.found.mark for one in listed if one.found.mark]
    said = [f"{marks.count('pass')} of {len(marks)} claims hold."]
    missed = [one for one in listed if one.found.mark == "fail"]
    if missed:
        parts = [f"{one.what} ({one.condition}): {one.found.text}" for one in missed]
        said.append(f"Not held: {'; '.join(parts)}.")
    said += _words(records)
    if not run.finished:
        said.append("The run is not finished: this is what is done.")
    return Verdict(title, " ".join(said), tables, sections)


def _claims(listed: Sequence) -> Table:
    rows = [
        {"claim": one.what, "condition": one.condition, "bound": one.bound, "measured": one.found}
        for one in listed
    ]
    note = (
        "Inequalities are theorems and judged in every run (that on the loss is one of the flow, "
        "which small steps follow); other bounds belong to the presets shallow, xor and widths as "
        "they are."
    )
    return Table("Claims", ["claim", "condition", "bound", "measured"], rows, note)


def _rates(records: Sequence[Record], settings: GlobalConvergenceSettings) -> Table:
    keys = varied(records, KEYS)
    rows = []
    for named, own in grouped(records, keys):
        promised = [record["promised"] for record in own if record["promised"] is not None]
        rows.append(
            {
                "runs": caption(named, keys) or "all",
                "lambda_min(G)": _plain(mean(own, "lowest")),
                "least r_inst": _plain(mean(own, "least_rate", 4)),
                "least r(t)": _plain(mean(own, "least_proven", 5)),
                "promised rate": f"{np.mean(promised):.2g} in {len(promised)}" if promised else "-",
                "slope of log L": mean(own, "slope", 4),
                "R^2": Entry(min(record["r_squared"] for record in own), digits=4),
                "L at the end": Entry(max(record["loss"] for record in own)),
                "t": Entry(max(record["time"] for record in own), digits=0),
                "rms movement": _plain(mean(own, "rms_movement", 2)),
                "active": Entry(min(record["active"] for record in own), digits=2),
            }
        )
    note = (
        f"{len(settings.seed)} seeds: means, of R^2 and the active share the least and of the loss "
        "the largest. Rates in 1 / flow time; L = 1/(2n) sum |f - y|^2, followed down to "
        f"{settings.floor:g} mean y^2. Promised: from the start alone, in how many runs. Active: "
        "least share of neurons with half the steepest slope or more, over points and steps."
    )
    return Table("Rates", list(rows[0]), rows, note)


def _features(records: Sequence[Record]) -> Table:
    keys = varied(records, (*PANEL, *CURVE))
    rows = []
    for named, own in grouped(records, keys):
        rows.append(
            {
                "runs": caption(named, keys) or "all",
                "test error": mean(own, "test_error"),
                "its limit's": _plain(mean(own, "limit_error")),
                "at infinite width": _plain(mean(own, "infinite_error")),
                "test mse": _plain(mean(own, "test_mse", 2)),
                "limit's": _plain(mean(own, "limit_mse", 2)),
                "distance to limit": _plain(mean(own, "limit_gap")),
                "relative movement": mean(own, "movement"),
                "limit's movement": _plain(mean(own, "limit_movement")),
                "rms movement": _plain(mean(own, "rms_movement", 2)),
                "alike": _plain(mean(own, "alike", 2)),
                "S of features": _plain(mean(own, "feature_distance", 4)),
                "S of tangent kernel": _plain(mean(own, "tangent_distance", 4)),
            }
        )
    note = (
        "Limit: kernel regression with A(0) o G, stopped at the same time; at infinite width: with "
        "the kernels of infinitely many frozen features and neurons. Distance to limit: root mean "
        "square of the difference on test points over that of the limit. Relative movement: "
        "|h(T) - h(0)| / |h(0)| on training points. Alike: share of the squared movement that all "
        "neurons of one sign of c have in common. S: kernel distance from the start. Means over "
        "seeds, 95 % intervals."
    )
    return Table("Features and tests", list(rows[0]), rows, note)


def _words(records: Sequence[Record]) -> list[str]:
    """Who generalises better, mean-field or its twin, case by case."""
    said = []
    tested = [record for record in records if "test_error" in record]
    cases = [key for key in KEYS if key != "scaling"]
    for named, own in grouped(tested, varied(tested, cases)):
        errors = {
            scaling["scaling"]: mean(some, "test_error", 3)
            for scaling, some in grouped(own, ("scaling",))
        }
        if {"mean-field", "ntk"} <= set(errors):
            case = caption(named, tuple(named))
            said.append(
                f"{case + ': ' if case else ''}test error {errors['mean-field'].text} in "
                f"mean-field, {errors['ntk'].text} of the twin."
            )
    return said


def _plain(entry: Entry) -> Entry:
    return Entry(entry.value, digits=entry.digits)
