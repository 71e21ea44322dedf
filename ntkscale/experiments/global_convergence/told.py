"""What is vacuous, violated or open, told before the run and again in its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ntkscale.experiments.global_convergence.models import models
from ntkscale.experiments.global_convergence.settings import GlobalConvergenceSettings
from ntkscale.reporting import Table
from ntkscale.theory.partially_trained import assumptions

_ORDER = {"violated": 0, "vacuous": 1, "open": 2}
_KEYS = ("scaling", "activation", "depth", "size", "dimension", "label", "width")


def told_before(settings: GlobalConvergenceSettings) -> Table:
    """The assumptions that do not hold, of all models of a run that is still to be done.

    Raises:
        FileNotFoundError: the data are not there.
    """
    records = []
    for model in models(settings):
        problem = model.both()[2]
        told = [asdict(one) for one in assumptions(problem, step=settings.step)]
        named = {"scaling": model.scaling, "activation": model.activation}
        records.append({**model.key, **named, "told": told})
    return told_table(records)


def told_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each assumption that fails somewhere, with the runs in which it does."""
    where: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    words: dict[tuple[str, str], str] = {}
    for record in records:
        for one in record["told"]:
            if one["standing"] != "holds":
                case = one["standing"], one["name"]
                where.setdefault(case, []).append(record)
                words.setdefault(case, one["said"])
    rows = [
        {
            "assumption": name,
            "standing": standing,
            "runs": f"{len(own)} of {len(records)}",
            "where": _where(own, records),
            "for instance": words[standing, name],
        }
        for (standing, name), own in sorted(where.items(), key=lambda item: _ORDER[item[0][0]])
    ]
    note = (
        "Vacuous: the bound is 0 and says nothing, training may succeed. Violated: zero loss is "
        "out of reach, or steps diverge. Open: no rate is promised from the start alone; r(t) "
        "along the run is proven all the same."
    )
    if not rows:
        note = f"All assumptions hold in all {len(records)} runs."
    return Table(
        "Told before the run",
        ["assumption", "standing", "runs", "where", "for instance"],
        rows,
        note,
    )


def _where(own: Sequence[Mapping[str, Any]], everyone: Sequence[Mapping[str, Any]]) -> str:
    """The values of each key that these runs have, where not all runs have them alike."""
    parts = []
    for key in _KEYS:
        mine = {record[key] for record in own if key in record}
        if mine and mine != {record[key] for record in everyone if key in record}:
            values = " ".join(
                f"{value:g}" if isinstance(value, int | float) else value for value in sorted(mine)
            )
            parts.append(f"{key} {values}")
    return ", ".join(parts) or "everywhere"
