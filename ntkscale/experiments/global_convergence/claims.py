"""What is claimed of partially trained networks: claim, condition, bound, and what was measured.

Inequalities are theorems and judged in every run. The other bounds are those of a reproduction's
own design (the paper's numbers are not public) and judged on the presets they belong to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ntkscale.experiments.answer import mean_over_seeds
from ntkscale.experiments.global_convergence.measures import (
    KEYS,
    Record,
    caption,
    grouped,
    varied,
    width_slopes,
    width_spread,
)
from ntkscale.experiments.global_convergence.settings import (
    GlobalConvergenceSettings,
    is_preset,
)
from ntkscale.reporting import Entry, Mark

LINE, SMOOTH_LINE, SMALL = 0.995, 0.98, 1e-9
MEAN_FIELD_ERROR, TWIN_ERROR, XOR_SIZE = 0.02, 0.1, 200
SPREAD, SLOPES = 0.05, (-0.6, -0.35)
AGREEMENT, ZERO, ROUNDING = 1e-6, 1e-12, 1e-9
COMPARED = ("label", "size", "dimension", "first", "second", "depth", "width")
"""What two scalings have in common where they are compared."""


@dataclass(frozen=True)
class Claim:
    """One line of the verdict.

    Attributes:
        what: is claimed.
        condition: on which runs, with their number.
        bound: in words; empty: none.
        found: what was measured, marked where it is judged.
    """

    what: str
    condition: str
    bound: str
    found: Entry


def claims(
    records: Sequence[Record], settings: GlobalConvergenceSettings, finished: bool
) -> list[Claim]:
    """All claims that the run has something to say of."""
    judged = finished and is_preset(settings)
    found = _theorems(records) + _positive(records, settings)
    found += _agreement(records) + _matched(records)
    if settings.data == "sphere" and 1 in settings.depth:
        found += _lines(records, judged and settings.preset == "shallow")
    if settings.data == "xor" and XOR_SIZE in settings.size:
        found += _errors(records, judged and settings.preset == "xor")
    if len(settings.width) > 1:
        found += _widths(records, judged and settings.preset == "widths")
    return found


def _theorems(records: Sequence[Record]) -> list[Claim]:
    everyone = f"all {len(records)} runs ({', '.join(_names(records))})"
    broken = sum(record["violations"] for record in records)
    steps = sum(record["steps"] for record in records)
    closest = min((r["tightest"] for r in records if r["tightest"] is not None), default=np.inf)
    said = f"below it at {broken} of {steps} steps"
    if np.isfinite(closest):
        said += f"; least ratio {closest:.3g}"
    found = [
        Claim(
            "instantaneous rate >= proven rate r(t), at every step", everyone, "never below",
            Entry(said, mark=_mark(broken == 0)),
        ),
        _worst(
            "lambda_min(A o G) >= lambda_min(G) min_a A_aa, at every snapshot", everyone,
            f"difference above -{ZERO:g}", [record["schur_slack"] for record in records],
            least=-ZERO,
        ),
        _worst(
            "loss below L(0) exp(-int r dt), at every step", everyone,
            "log ratio at most 0", [record["above_proven_loss"] for record in records],
            most=ROUNDING,
        ),
    ]  # fmt: skip
    promised = [record for record in records if record["promised"] is not None]
    if promised:
        kept = sum(record["promise_kept"] for record in promised)
        text = f"kept in {kept} of {len(promised)}"
        found.append(
            Claim(
                "rate and movement promised before the run are kept",
                f"runs with a promise ({len(promised)} of {len(records)})",
                "always",
                Entry(text, mark=_mark(kept == len(promised))),
            )
        )
    return found


def _positive(records: Sequence[Record], settings: GlobalConvergenceSettings) -> list[Claim]:
    """Where r(t) is 0, and where it is not; points alike or few features have a singular G."""
    shallow = [record for record in records if record["depth"] == 1 and "dimension" in record]
    few = [record for record in shallow if record["dimension"] < record["size"]]
    enough = [
        record
        for record in shallow
        if record["dimension"] >= record["size"] and settings.data == "sphere"
    ]
    deep = [
        record
        for record in records
        if record["depth"] > 1
        and record.get("distinct", True)
        and record["activation"] != "linear"
        and record["size"] <= settings.frozen
    ]
    rank = "where inputs or frozen features span the data"
    below = f"distinct points, n <= {settings.frozen} frozen neurons, any d"
    found = []
    for what, own, condition, bound, most in (
        ("proven rate is 0, a vacuous bound", few, "one layer, d < n", f"below {ZERO:g}", ZERO),
        (f"proven rate is positive {rank}", enough, "one layer, d >= n", "above 0", None),
        (f"proven rate is positive {rank}", deep, below, "above 0", None),
    ):
        if own and most is not None:
            values = [record["largest_proven"] for record in own]
            found.append(_worst(what, f"{condition} ({len(own)} runs)", bound, values, most=most))
        elif own:
            values = [record["least_proven"] for record in own]
            found.append(_worst(what, f"{condition} ({len(own)} runs)", bound, values, least=0.0))
    return found


def _agreement(records: Sequence[Record]) -> list[Claim]:
    own = [record for record in records if record.get("training_gap") is not None]
    if not own:
        return []
    return [
        _worst(
            "function-space flow is the trained network, largest difference of outputs",
            f"first seed ({len(own)} runs)",
            f"below {AGREEMENT:g}",
            [record["training_gap"] for record in own],
            most=AGREEMENT,
        )
    ]


def _matched(records: Sequence[Record]) -> list[Claim]:
    """Both start from f = 0 on the same data, so y^T K_0 y decides their rates at the start."""
    apart = []
    for _, own in grouped(records, ("activation", "seed", *COMPARED)):
        rates = {record["scaling"]: record["first_rate"] for record in own}
        if {"mean-field", "ntk"} <= rates.keys():
            apart.append(abs(rates["ntk"] / rates["mean-field"] - 1))
    if not apart:
        return []
    return [
        _worst(
            "the twin begins with the mean-field network's kernel, relative difference of rates",
            f"t = 0 ({len(apart)} pairs)",
            f"below {ROUNDING:g}",
            apart,
            most=ROUNDING,
        )
    ]


def _lines(records: Sequence[Record], judged: bool) -> list[Claim]:
    """How straight the logarithm of the loss is, with d well above n."""
    own = [r for r in records if r["depth"] == 1 and r["dimension"] >= 2 * r["size"]]
    found = []
    relu = [record for record in own if record["activation"] == "relu"]
    for named, group in grouped(relu, ("label",)):
        condition = f"relu, {caption(named, ('label',))}, d >= 2n ({len(group)} runs)"
        values = [record["r_squared"] for record in group]
        found += [
            _worst("log loss falls on a line, least R^2", condition, f"above {LINE}", values,
                   least=LINE, judged=judged, digits=4),
            _worst("loss at the end, largest", condition, f"below {SMALL:g}",
                   [record["loss"] for record in group], most=SMALL, judged=judged),
        ]  # fmt: skip
    smooth = [record for record in own if record["activation"] != "relu"]
    for named, group in grouped(smooth, ("activation", "label")):
        within = named["label"] <= 0.5
        bound = f"above {SMOOTH_LINE}" if within else "none: |y| is beyond reach"
        for part, some in (
            ("d >= 5n", [r for r in group if r["dimension"] >= 5 * r["size"]]),
            ("2n <= d < 5n", [r for r in group if r["dimension"] < 5 * r["size"]]),
        ):
            if some:
                condition = f"{caption(named, ('activation', 'label'))}, {part} ({len(some)} runs)"
                values = [record["r_squared"] for record in some]
                found.append(
                    _worst("log loss falls on a line, least R^2", condition, bound, values,
                           least=SMOOTH_LINE, judged=judged and within, digits=4)
                )  # fmt: skip
    return found


def _errors(records: Sequence[Record], judged: bool) -> list[Claim]:
    own = [r for r in records if r["size"] == XOR_SIZE and "test_error" in r]
    found = []
    for scaling, what, bound, least, most in (
        ("mean-field", "largest", f"below {MEAN_FIELD_ERROR}", None, MEAN_FIELD_ERROR),
        ("ntk", "least", f"above {TWIN_ERROR}", TWIN_ERROR, None),
    ):
        group = [record for record in own if record["scaling"] == scaling]
        if group:
            found.append(
                _worst(
                    f"test error, {what}", f"{scaling}, n = {XOR_SIZE} ({len(group)} runs)", bound,
                    [record["test_error"] for record in group], judged=judged, least=least,
                    most=most,
                )
            )  # fmt: skip
    return found


def _widths(records: Sequence[Record], judged: bool) -> list[Claim]:
    found = []
    keys = [key for key in KEYS if key != "width"]
    for named, own in grouped(records, keys):
        if len({record["width"] for record in own}) < 2:
            continue
        case = caption(named, varied(records, [key for key in keys if key != "scaling"]))
        condition = f"{named['scaling']}{', ' + case if case else ''}"
        condition += f", {len({r['width'] for r in own})} widths"
        each = width_slopes(own)
        slopes = mean_over_seeds(each, digits=2)
        if named["scaling"] == "mean-field":
            value = width_spread(own)
            mark = _mark(value <= SPREAD) if judged else None
            found.append(
                Claim("relative movement of h, mean over seeds, does not depend on width, "
                      "largest deviation",
                      condition, f"at most {SPREAD}", Entry(value, mark=mark))
            )  # fmt: skip
        bound, mark = "", None
        if named["scaling"] == "ntk":
            low, high = SLOPES
            bound = f"every seed's in [{low}, {high}]"
            mark = _mark(low <= min(each) and max(each) <= high) if judged and each else None
        what = "slope of movement against width, log-log"
        found.append(Claim(what, condition, bound, Entry(slopes.value, slopes.interval, mark, 2)))
        if named["scaling"] == "ntk":
            widest = sorted({record["width"] for record in own})[-2:]
            last = [record for record in own if record["width"] in widest]
            shown = f"{widest[0]} and {widest[1]}"
            for some, name, where in (
                (last, "movement", f"{condition}, {shown} alone"),
                (own, "limit_movement", f"{condition}, the networks linearised at t = 0"),
            ):
                slopes = mean_over_seeds(width_slopes(some, name), digits=2)
                found.append(Claim(what, where, "", slopes))
    return found


def _worst(
    what: str,
    condition: str,
    bound: str,
    values: Sequence[float],
    *,
    least: float | None = None,
    most: float | None = None,
    judged: bool = True,
    digits: int = 3,
) -> Claim:
    """A claim on the smallest of the values (above `least`) or the largest (at most `most`)."""
    # NumPy's, of which a nan among the values makes a nan, which holds no bound.
    value = float(np.max(values) if most is not None else np.min(values))
    holds = value < most if most is not None else least is not None and value > least
    return Claim(
        what, condition, bound, Entry(value, mark=_mark(holds) if judged else None, digits=digits)
    )


def _names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["activation"] for record in records))


def _mark(holds: bool) -> Mark:
    return "pass" if holds else "fail"
