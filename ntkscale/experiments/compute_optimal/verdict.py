"""The verdict on compute-optimal frontiers: is the slope at the largest decade that of theory?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ntkscale.experiments.answer import Answer
from ntkscale.experiments.compute_optimal.experiment import (
    ComputeOptimalSettings,
    best_width,
    with_batches,
)
from ntkscale.experiments.crossings import at_time
from ntkscale.experiments.settings import restore
from ntkscale.experiments.verdict import Verdict
from ntkscale.reporting import (
    COLOURS,
    Entry,
    Picture,
    Section,
    Table,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.runs import Run
from ntkscale.scaling import Frontier, FrontierSlope, Prediction, frontier, predict

TOLERANCE = 0.05
"""How near theory the slope has to come over the largest decade of compute."""
FLAT = 0.03
"""Change of the slope from one decade of compute to the next that counts as none."""


@dataclass(frozen=True)
class Ladder:
    """The curves of one ladder of widths, and their frontier.

    Attributes:
        beta, gamma: of the task and the training.
        kind: "draws", or "mean" over A_0.
        batches: learned by SGD.
        says: prediction.
        curves: for each width times and (S, T) mse.
        found: their frontier; None where the best width never lies inside the ladder.
    """

    beta: float
    gamma: float
    kind: str
    batches: bool
    says: Prediction
    curves: dict[int, tuple[np.ndarray, np.ndarray]]
    found: Frontier | None

    @property
    def predicted(self) -> float:
        """Asymptotic exponent."""
        return self.says.compute_lazy if self.gamma == 0 else self.says.compute_rich

    @property
    def sampled(self) -> bool:
        """Whether chance is in it, of A_0 or of batches: the solved average has none."""
        return any(len(mse) > 1 for _, mse in self.curves.values())

    @property
    def rough(self) -> bool:
        """Whether the last decade is not whole, or its slope too uncertain to be judged."""
        last = self.decade(0)
        short = self.found is None or self.found.decades < 0.9
        return short or last is None or np.ptp(last.interval) > 2 * TOLERANCE

    def decade(self, number: int) -> FrontierSlope | None:
        """Slope of the last decade of compute (0), of the one before (1); None if incomplete."""
        if self.found is None:
            return None
        high = self.found.compute[-1] / 10**number
        # Less than the last decade will do, marked as rough.
        shortest = 2.0 if number == 0 else 9.0
        if high / shortest < self.found.compute[0]:
            return None
        return self.found.over(max(high / 10, self.found.compute[0]), high)

    @property
    def drift(self) -> float | None:
        """Slope of the last decade minus that of the one before."""
        last, before = self.decade(0), self.decade(1)
        return None if last is None or before is None else last.exponent - before.exponent

    @property
    def reached(self) -> bool:
        """Whether the last decade is there, certain enough, and has the slope of theory."""
        last = self.decade(0)
        near = last is not None and abs(last.exponent - self.predicted) <= TOLERANCE
        return near and not self.rough


def judge(run: Run) -> Verdict:
    """Tables, figures and summary from a run's files; figures go to its `figures/`."""
    settings = restore(ComputeOptimalSettings, run.config, run.path)
    ladders = list(ladders_of(run.metrics, settings))
    folder = run.path / "figures"
    summary = conclusion(ladders, settings)
    if not run.finished:
        summary += " The run is not finished: these are the widths that are done."
    return Verdict(
        title=f"Compute-optimal training: {run.path.name}",
        summary=summary,
        tables=[_table(ladders)],
        sections=[
            Section(
                "Loss against compute",
                "Thin: widths, means over draws of A_0. Thick: the frontier at the best width.",
                figures=[_draw_losses(ladders, folder)] if ladders else [],
            ),
            Section(
                "Slope of the frontier",
                "Local exponents over a decade of compute against the best width there.",
                figures=[_draw_slopes(ladders, folder)] if ladders else [],
            ),
        ],
        answers=list(_answers(ladders, settings.alpha)),
    )


def _answers(ladders: Sequence[Ladder], alpha: float) -> Iterator[Answer]:
    """Of every task the draws at the largest width: the richest against the lazy ones."""
    draws = [one for one in ladders if one.kind == "draws" and one.curves]
    for beta in dict.fromkeys(one.beta for one in draws):
        same = [one for one in draws if one.beta == beta]
        own = {one.gamma: one.curves for one in same}
        richest = max(own)
        if 0.0 not in own or richest == 0:
            continue
        width = max(set(own[richest]) & set(own[0.0]), default=0)
        if not width:
            continue
        (times, rich), (base, lazy) = own[richest][width], own[0.0][width]
        last = min(times[-1], base[-1])
        after, before = times > 0, base > 0
        yield Answer(
            task=f"solvable model, beta = {beta:g}, N = {width:,}, gamma = {richest:g} against 0",
            given=(alpha, beta),
            ratios=[
                at_time(last, times[after], r[after]) / at_time(last, base[before], z[before])
                for r, z in zip(rich, lazy, strict=False)
            ],
            equal_time=float(last),
            one_pass=same[0].batches,
        )


def ladders_of(metrics: pl.DataFrame, settings: ComputeOptimalSettings) -> Iterator[Ladder]:
    """Ladders of all tasks, lazy before rich, draws before their mean."""
    for beta in settings.beta:
        for gamma in settings.gamma:
            for kind in ("draws", "mean"):
                own = metrics.filter(
                    (pl.col("beta") == beta) & (pl.col("gamma") == gamma) & (pl.col("kind") == kind)
                )
                if own.is_empty():
                    continue
                curves = {}
                for (width,), rows in own.sort("width").group_by("width", maintain_order=True):
                    seeds = rows.partition_by("seed", maintain_order=True)
                    mse = np.array([one["mse"].to_numpy() for one in seeds])
                    curves[width] = (seeds[0]["time"].to_numpy(), mse)
                try:
                    found = frontier(
                        list(curves),
                        [t for t, _ in curves.values()],
                        [m for _, m in curves.values()],
                    )
                except ValueError:  # an unfinished run has few widths
                    found = None
                batches = with_batches(settings, beta)
                says = predict(settings.alpha, beta)
                yield Ladder(beta, gamma, kind, batches, says, curves, found)


def conclusion(ladders: Sequence[Ladder], settings: ComputeOptimalSettings) -> str:
    """What the longest ladder of every task and gamma says of theory."""
    parts = []
    for own in _longest(ladders):
        last, drift = own.decade(0), own.drift
        where = f"beta = {own.beta:g} ({own.says.regime}), gamma = {own.gamma:g}"
        if last is None or own.found is None:
            parts.append(
                f"{where}: not reached: the best width leaves the ladder at once (theory "
                f"{own.predicted:.3f}); extend --width."
            )
            continue
        end = f"up to N = {own.found.width[-1]:,.0f}"
        measured = f"{last.exponent:.3f} [{last.interval[0]:.3f}, {last.interval[1]:.3f}]"
        if not own.sampled:
            measured = f"{last.exponent:.3f}"
        if own.reached:
            still = "" if drift is None or abs(drift) <= FLAT else f", still moving by {drift:+.3f}"
            parts.append(f"{where}: C^-{measured} {end}, theory {own.predicted:.3f}{still}.")
        else:
            why = _why(own, drift)
            parts.append(
                f"{where}: not reached: measured {measured} {end}, theory {own.predicted:.3f}, "
                f"because {why}."
            )
    return " ".join(parts)


def _why(own: Ladder, drift: float | None) -> str:
    last = own.decade(0)
    if own.found is not None and own.found.decades < 0.9:
        return f"the ladder holds {own.found.decades:.1f} decades of compute; extend --width"
    if last is not None and own.rough:
        what, more = ("draws of A_0", "--seed") if own.kind == "draws" else ("batches", "--repeats")
        return f"{what} scatter by more than the bound; raise {more}"
    if drift is not None and drift * (own.predicted - (last.exponent if last else 0)) > 0:
        return f"the slope still moves towards it, by {drift:+.3f} in the last decade"
    if own.batches:
        return (
            "the batches' term is not alone yet: t^-beta and it differ by little at the times of "
            "the frontier; a larger beta, smaller batches or wider networks separate them"
        )
    return "the ladder ends before the terms of theory dominate; extend it"


def _longest(ladders: Sequence[Ladder]) -> list[Ladder]:
    """The mean over A_0 where there is one, else the draws."""
    last = {(own.beta, own.gamma): own for own in ladders}
    return list(last.values())


def _table(ladders: Sequence[Ladder]) -> Table:
    rows = []
    for own in ladders:
        last = own.decade(0)
        row: dict[str, Entry | str | float | int | None] = {
            "beta": Entry(own.beta, digits=2),
            "regime": own.says.regime,
            "gamma": Entry(own.gamma, digits=2),
            "ladder": f"{own.kind} {min(own.curves)} .. {max(own.curves)}",
            "theory": own.predicted,
            "decades": None if own.found is None else Entry(own.found.decades, digits=1),
            "slope": None,
            "change": own.drift,
            "N ~ C^n": None,
            "theory n": best_width(own.says, own.gamma),
        }
        if own.found is not None and last is not None:
            interval = last.interval if own.sampled else None
            mark = "rough" if own.rough else "pass" if own.reached else "fail"
            row["slope"] = Entry(last.exponent, interval, mark)
            inside = own.found.compute >= last.window[0]
            row["N ~ C^n"] = float(
                np.polyfit(np.log(own.found.compute[inside]), np.log(own.found.width[inside]), 1)[0]
            )
        rows.append(row)
    return Table(
        "Compute frontier at the largest decade of C = N t, mse ~ C^-slope",
        list(rows[0]) if rows else ["beta"],
        rows,
        f"Bound: within {TOLERANCE} of theory. `draws` are of A_0, `mean` is the average over it. "
        "Intervals: 95 % over draws of A_0 or, of simulated SGD, of batches; what is solved on "
        "average has none. Change: from the decade of compute before.",
    )


def _draw_losses(ladders: Sequence[Ladder], folder: Path) -> Picture:
    """A row a task, a column a gamma."""
    keys = list(dict.fromkeys((own.beta, own.gamma) for own in ladders))
    gammas = list(dict.fromkeys(gamma for _, gamma in keys))
    figure, axes = new_figure(len(gammas), len(keys) // len(gammas))
    with house_style():
        for ax, key in zip(axes, keys, strict=True):
            own = {one.kind: one for one in ladders if (one.beta, one.gamma) == key}
            _draw_loss(ax, own)
    return Picture(
        save_figure(figure, folder, "loss_against_compute")[0],
        "Loss of every width against compute, with the frontier, for every task, lazy and rich.",
        "Dashed: slope of theory, beside the frontier. Shaded: standard deviation over draws.",
    )


def _draw_loss(ax: Axes, own: dict[str, Ladder]) -> None:
    first = own["draws"] if "draws" in own else own["mean"]
    for (width, (times, mse)), colour in zip(
        first.curves.items(), ladder(len(first.curves)), strict=True
    ):
        compute, mean, spread = width * times, mse.mean(axis=0), mse.std(axis=0)
        ax.plot(compute, mean, color=colour, linewidth=1.0, label=f"N = {width:,}")
        if len(mse) > 1:
            low = np.maximum(mean - spread, 0.2 * mean)
            ax.fill_between(compute, low, mean + spread, color=colour, alpha=0.15, linewidth=0)
    longest = own.get("mean", first)
    for one in own.values():
        if one.found is not None:
            colour, name = ("black", "frontier") if one is first else ("#D55E00", "mean over A_0")
            ax.plot(one.found.compute, one.found.mse, color=colour, linewidth=2.2, label=name)
    if longest.found is not None:
        at, mse = longest.found.compute, longest.found.mse
        line = 0.6 * mse[-1] * (at / at[-1]) ** -longest.predicted
        ax.plot(at, line, "k--", linewidth=1.0, label=f"theory, slope {-longest.predicted:.3f}")
    ax.set(xscale="log", yscale="log", xlabel="compute C = N t [neurons x flow time]")
    sgd = ", SGD" if first.batches else ""
    ax.set(ylabel="mse [target²]", title=f"beta = {first.beta:g}, gamma = {first.gamma:g}{sgd}")
    ax.legend(fontsize=6.0, ncols=2)


def _draw_slopes(ladders: Sequence[Ladder], folder: Path) -> Picture:
    betas = list(dict.fromkeys(own.beta for own in ladders))
    figure, axes = new_figure(len(betas))
    gammas = list(dict.fromkeys(own.gamma for own in ladders))
    best = [n for own in ladders if own.found is not None for n in own.found.width]
    ticks = [4**i for i in range(20) if best and min(best) / 2 <= 4**i <= 2 * max(best)]
    with house_style():
        for ax, beta in zip(axes, betas, strict=True):
            for own in ladders:
                if own.beta != beta or own.found is None:
                    continue
                colour = COLOURS[gammas.index(own.gamma) % len(COLOURS)]
                style = "-" if own.kind == "mean" else ":"
                what = "mean over A_0" if own.kind == "mean" else "draws"
                name = f"gamma = {own.gamma:g}, {what}"
                # Noise may send the best width back and forth on its way up.
                at = np.maximum.accumulate(own.found.width)
                ax.plot(at, own.found.slope, style, color=colour, label=name)
                if own.sampled:
                    ax.fill_between(
                        at, *own.found.slope_interval, color=colour, alpha=0.15, linewidth=0
                    )
            for value in dict.fromkeys(o.predicted for o in ladders if o.beta == beta):
                ax.axhline(value, color="black", linestyle="--", linewidth=1.0)
                ax.axhspan(value - TOLERANCE, value + TOLERANCE, color="black", alpha=0.05)
            centre = np.mean([o.predicted for o in ladders if o.beta == beta])
            ax.set(xscale="log", xlabel="best width N [neurons]", title=f"beta = {beta:g}")
            ax.set(ylabel="local exponent of compute [1]", ylim=(centre - 0.25, centre + 0.25))
            ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.legend(fontsize=6.5, loc="lower right")
    return Picture(
        save_figure(figure, folder, "frontier_slopes")[0],
        "Local exponent of the compute frontier against the best width, lazy and rich.",
        f"Dashed: theory, +- {TOLERANCE} shaded. Bands: 95 % over draws of A_0 or of batches. "
        "Where noise sends the best width back, the point stands at the largest one before.",
    )
