"""The verdict on `train.py dmft --preset cnn`: do widths matter less than gamma0?"""

import polars as pl

from ntkscale.experiments.dmft.settings import DmftSettings
from ntkscale.reporting import Entry, Table
from ntkscale.runs import Run

_ENDS = ("test_mse", "test_error", "alignment")


def judge_cnn(
    run: Run, settings: DmftSettings, frame: pl.DataFrame
) -> tuple[pl.DataFrame, Table, str]:
    """Rows of the networks that did not diverge, a table of what they end with, and a summary."""
    status = {
        (r["gamma0"], r["width"], seed): ended
        for r in run.results.values()
        for seed, ended in zip(settings.seed, r["status"], strict=True)
    }
    key = ("gamma0", "width", "seed")
    good = pl.DataFrame(
        [k for k, ended in status.items() if ended != "diverged"],
        schema={name: frame.schema[name] for name in key},
        orient="row",
    )
    trained = frame.join(good, on=key, how="semi", maintain_order="left")
    ends = trained.filter(pl.col("time") == pl.col("time").max().over("cell", "seed"))
    mean = {
        (row["gamma0"], row["width"]): row
        for row in ends.group_by("gamma0", "width").agg(pl.col(*_ENDS).mean()).rows(named=True)
    }
    rows = []
    for gamma0, width in dict.fromkeys((gamma0, width) for gamma0, width, _ in status):
        own = [ended for (g, w, _), ended in status.items() if (g, w) == (gamma0, width)]
        lost = own.count("diverged")
        found = mean.get((gamma0, width), dict.fromkeys(_ENDS))
        rows.append(
            {
                "gamma0": Entry(gamma0, digits=2),
                "width": str(width),
                "seeds": Entry(
                    f"{lost} of {len(own)} diverged" if lost else str(len(own)),
                    mark="fail" if lost else None,
                ),
                **{name: Entry(found[name], digits=3) for name in _ENDS},
            }
        )
    table = Table(
        "CNNs at the end, means over seeds that did not diverge",
        list(rows[0]),
        rows,
        "There is no theory to compare with: networks of one gamma0 should end alike at any width.",
    )
    mse = {place: row["test_mse"] for place, row in mean.items()}
    said = [_differences(settings, mse, ends)]
    lost = sum(ended == "diverged" for ended in status.values())
    if lost:
        said.append(f"{lost} of {len(status)} networks diverged; lower --learning-rate.")
    return trained, table, " ".join(filter(None, said)) or "Nothing to compare yet."


def _differences(
    settings: DmftSettings, mse: dict[tuple[float, int], float], ends: pl.DataFrame
) -> str:
    """What the two largest widths, the gamma0 and the seeds change of the test mse."""
    if len(settings.width) < 2:
        return ""
    low, high = settings.width[-2:]
    apart = {
        gamma0: _apart([mse[gamma0, low], mse[gamma0, high]])
        for gamma0 in settings.gamma0
        if (gamma0, low) in mse and (gamma0, high) in mse
    }
    if not apart:
        return ""
    each = ", ".join(f"{one:.1%} at gamma0 = {gamma0:g}" for gamma0, one in apart.items())
    said = f"Test mse of widths {low} and {high} differs by {each}"
    others = [mse[gamma0, high] for gamma0 in apart]
    if len(others) > 1:
        less = "less" if max(apart.values()) < _apart(others) else "not less"
        said += f"; that of gamma0 at width {high} by {_apart(others):.1%}"
        said += f": width matters {less} than gamma0"
    seeds = [
        _apart(own["test_mse"].to_list())
        for _, own in ends.filter(pl.col("width") == high).group_by("gamma0")
        if len(own) > 1
    ]
    return said + (f" (seeds: up to {max(seeds):.1%})." if seeds else ".")


def _apart(values: list[float]) -> float:
    """The largest over the smallest, minus one."""
    return max(values) / min(values) - 1
