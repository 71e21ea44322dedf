"""What is measured on a run of `train.py scaling-model`: exponents, shares, ratios to theory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t as student

from ntkscale import runs
from ntkscale.experiments import circle
from ntkscale.experiments.circle.measures import measure as measure_circle
from ntkscale.experiments.scaling_model.cells import LATE
from ntkscale.experiments.scaling_model.settings import ScalingModelSettings
from ntkscale.scaling import PowerLawFit, fit_power_law, predict
from ntkscale.theory import scaling_model

NETWORKS = (
    (0.25, 0.245, 0.332, 0.001),
    (0.5, 0.484, 0.601, 0.002),
    (0.75, 0.718, 0.838, 0.006),
    (1.25, 1.166, 1.339, 0.008),
)
"""beta, exponent of the lazy flow of K_0 and of training at gamma0 = 1 with its standard deviation
over three seeds: `python train.py circle --preset table`, where no run is given."""


@dataclass(frozen=True)
class Curves:
    """Curves of several seeds at equal times, or one of theory.

    Attributes:
        times: (T,).
        mse: (S, T).
    """

    times: Float[ndarray, "T"]
    mse: Float[ndarray, "S T"]

    @property
    def mean(self) -> Float[ndarray, "T"]:
        """Mean over seeds."""
        return self.mse.mean(axis=0)

    @property
    def band(self) -> tuple[Float[ndarray, "T"], Float[ndarray, "T"]]:
        """95 % interval of the mean, kept positive for log axes."""
        count = len(self.mse)
        if count < 2:
            return self.mean, self.mean
        reach = student.ppf(0.975, count - 1) * self.mse.std(axis=0, ddof=1) / np.sqrt(count)
        return np.maximum(self.mean - reach, 0.1 * self.mean), self.mean + reach


@dataclass(frozen=True)
class Exponent:
    """A measured exponent beside that of theory.

    Attributes:
        what: labels of the row.
        measured, interval: its value and 95 %.
        theory: prediction.
        window: first and last of what it was fitted against.
        refused: why it is no power law, or empty.
    """

    what: dict[str, float | str]
    measured: float
    interval: tuple[float, float]
    theory: float
    window: tuple[float, float]
    refused: str = ""


def pick(metrics: pl.DataFrame, **keys: Any) -> Curves | None:
    """The curves with these keys; None if there are none (yet)."""
    own = metrics
    for name, value in keys.items():
        if name not in own.columns:
            return None
        own = own.filter(pl.col(name).is_null() if value is None else pl.col(name) == value)
    if own.is_empty():
        return None
    if "seed" not in own.columns or own["seed"].is_null().all():
        return Curves(own["time"].to_numpy(), own["mse"].to_numpy()[None])
    parts = own.partition_by("seed", maintain_order=True)
    return Curves(parts[0]["time"].to_numpy(), np.array([p["mse"].to_numpy() for p in parts]))


def time_exponents(metrics: pl.DataFrame, settings: ScalingModelSettings) -> list[Exponent]:
    """Late exponents at infinite width and data, of every beta and gamma."""
    found = []
    own = metrics.filter(pl.col("part") == "exponents")
    for beta in sorted(own["beta"].unique().to_list()) if len(own) else ():
        says = predict(settings.alpha, beta)
        for gamma in settings.gamma:
            curves = pick(own, beta=beta, gamma=gamma)
            if curves is None:
                continue
            fit = fit_power_law(curves.times, curves.mean, window=LATE)
            theory = says.time_lazy if gamma == 0 else says.time_rich
            found.append(_exponent({"beta": beta, "gamma": gamma}, fit, theory))
    return found


def sgd_exponents(metrics: pl.DataFrame, settings: ScalingModelSettings) -> list[Exponent]:
    """Late exponents of one-pass SGD: expected lazy ones, simulated rich ones."""
    found = []
    for beta in settings.beta:
        says = predict(settings.alpha, beta)
        for batch in settings.batch_size:
            keys = {"part": "sgd", "beta": beta, "batch_size": batch}
            lazy = pick(metrics, **keys, gamma=0.0, kind="theory")
            if lazy is not None:
                last = lazy.times[-1]
                fit = fit_power_law(lazy.times, lazy.mean, window=(last / 100, last))
                late = min(says.time_lazy, says.batch_transient_lazy)
                found.append(
                    _exponent({"beta": beta, "B": batch, "what": "lazy, expected"}, fit, late)
                )
            for gamma, name in ((0.0, "lazy, simulated"), (settings.rich, "rich, simulated")):
                drawn = pick(metrics, **keys, gamma=gamma, kind="draw")
                if drawn is None:
                    continue
                last = drawn.times[-1]
                window = (last / 20, last)
                fit = fit_power_law(drawn.times, drawn.mean, window=window)
                late = min(says.time_rich, says.batch_transient_rich)
                if gamma == 0 and lazy is not None:
                    late = fit_power_law(lazy.times, lazy.mean, window=window).exponent
                found.append(_exponent({"beta": beta, "B": batch, "what": name}, fit, late))
    return found


def data_exponents(metrics: pl.DataFrame, settings: ScalingModelSettings) -> list[Exponent]:
    """Exponents in P of the best loss on the way, and with noise of the time to stop."""
    found = []
    for beta in settings.beta:
        says = predict(settings.alpha, beta)
        for gamma, name in ((0.0, "lazy"), (settings.rich, "rich")):
            stop = says.stop_time_lazy if gamma == 0 else says.stop_time_rich
            for noise in (0.0, settings.noise):
                best = best_on_the_way(metrics, settings, beta, gamma, noise)
                if best is None:
                    continue
                points, loss, when = best
                what = {"beta": beta, "training": name, "noise": noise}
                of_loss = says.data_noisy if noise else _plateau_slope(settings, beta, points)
                found.append(_ladder({**what, "of": "best mse"}, points, loss, of_loss))
                if noise:
                    found.append(_ladder({**what, "of": "time to stop"}, points, 1 / when, stop))
    return found


def _plateau_slope(
    settings: ScalingModelSettings, beta: float, points: Float[ndarray, "P"]
) -> float:
    """Exponent in P of the deterministic equivalent of clean data's plateau."""
    ends = [
        scaling_model.plateau(
            scaling_model.power_law(
                settings.alpha, beta, num_modes=1000 * round(count), modes_per_decade=30
            ),
            num_data=round(count),
        ).mse
        for count in points
    ]
    return -float(np.polyfit(np.log(points), np.log(ends), 1)[0])


def best_on_the_way(
    metrics: pl.DataFrame,
    settings: ScalingModelSettings,
    beta: float,
    gamma: float,
    noise: float,
) -> tuple[Float[ndarray, "P"], Float[ndarray, "S P"], Float[ndarray, "S P"]] | None:
    """Numbers of points, least mse over time and its time, of every seed."""
    points, loss, when = [], [], []
    for count in settings.num_data:
        keys = {"part": "data", "beta": beta, "num_data": count, "gamma": gamma, "noise": noise}
        curves = pick(metrics, **keys)
        if curves is None:
            continue
        at = curves.mse.argmin(axis=1)
        points.append(count)
        loss.append(curves.mse.min(axis=1))
        when.append(curves.times[at])
    if len(points) < 3:
        return None
    return np.array(points, dtype=float), np.array(loss).T, np.array(when).T


def finite_ratios(
    metrics: pl.DataFrame, settings: ScalingModelSettings
) -> list[dict[str, float | str]]:
    """Mean of draws of A_0 over its average, along whole curves: the farthest from one."""
    found: list[dict[str, float | str]] = []
    for beta in settings.beta:
        for width in settings.width:
            for gamma in (0.0, settings.rich):
                keys = {"part": "curves", "beta": beta, "width": width, "gamma": gamma}
                drawn, theory = (pick(metrics, **keys, kind=k) for k in ("draw", "theory"))
                if drawn is None or theory is None:
                    continue
                ratio = drawn.mean / theory.mean
                at = int(np.argmax(np.abs(np.log(ratio))))
                low, high = drawn.band
                inside = (low <= theory.mean) & (theory.mean <= high)
                found.append(
                    {
                        "beta": beta,
                        "N": width,
                        "gamma": gamma,
                        "farthest ratio": float(ratio[at]),
                        "low": float(low[at] / theory.mean[at]),
                        "high": float(high[at] / theory.mean[at]),
                        "inside": float(inside.mean()),
                    }
                )
    return found


def network_points(
    settings: ScalingModelSettings,
) -> list[tuple[str, float, float, tuple[float, float]]]:
    """("lazy" or "rich", beta, exponent, interval) of trained networks, from runs or the table."""
    if not settings.circle:
        lazy = [("lazy", beta, slow, (slow, slow)) for beta, slow, _, _ in NETWORKS]
        rich = [("rich", b, fast, (fast - 2 * sd, fast + 2 * sd)) for b, _, fast, sd in NETWORKS]
        return [*lazy, *rich]
    found = []
    for path in settings.circle:
        run = runs.load(Path(path))
        for cell in measure_circle(run, circle.settings_of(run)):
            if cell.slope is not None:
                name = "lazy" if cell.condition.lazy else "rich"
                beta = cell.baseline.source
                found.append((name, beta, cell.slope.exponent, cell.slope.interval))
    return found


def _exponent(what: dict[str, float | str], fit: PowerLawFit, theory: float) -> Exponent:
    refused = "" if fit.is_power_law else fit.reason
    return Exponent(what, fit.exponent, fit.interval, theory, fit.window, refused)


def _ladder(
    what: dict[str, float | str],
    points: Float[ndarray, "P"],
    values: Float[ndarray, "S P"],
    theory: float,
) -> Exponent:
    """A straight line through the mean over seeds, with the spread of the seeds' own lines."""
    each = np.array([-np.polyfit(np.log(points), np.log(one), 1)[0] for one in values])
    mean = -float(np.polyfit(np.log(points), np.log(values.mean(axis=0)), 1)[0])
    reach = np.nan
    if len(each) > 1:
        reach = float(student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    window = (float(points[0]), float(points[-1]))
    return Exponent(what, mean, (mean - reach, mean + reach), theory, window)


def measured_phase(result: dict[str, Any], name: str) -> str:
    """The regime whose terms are the largest on the frontier: of time, and of width."""
    width = "model" if result[f"{name}_model"] > result[f"{name}_transient"] else "transient"
    falling = "time" if result[f"{name}_time"] >= result[f"{name}_batch"] else "batch"
    return f"{falling} + {width}"


def near_theory(results: Sequence[dict[str, Any]], name: str, tolerance: float) -> int:
    """How many points of the phase diagram have the compute exponent of theory."""
    return sum(abs(result[name] - expected(result, name)) <= tolerance for result in results)


def expected(result: dict[str, Any], name: str) -> float:
    """Compute exponent of theory for what was solved: rich networks saw no batches."""
    says = predict(result["alpha"], result["beta"], batches=name == "lazy")
    return says.compute_lazy if name == "lazy" else says.compute_rich
