"""What a circle run says, in numbers: task exponents, lazy baseline, slopes, kernel growth.

Slopes of different networks are compared over the same piece of the target. The window is a range
of *lazy* times; a trained network is read at the times when its loss equals the losses that the
exact lazy flow of its own initial kernel has in that window. A lazy network (gamma0 < 0.01) is read
at the lazy times themselves. All losses carry the target's analytic
tail: without it a finite number of modes fakes a faster power law.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ntkscale import ntk
from ntkscale.experiments.cells import cell_name
from ntkscale.experiments.circle.cells import (
    Condition,
    conditions,
    infinite_spectrum,
    modes_read,
    target,
    window,
)
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.experiments.crossings import crossing_times
from ntkscale.runs import Run
from ntkscale.scaling import PowerLawFit, SourceCapacity, fit_power_law, predict, source_capacity
from ntkscale.tracking import log_spaced
from ntkscale.training import lazy_flow

GROWING = 10
"""Eigen-direction of K_0 whose growth is reported, counted from 1."""


@dataclass(frozen=True)
class Baseline:
    """What the initial kernel of one seed says about one target.

    Attributes:
        condition: target and network; the richness is that of one of its cells, and of no matter.
        tail: target power beyond the modes that the points resolve.
        eigenvalues: of K_0 / P, descending.
        coefficients: u_k . y / sqrt(P) on each eigenvector.
        measured: alpha and beta read off them.
        times: lazy times in the window.
        lazy_mse: exact lazy flow of K_0 at these times, with tail.
        infinite_mse: the same for the infinite-width kernel.
        lazy: power law through `lazy_mse`.
        infinite: power law through `infinite_mse`.
    """

    condition: Condition
    tail: float
    eigenvalues: Float[ndarray, "P"]
    coefficients: Float[ndarray, "P"]
    measured: SourceCapacity
    times: Float[ndarray, "T"]
    lazy_mse: Float[ndarray, "T"]
    infinite_mse: Float[ndarray, "T"]
    lazy: PowerLawFit
    infinite: PowerLawFit

    @property
    def beta(self) -> float:
        """Source exponent of the target, were alpha = 2 power."""
        return self.condition.beta

    @property
    def seed(self) -> int:
        """Of the initialisation."""
        return self.condition.seed

    @property
    def power(self) -> Float[ndarray, "P"]:
        """Power of the target on each eigenvector."""
        return np.square(self.coefficients)

    @property
    def source(self) -> float:
        """The beta to predict with: the nominal one where the kernel's exponent is known.

        For ReLU^q with q > 1 and for deep networks the eigenvalues that a training reaches are far
        from their law, and only the measured beta counts.
        """
        known = self.condition.power == 1 and self.condition.depth == 1
        return self.beta if known else self.measured.beta

    def lazy_curve(self, times: ArrayLike) -> Float[ndarray, "S"]:
        """Exact lazy flow of K_0 at any times, without tail."""
        decay = np.exp(-2 * np.asarray(times)[:, None] * np.clip(self.eigenvalues, 0, None))
        return decay @ self.power


@dataclass(frozen=True)
class Trained:
    """What one trained network did.

    Attributes:
        name: of its cell.
        condition: what it learned, and at what richness.
        baseline: the lazy flow of its own initial kernel.
        status: how its training ended.
        times: flow times of the record.
        steps: steps taken by then.
        mse: training mse with tail at these times.
        test_mse: mse half-way between the training points, with tail, at these times.
        slope: power law in the window, None where the run did not get through it.
        window: flow times at which it had the losses of the lazy window; None as above.
        gain: its exponent minus that of the lazy flow.
        kernel_times: flow times at which its kernel was measured.
        distance: kernel distance at these times.
        growth: u_10^T K_t u_10 / P at these times, u_10 an eigenvector of K_0.
        growth_law: power law of that growth in the window (exponent of t, above 0 for growth).
    """

    name: str
    condition: Condition
    baseline: Baseline
    status: str
    times: Float[ndarray, "T"]
    steps: Float[ndarray, "T"]
    mse: Float[ndarray, "T"]
    test_mse: Float[ndarray, "T"]
    slope: PowerLawFit | None
    window: tuple[float, float] | None
    gain: float
    kernel_times: Float[ndarray, "S"]
    distance: Float[ndarray, "S"]
    growth: Float[ndarray, "S"]
    growth_law: float

    @property
    def gamma0(self) -> float:
        """Its richness."""
        return self.condition.gamma0

    @property
    def predicted(self) -> float:
        """Exponent in time that theory gives a rich network on this target: chi(beta)."""
        return predict(self.baseline.measured.alpha, self.baseline.source).time_rich


def measure(run: Run, settings: CircleSettings) -> list[Trained]:
    """Everything the run's finished cells say, in the order they were trained."""
    bases: dict[Condition, Baseline] = {}
    found: list[Trained] = []
    for condition in (condition for group in conditions(settings) for condition in group):
        name = cell_name(condition.key(settings))
        if name not in run.results:
            continue
        # The kernel at the start does not depend on the richness.
        start = replace(condition, gamma0=1.0)
        if start not in bases:
            bases[start] = _baseline(run, settings, name, condition)
        found.append(_trained(run, name, condition, bases[start]))
    return found


def lazy_times(settings: CircleSettings, condition: Condition) -> list[float]:
    """Forty log-spaced lazy times in the window, at which curves are compared."""
    low, high = window(settings, condition)
    return log_spaced(low, high, 40)


def _baseline(run: Run, settings: CircleSettings, name: str, condition: Condition) -> Baseline:
    task = target(settings, condition)
    kernel = run.kernels[name, 0]["kernel"].double()
    values, vectors = ntk.eigensystem(kernel / settings.points)
    coefficients = (vectors.T @ task.targets[:, 0]) / settings.points**0.5
    times = lazy_times(settings, condition)
    lazy = lazy_flow(kernel, task.targets, times).mse.numpy() + task.tail
    infinite = _infinite_lazy_flow(settings, condition, task.targets[:, 0], times) + task.tail
    # A mode is a pair of eigenvalues; alpha and beta are read a little beyond both its ends, as far
    # as the kernel of a narrow network has eigenvalues.
    first, last = modes_read(settings, condition)
    rank = int((values > 1e-11 * values[0]).sum())
    indices = (min(round(1.6 * first), max(1, rank - 5)), min(round(2.5 * last), rank))
    return Baseline(
        condition=condition,
        tail=task.tail,
        eigenvalues=values.numpy(),
        coefficients=coefficients.numpy(),
        measured=source_capacity(values, coefficients.square(), tail=task.tail, window=indices),
        times=np.asarray(times),
        lazy_mse=lazy,
        infinite_mse=infinite,
        lazy=fit_power_law(times, lazy, window=(times[0], times[-1])),
        infinite=fit_power_law(times, infinite, window=(times[0], times[-1])),
    )


def _infinite_lazy_flow(
    settings: CircleSettings,
    condition: Condition,
    targets: Float[torch.Tensor, "P"],
    times: list[float],
) -> Float[ndarray, "T"]:
    """Mse of lazy flow under the infinite-width kernel, exact on the grid by Fourier transform."""
    coefficients = torch.fft.rfft(targets).abs().square() / len(targets) ** 2
    coefficients[1 : (len(targets) + 1) // 2] *= 2  # k and P - k
    spectrum = infinite_spectrum(settings, condition)
    decay = torch.exp(-2 * torch.tensor(times)[:, None].double() * spectrum)
    return (decay @ coefficients).numpy()


def _trained(run: Run, name: str, condition: Condition, base: Baseline) -> Trained:
    rows = run.metrics.filter(pl.col("cell") == name)
    times, mse = rows["time"].to_numpy(), rows["mse"].to_numpy() + base.tail
    kernels = rows.filter(pl.col("kernel_distance").is_not_null())
    growth = np.array([entry[GROWING - 1] for entry in kernels["kernel_growth"]])
    kernel_times = kernels["time"].to_numpy()
    slope, span, growth_law = None, None, float("nan")
    curve = _in_window(condition.lazy, times, mse, base)
    if curve is not None:
        span = (float(curve[0][0]), float(curve[0][-1]))
        slope = fit_power_law(*curve, window=span)
        growth_law = _growth_exponent(kernel_times, growth, span)
    return Trained(
        name=name,
        condition=condition,
        baseline=base,
        status=run.results[name]["status"],
        times=times,
        steps=rows["step"].to_numpy(),
        mse=mse,
        test_mse=rows["test_mse"].to_numpy() + base.tail,
        slope=slope,
        window=span,
        gain=slope.exponent - base.lazy.exponent if slope is not None else float("nan"),
        kernel_times=kernel_times,
        distance=kernels["kernel_distance"].to_numpy(),
        growth=growth,
        growth_law=growth_law,
    )


def _in_window(
    lazy: bool, times: Float[ndarray, "T"], mse: Float[ndarray, "T"], base: Baseline
) -> tuple[Float[ndarray, "S"], Float[ndarray, "S"]] | None:
    """The curve where it is compared: at lazy times if lazy, at the lazy losses otherwise."""
    if not lazy:
        crossings = crossing_times(times, mse, base.lazy_mse)
        return None if crossings is None else (crossings, base.lazy_mse)
    low, high = base.times[0], base.times[-1]
    # Times are recorded to the last digit, the end of the window is one of them.
    inside = (times >= low * (1 - 1e-9)) & (times <= high * (1 + 1e-9))
    if times[-1] < high * (1 - 1e-9) or inside.sum() < 5 or not np.isfinite(mse).all():
        return None
    return times[inside], mse[inside]


def _growth_exponent(
    times: Float[ndarray, "S"], growth: Float[ndarray, "S"], span: tuple[float, float]
) -> float:
    """Slope of log growth against log t; nan with fewer than four measurements in the window."""
    # A narrow network's kernel may have fewer directions, and rounding in the others.
    inside = (times >= span[0]) & (times <= span[1]) & (growth > 0)
    if inside.sum() < 4:
        return float("nan")
    return float(np.polyfit(np.log(times[inside]), np.log(growth[inside]), 1)[0])


def alike(cells: Sequence[Trained], *but: str) -> list[list[Trained]]:
    """Cells of equal conditions together, in order, whatever their seeds and the fields `but`."""
    found: dict[Condition, list[Trained]] = {}
    anything: dict[str, Any] = {name: 0 for name in ("seed", *but)}
    for cell in cells:
        found.setdefault(replace(cell.condition, **anything), []).append(cell)
    return list(found.values())


def mean_and_deviation(values: Iterable[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (nan for one value) of what is not nan."""
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return float("nan"), float("nan")
    return float(kept.mean()), float(kept.std(ddof=1)) if len(kept) > 1 else float("nan")
