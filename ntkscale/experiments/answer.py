"""What a run says to someone who wants to decide: four questions, one row a task.

Which regime is the task in? Does feature learning help, and by how much? How far may the curves be
extrapolated? Where should the next unit of compute go? Every experiment fills in what it knows;
what it does not know stays open.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t as t_distribution

from ntkscale.reporting import Entry, Table
from ntkscale.scaling import SourceCapacity, predict, regime

LAZY, RICH = 0.1, 0.5
"""Up to the one gamma0 a network counts as lazy, from the other on as rich."""

CONFIDENCE = 0.95

COLUMNS = (
    "run",
    "task",
    "regime",
    "alpha",
    "beta",
    "does feature learning help?",
    "gain of exponent",
    "loss, rich / lazy",
    "at t",
    "seeds",
    "power law within t",
    "ends",
    "next unit of compute",
)


@dataclass(frozen=True)
class Answer:
    """What one task of a run says.

    Attributes:
        task: what was learned and by what.
        starts: alpha and beta read off the initial kernels, one a seed; empty: not measured.
        gains: exponent in time of the rich network minus that of the lazy one, one a seed.
        ratios: mse of the rich network over that of the lazy one at `equal_time`, one a seed.
        equal_time: flow time at which both are read.
        unknown: why gains and ratios cannot be told; empty where they can.
        window: flow times between which the rich network's power law was read.
        holds: whether it is one there.
        resolved: flow time beyond which a lazy network learns modes that the kernel's samples do
            not resolve, k(t) > M / 3; nan: not known.
        plateau: flow time at which a curve was seen to level off; nan: none was seen.
    """

    task: str
    starts: Sequence[SourceCapacity] = ()
    gains: Sequence[float] = ()
    ratios: Sequence[float] = ()
    equal_time: float = float("nan")
    unknown: str = ""
    window: tuple[float, float] | None = None
    holds: bool = False
    resolved: float = float("nan")
    plateau: float = float("nan")

    @property
    def helps(self) -> str:
        """Whether feature learning helps: yes, no, or why that cannot be told."""
        ratios = [value for value in self.ratios if np.isfinite(value) and value > 0]
        if self.unknown or not ratios:
            return f"cannot be told: {self.unknown or 'not measured'}"
        if len(ratios) == 1:
            return "yes, by one seed" if ratios[0] < 1 else "no, by one seed"
        low, high = _ratio(ratios)[1]
        if low < 1 < high:
            return f"cannot be told: {len(ratios)} seeds do not agree well enough"
        return "yes" if high <= 1 else "no"

    def row(self, run: str) -> dict[str, Entry | str | float | int | None]:
        """The answers as entries of the verdict's table; `run` is where they come from."""
        known = not self.unknown
        ratios = [value for value in self.ratios if np.isfinite(value) and value > 0]
        ratio, interval = _ratio(ratios) if ratios and known else (None, None)
        return {
            "run": run,
            "task": self.task,
            "regime": self._regime(),
            "alpha": _hull([(s.alpha, s.alpha_interval) for s in self.starts]),
            "beta": _hull([(s.beta, s.beta_interval) for s in self.starts]),
            "does feature learning help?": self.helps,
            "gain of exponent": mean_over_seeds(self.gains) if known else None,
            "loss, rich / lazy": Entry(ratio, interval, digits=2),
            "at t": f"{self.equal_time:.3g}" if ratios and known else "-",
            "seeds": max(len(self.starts), len(self.ratios)) or None,
            "power law within t": self._window(),
            "ends": self._ends(),
            "next unit of compute": self._next(),
        }

    def _middle(self) -> tuple[float, float]:
        return (
            float(np.mean([start.alpha for start in self.starts])),
            float(np.mean([start.beta for start in self.starts])),
        )

    def _regime(self) -> str:
        if not self.starts:
            return "-"
        alpha, beta = self._middle()
        low = min(start.beta_interval[0] for start in self.starts)
        high = max(start.beta_interval[1] for start in self.starts)
        names = dict.fromkeys(regime(alpha, max(b, 1e-9)) for b in (low, beta, high))
        return " or ".join(names)

    def _window(self) -> str:
        if self.window is None:
            return "no window reached"
        span = f"{self.window[0]:.3g} .. {self.window[1]:.3g}"
        return span if self.holds else f"none in {span}"

    def _ends(self) -> str:
        parts = []
        if np.isfinite(self.plateau):
            parts.append(f"levels off at t = {self.plateau:.3g}")
        if np.isfinite(self.resolved):
            parts.append(f"K_0 resolves lazy learning to t = {self.resolved:.2g}")
        return "; ".join(parts) or "-"

    def _next(self) -> str:
        if not self.starts:
            return "-"
        said = predict(*self._middle())
        rich = self.helps.startswith("yes")
        time = said.best_time_rich if rich else said.best_time_lazy
        width = said.best_width_rich if rich else said.best_width_lazy
        loss = said.compute_rich if rich else said.compute_lazy
        first = "time" if time > width else "width"
        return (
            f"{first}: 10 C is {10**time:.1f} t, {10**width:.1f} N, loss x {10**-loss:.2f} "
            f"({'rich' if rich else 'lazy'})"
        )


def answer_table(answers: Sequence[tuple[str, Answer]]) -> Table:
    """One row an answer, beside the name of the run that it comes from."""
    return Table(
        "Verdict",
        list(COLUMNS),
        [answer.row(run) for run, answer in answers],
        "alpha, beta: off the initial kernel; intervals span seeds and windows. Gain and ratio: "
        "mean and 95 % interval over seeds (Student's t; two seeds say little). Lazy: gamma0 <= "
        f"{LAZY:g}, or the exact flow of K_0; rich: gamma0 >= {RICH:g}. Power law: where the rich "
        "network's exponent was read; extrapolate no further than what ends it. Next unit: best "
        "N ~ C^n and t ~ C^s at C = N t from alpha and beta.",
    )


def mean_over_seeds(
    values: Sequence[float], intervals: Sequence[tuple[float, float]] = (), digits: int = 3
) -> Entry:
    """Mean with the 95 % interval of Student's t over seeds; of one seed its own interval, if any.

    Two seeds give an interval of 13 standard errors: that is how little two seeds say.
    """
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return Entry(None)
    if len(kept) == 1:
        return Entry(float(kept[0]), intervals[0] if intervals else None, digits=digits)
    mean, half = float(kept.mean()), _half_width(kept)
    return Entry(mean, (mean - half, mean + half), digits=digits)


def at_time(time: float, times: Float[ndarray, "T"], values: Float[ndarray, "T"]) -> float:
    """A positive curve at one time, by log-log interpolation; nan outside its record."""
    if not times[0] <= time * (1 + 1e-9) or not time <= times[-1] * (1 + 1e-9):
        return float("nan")
    return float(np.exp(np.interp(np.log(time), np.log(times), np.log(values))))


def _half_width(values: Float[ndarray, "n"]) -> float:
    quantile = t_distribution.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def _ratio(ratios: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Geometric mean and its interval, which is never negative; of one seed no width."""
    logs = np.log(np.asarray(ratios))
    mean = float(logs.mean())
    half = _half_width(logs) if len(logs) > 1 else 0.0
    return float(np.exp(mean)), (float(np.exp(mean - half)), float(np.exp(mean + half)))


def _hull(found: Sequence[tuple[float, tuple[float, float]]]) -> Entry:
    """Mean of the values, and the smallest interval that holds all of theirs."""
    if not found:
        return Entry(None)
    value = float(np.mean([value for value, _ in found]))
    low = min(interval[0] for _, interval in found)
    high = max(interval[1] for _, interval in found)
    return Entry(value, (low, high), digits=2)
