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
    "which regime?",
    "does feature learning help?",
    "how far does the curve hold?",
    "where to put 10 times the compute?",
)


@dataclass(frozen=True)
class Answer:
    """What one task of a run says.

    Attributes:
        task: what was learned and by what.
        starts: alpha and beta read off the initial kernels, one a seed; empty: not measured.
        given: alpha and beta where the task is defined by them; a solved curve has no seeds then.
        gains: exponent in time of the rich network minus that of the lazy one, one a seed.
        ratios: mse of the rich network over that of the lazy one at `equal_time`, one a seed.
        equal_time: flow time at which both are read.
        unknown: why gains and ratios cannot be told; empty where they can.
        window: flow times between which the rich network's power law was read.
        holds: whether it is one there.
        resolved: flow time beyond which a lazy network learns modes that the kernel's samples do
            not resolve, k(t) > M / 3; nan: not known.
        plateau: flow time at which a curve was seen to level off; nan: none was seen.
        one_pass: learned by batches that are seen once, whose noise sets how the loss of a
            super-easy task falls with compute; else by full batches or gradient flow.
    """

    task: str
    starts: Sequence[SourceCapacity] = ()
    given: tuple[float, float] | None = None
    gains: Sequence[float] = ()
    ratios: Sequence[float] = ()
    equal_time: float = float("nan")
    unknown: str = ""
    window: tuple[float, float] | None = None
    holds: bool = False
    resolved: float = float("nan")
    plateau: float = float("nan")
    one_pass: bool = False

    @property
    def helps(self) -> str:
        """Whether feature learning helps: yes, no, or why that cannot be told."""
        ratios = _sound(self.ratios)
        if self.unknown or not ratios:
            return f"cannot be told: {self.unknown or 'not measured'}"
        if len(ratios) == 1:
            seed = ", by one seed" if self.given is None else ""
            return f"{'yes' if ratios[0] < 1 else 'no'}{seed}"
        low, high = _ratio(ratios).interval or (0.0, np.inf)
        if low < 1 < high:
            return f"cannot be told: {len(ratios)} seeds do not agree well enough"
        return f"{'yes' if high <= 1 else 'no'}, by {len(ratios)} seeds"

    @property
    def alpha(self) -> Entry:
        """Of the initial kernels, with the hull of their intervals; as given, without one."""
        if self.given is not None:
            return Entry(self.given[0], digits=2)
        return _hull([(start.alpha, start.alpha_interval) for start in self.starts])

    @property
    def beta(self) -> Entry:
        """The same of beta."""
        if self.given is not None:
            return Entry(self.given[1], digits=2)
        return _hull([(start.beta, start.beta_interval) for start in self.starts])

    @property
    def regimes(self) -> tuple[str, ...]:
        """Regimes that the interval of beta leaves open; none where nothing was measured."""
        if self.given is not None:
            return (regime(*self.given),)
        if not self.starts:
            return ()
        middle, found = self._middle()
        low, high = self.beta.interval or (found, found)
        return tuple(dict.fromkeys(regime(middle, max(b, 1e-9)) for b in (low, found, high)))

    @property
    def gain(self) -> Entry:
        """Exponent in time of the rich network minus the lazy one's, with its interval."""
        return mean_over_seeds(self.gains, digits=2)

    @property
    def ratio(self) -> Entry:
        """Its mse over the lazy one's at equal time; empty where that cannot be told."""
        return Entry(None) if self.unknown or not _sound(self.ratios) else _ratio(self.ratios)

    def row(self, run: str) -> dict[str, str]:
        """The answers as entries of the verdict's table; `run` is where they come from."""
        said = (run, self.task, self._regime(), self._gain(), self._reach(), self._next())
        return dict(zip(COLUMNS, said, strict=True))

    def _middle(self) -> tuple[float, float]:
        if self.given is not None:
            return self.given
        return (
            float(np.mean([start.alpha for start in self.starts])),
            float(np.mean([start.beta for start in self.starts])),
        )

    def _regime(self) -> str:
        if self.given is not None:
            alpha, beta = self.given
            return f"{regime(alpha, beta)}: alpha {alpha:g}, beta {beta:g}"
        if not self.starts:
            return "-"
        return f"{' or '.join(self.regimes)}: alpha {self.alpha.text}, beta {self.beta.text}"

    def _gain(self) -> str:
        parts = [self.helps]
        if _sound(self.ratios) and not self.unknown:
            parts.append(f"mse x {self.ratio.text} at t = {_plain(self.equal_time)}")
            gain = self.gain.text
            parts.append(f"exponent {'' if gain.startswith('-') else '+'}{gain}")
        # A gain that no window gave shows as a dash.
        return "; ".join(part for part in parts if part != "exponent -")

    def _reach(self) -> str:
        parts = ["no power law: no window reached"]
        if self.window is not None:
            span = f"t = {_plain(self.window[0])} .. {_plain(self.window[1])}"
            parts = [f"power law in {span}" if self.holds else f"no power law in {span}"]
        elif self.unknown or self.given is not None:
            parts = []
        if np.isfinite(self.plateau):
            parts.append(f"levels off at t = {_plain(self.plateau)}")
        if np.isfinite(self.resolved):
            parts.append(f"K_0 resolves lazy learning to t = {_plain(self.resolved)}")
        return "; ".join(parts) or "-"

    def _next(self) -> str:
        if not self.starts and self.given is None:
            return "-"
        said = predict(*self._middle(), batches=self.one_pass)
        rich = self.helps.startswith("yes")
        time = said.best_time_rich if rich else said.best_time_lazy
        width = said.best_width_rich if rich else said.best_width_lazy
        loss = said.compute_rich if rich else said.compute_lazy
        return (
            f"{'time' if time > width else 'width'}: N x {10**width:.1f}, t x {10**time:.1f}, "
            f"mse x {10**-loss:.2f} ({'rich' if rich else 'lazy'} law)"
        )


def answer_table(answers: Sequence[tuple[str, Answer]]) -> Table:
    """One row an answer, beside the name of the run that it comes from."""
    return Table(
        "Four questions",
        list(COLUMNS),
        [answer.row(run) for run, answer in answers],
        "Regime: alpha and beta of the initial kernel, intervals over seeds and windows, or as "
        "given to the solvable model. Help: mse "
        f"of the rich network (gamma0 >= {RICH:g}) over that of the lazy one (gamma0 <= {LAZY:g}, "
        "or the exact flow of K_0) at equal flow time, and difference of their exponents; mean and "
        "95 % interval over seeds. How far: where the rich network's exponent was read, and what "
        "ends it: extrapolate no further. Compute: C = N t; best N and t of theory from alpha and "
        "beta, far from all plateaus.",
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


def _half_width(values: Float[ndarray, "n"]) -> float:
    quantile = t_distribution.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def _plain(number: float) -> str:
    """Three digits, without an exponent up to a million."""
    return f"{float(f'{number:.3g}'):,g}"


def _sound(ratios: Sequence[float]) -> list[float]:
    return [value for value in ratios if np.isfinite(value) and value > 0]


def _ratio(ratios: Sequence[float]) -> Entry:
    """Geometric mean and its interval, which is never negative; one seed has none."""
    logs = np.log(_sound(ratios))
    mean = float(logs.mean())
    if len(logs) == 1:
        return Entry(float(np.exp(mean)), digits=2)
    half = _half_width(logs)
    return Entry(
        float(np.exp(mean)), (float(np.exp(mean - half)), float(np.exp(mean + half))), digits=2
    )


def _hull(found: Sequence[tuple[float, tuple[float, float]]]) -> Entry:
    """Mean of the values, and the smallest interval that holds all of theirs."""
    if not found:
        return Entry(None)
    value = float(np.mean([value for value, _ in found]))
    low = min(interval[0] for _, interval in found)
    high = max(interval[1] for _, interval in found)
    return Entry(value, (low, high), digits=2)
