"""Whole curves on images predicted from the kernel at the start, beside what networks did.

The solvable model (`theory.scaling_model`) started from K_0 traced over outputs, gamma = gamma0^2;
nothing is fitted. Networks that see every image once are compared by their test mse, which is the
model's population loss as long as the modes being learned are resolved by the samples of K_0;
networks that see the same images again and again by their training mse.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy import ndarray

from ntkscale.experiments.answer import LAZY, mean_over_seeds
from ntkscale.experiments.crossings import crossing_times
from ntkscale.experiments.images.experiment import ImagesSettings
from ntkscale.experiments.images.measures import Start, Trained
from ntkscale.reporting import (
    Entry,
    Mark,
    Picture,
    Progress,
    Table,
    axis_label,
    house_style,
    ladder,
    new_figure,
    save_figure,
)
from ntkscale.scaling import PowerLawFit, fit_power_law, predict
from ntkscale.theory.scaling_model import flow, measured

CLOSE = 0.1
"""Relative error of a curve up to which the prediction is said to hold."""

_FEWEST = 5


@dataclass(frozen=True)
class Predicted:
    """What the initial kernel says of one training, beside what happened.

    Attributes:
        cell: the training.
        start: the kernel that it started from.
        times: of its record, without t = 0.
        observed: the mse that is compared, at these times.
        predicted: the solvable model's mse.
        inside: which times lie where the modes of the index window are being learned: the model's
            lazy time goes there from 1 / lambda_first to 1 / lambda_last. A network that learns
            faster than the model says may end before: it is read where it has the losses that the
            laziest one of its width and seed has there.
        equal_losses: whether `inside` was found in this second way.
        resolved: time at which the model learns mode M / 3 of the M that K_0 resolves; inf if the
            record ends before.
        slope: power law of what was observed inside; None: fewer than five points, or no window.
        predicted_slope: of the model at the same times.
        level_slope: power law of what was observed between the losses that the laziest network of
            its width and seed has inside; None: too few points, or not reached.
        exact: observed training mse over that of the linearised network; None where the latter was
            not kept or the network is not lazy.
        exact_test: the same of the test mse.
    """

    cell: Trained
    start: Start
    times: Float[ndarray, "T"]
    observed: Float[ndarray, "T"]
    predicted: Float[ndarray, "T"]
    inside: ndarray
    equal_losses: bool
    resolved: float
    slope: PowerLawFit | None
    predicted_slope: PowerLawFit | None
    level_slope: PowerLawFit | None
    exact: Float[ndarray, "T"] | None
    exact_test: Float[ndarray, "T"] | None

    @property
    def ratio(self) -> Float[ndarray, "T"]:
        """Observed over predicted mse."""
        return self.observed / self.predicted


def compared(settings: ImagesSettings, has_test: bool) -> Literal["test", "training"]:
    """Which mse is compared with the model: that of the test set where images are fresh."""
    again = settings.batch_size == 0 or settings.method == "flow"
    once = not again and settings.steps * settings.batch_size <= settings.size
    fresh = once or (not again and settings.augmentation != "none")
    return "test" if fresh and has_test else "training"


def predict_images(
    cells: Sequence[Trained], begun: Sequence[Start], settings: ImagesSettings
) -> list[Predicted]:
    """Every sound training of mean squared error beside its prediction.

    Args:
        cells: what was trained.
        begun: kernels at the start.
        settings: of the run.

    Cost: a flow of M rows and C outputs a cell, some seconds for M = 4,000 and ten outputs.
    """
    if settings.loss != "mse" or settings.method == "adam":
        return []
    if settings.parameterization == "standard":
        return []  # its richness is not that of the model
    place = {(start.width, start.seed): start for start in begun}
    sound = [
        cell
        for cell in cells
        if cell.status == "finished" and len(cell.x) and (cell.width, cell.seed) in place
    ]
    found = []
    with Progress() as progress:
        for i, cell in enumerate(sound):
            progress.update(i, len(sound), f"curve of gamma0 = {cell.gamma0:g} from K_0")
            found.append(_predict(cell, place[cell.width, cell.seed], settings))
    return [_at_equal_losses(one, found) for one in found]


def _at_equal_losses(one: Predicted, found: Sequence[Predicted]) -> Predicted:
    """The same, read at the losses of the laziest network too."""
    own = [o for o in found if (o.cell.width, o.cell.seed) == (one.cell.width, one.cell.seed)]
    lazy = min(own, key=lambda other: other.cell.gamma0)
    if lazy is one or lazy.slope is None:
        return replace(one, level_slope=one.slope if lazy is one else None)
    levels = lazy.observed[lazy.inside][[0, -1]]
    crossings = crossing_times(one.times, one.observed, levels)
    if crossings is None:
        return one
    inside = (one.times >= crossings[0]) & (one.times <= crossings[1])
    if inside.sum() < _FEWEST:
        return one
    fit = _fit(one.times[inside], one.observed[inside])
    if one.slope is not None:
        return replace(one, level_slope=fit)
    return replace(
        one,
        inside=inside,
        equal_losses=True,
        slope=fit,
        predicted_slope=_fit(one.times[inside], one.predicted[inside]),
        level_slope=fit,
    )


def _predict(cell: Trained, start: Start, settings: ImagesSettings) -> Predicted:
    has_test = bool(np.isfinite(cell.test_loss).all())
    observed = cell.test_loss if compared(settings, has_test) == "test" else cell.loss
    said = flow(measured(start.eigenvalues, start.coefficients), cell.gamma0**2, cell.x, rtol=1e-3)
    values = start.eigenvalues
    third = max(len(values) // 3, 1)
    beyond = said.lazy_time * values[third - 1] > 1
    inside = np.zeros(len(cell.x), dtype=bool)
    if start.measured is not None:
        first, last = start.measured.window
        last = min(last, third)
        clock = said.lazy_time
        inside = (clock * values[first - 1] >= 1) & (clock * values[last - 1] <= 1)
    enough = inside.sum() >= _FEWEST
    exact, exact_test = _exact(cell, start)
    return Predicted(
        cell=cell,
        start=start,
        times=cell.x,
        observed=observed,
        predicted=said.mse,
        inside=inside,
        equal_losses=False,
        resolved=float(cell.x[int(np.argmax(beyond))]) if beyond.any() else np.inf,
        slope=_fit(cell.x[inside], observed[inside]) if enough else None,
        predicted_slope=_fit(cell.x[inside], said.mse[inside]) if enough else None,
        level_slope=None,
        exact=exact,
        exact_test=exact_test,
    )


def _fit(times: Float[ndarray, "T"], mse: Float[ndarray, "T"]) -> PowerLawFit:
    return fit_power_law(times, mse, window=(float(times[0]), float(times[-1])))


def _exact(cell: Trained, start: Start) -> tuple[ndarray | None, ndarray | None]:
    if start.linearised is None or cell.gamma0 > LAZY:
        return None, None
    times, mse, test = start.linearised
    at = np.log(cell.x)
    # The record may end between two times of the schedule; both curves are smooth there.
    own = np.exp(np.interp(at, np.log(times), np.log(mse)))
    tested = np.exp(np.interp(at, np.log(times), np.log(test)))
    return cell.loss / own, cell.test_loss / tested if np.isfinite(test).all() else None


def worst(ratio: Float[ndarray, "T"] | None) -> float:
    """Largest |ratio - 1|; nan where there is none."""
    return float(np.abs(ratio - 1).max()) if ratio is not None and len(ratio) else float("nan")


def alike(found: Sequence[Predicted]) -> list[list[Predicted]]:
    """Trainings of equal width and gamma0 together, in order, whatever their seeds."""
    groups: dict[tuple[int, float], list[Predicted]] = {}
    for one in found:
        groups.setdefault((one.cell.width, one.cell.gamma0), []).append(one)
    return list(groups.values())


def exponent_table(found: Sequence[Predicted], what: str) -> Table:
    """Predicted and measured exponents, and the ratio of curves; a row a width and gamma0."""
    rows = []
    for own in alike(found):
        alpha_beta = [one.start.measured for one in own if one.start.measured is not None]
        lazy = rich = Entry(None)
        if alpha_beta:
            alpha = float(np.mean([entry.alpha for entry in alpha_beta]))
            beta = float(np.mean([entry.beta for entry in alpha_beta]))
            low = min(entry.beta_interval[0] for entry in alpha_beta)
            high = max(entry.beta_interval[1] for entry in alpha_beta)
            said = [predict(alpha, max(b, 1e-9)) for b in (beta, low, high)]
            lazy = Entry(said[0].time_lazy, (said[1].time_lazy, said[2].time_lazy), digits=2)
            rich = Entry(said[0].time_rich, (said[1].time_rich, said[2].time_rich), digits=2)
        fits = [(one.slope, one.predicted_slope) for one in own]
        slopes = [(fit, model) for fit, model in fits if fit is not None and model is not None]
        inside = np.concatenate([one.ratio[one.inside] for one in own])
        whole = max(worst(one.ratio) for one in own)
        mark: Mark = "pass" if whole <= CLOSE else "fail"
        rows.append(
            {
                "width": own[0].cell.width,
                "gamma0": f"{own[0].cell.gamma0:g}",
                "seeds": len(own),
                "lazy theory": lazy,
                "rich theory": rich,
                "model's curve": float(np.mean([model.exponent for _, model in slopes]))
                if slopes
                else None,
                "measured": mean_over_seeds(
                    [fit.exponent for fit, _ in slopes], [fit.interval for fit, _ in slopes]
                ),
                "window (t)": _window(own),
                "law": _law([fit for fit, _ in slopes]),
                "ratio in the window": f"{inside.min():.2f} .. {inside.max():.2f}"
                if len(inside)
                else "-",
                "at the end": float(np.mean([one.ratio[-1] for one in own])),
                "largest error": Entry(whole, mark=mark),
            }
        )
    return Table(
        "Predicted from the initial kernel",
        list(rows[0]) if rows else ["width"],
        rows,
        f"Ratio: measured {what} mse over that of the solvable model started from K_0 (traced over "
        "outputs) with gamma = gamma0^2; largest error: over the whole run, worst seed, bound "
        f"{CLOSE:g}. Theory: from alpha and beta, with the interval of beta, which allows for the "
        "choice of window. Model's curve: its exponent at the times of the measured one. Measured: "
        "mean and 95 % interval over seeds (one seed: of its fit). Window: first seed; where the "
        "model learns the modes in which alpha and beta were read; = L: the network gets ahead of "
        "the model, and is read where it has the losses of the laziest one in its window.",
    )


def _window(own: Sequence[Predicted]) -> str:
    for one in own:
        if one.slope is not None:
            first, last = one.slope.window
            return f"{first:.3g} .. {last:.3g}{' = L' if one.equal_losses else ''}"
    return "not reached"


def _law(fits: Sequence[PowerLawFit]) -> str:
    if not fits:
        return "-"
    held = sum(fit.is_power_law for fit in fits)
    return f"{held} of {len(fits)}, R^2 {min(fit.r_squared for fit in fits):.3f}"


def linearised_table(found: Sequence[Predicted]) -> Table | None:
    """Lazy networks against their exact linearisation; None where that was not kept."""
    rows = []
    for own in alike([one for one in found if one.exact is not None]):
        train = max(worst(one.exact) for one in own)
        test = max(worst(one.exact_test) for one in own)
        rows.append(
            {
                "width": own[0].cell.width,
                "gamma0": f"{own[0].cell.gamma0:g}",
                "seeds": len(own),
                "until t": Entry(float(own[0].times[-1]), digits=0),
                "training, all outputs": Entry(train, mark="pass" if train <= CLOSE else "fail"),
                "test, all outputs": Entry(test, mark="pass" if test <= CLOSE else "fail")
                if np.isfinite(test)
                else None,
                "training, traced kernel": max(worst(one.ratio) for one in own),
            }
        )
    if not rows:
        return None
    return Table(
        "Lazy networks against their linearisation",
        list(rows[0]),
        rows,
        "Largest relative error of the mse over the whole run, worst seed. All outputs: K_0 as a "
        "C x C matrix for every pair of points, exact at any width. Traced: one kernel for all "
        "outputs, as the solvable model has it, exact for wide networks.",
    )


def statement(found: Sequence[Predicted]) -> str:
    """Where theory holds and where it fails, in sentences: the widest networks."""
    widest = [one for one in found if one.cell.width == max(o.cell.width for o in found)]
    parts = []
    for own in alike(widest):
        error = max(worst(one.ratio) for one in own)
        gamma0, end = own[0].cell.gamma0, float(np.mean([one.ratio[-1] for one in own]))
        slopes = [one for one in own if one.slope is not None]
        said = f"gamma0 = {gamma0:g}: "
        said += (
            f"within {error:.0%} over the whole run"
            if error <= CLOSE
            else f"off by up to {error:.0%}, the mse at the end is {end:.2f} of the predicted one"
        )
        if slopes:
            gaps = [
                one.slope.exponent - one.predicted_slope.exponent
                for one in slopes
                if one.slope is not None and one.predicted_slope is not None
            ]
            said += f", exponent {np.mean(gaps):+.3f} against the model's"
        parts.append(said)
    if not parts:
        return ""
    width = widest[0].cell.width
    return f"Solvable model from K_0 against networks of width {width}: {'; '.join(parts)}."


def draw_prediction(found: Sequence[Predicted], what: str, folder: Path) -> Picture:
    """Measured and predicted curves of the widest networks, and their ratio."""
    widest = [one for one in found if one.cell.width == max(o.cell.width for o in found)]
    groups = alike(widest)
    figure, axes = new_figure(2)
    with house_style():
        for own, colour in zip(groups, ladder(len(groups)), strict=True):
            label = f"gamma0 = {own[0].cell.gamma0:g}"
            for j, one in enumerate(own):
                axes[0].plot(one.times, one.observed, color=colour, linewidth=1.2)
                if j == 0:
                    axes[0].plot(
                        one.times, one.predicted, color=colour, linewidth=1.0, linestyle="--"
                    )
                name = label if j == 0 else None
                axes[1].plot(one.times, one.ratio, color=colour, linewidth=1.2, label=name)
        axes[0].set(yscale="log", ylabel=f"{what} mse [target²]")
        axes[1].axhline(1.0, color="black", linestyle="--", linewidth=0.8)
        axes[1].axhspan(1 - CLOSE, 1 + CLOSE, color="#000000", alpha=0.06, linewidth=0)
        axes[1].set(ylabel="measured / predicted mse [1]")
        axes[1].legend()
        for ax in axes[:2]:
            _finish(ax, widest[0].cell.width)
    return Picture(
        save_figure(figure, folder, "predicted_from_the_initial_kernel")[0],
        f"Measured {what} mse, that predicted from the initial kernel, and their ratio, in time.",
        "Left: solid measured, one line a seed, dashed predicted (first seed). Right: the ratio, "
        f"shaded {CLOSE:.0%} about exact.",
    )


def _finish(ax: Axes, width: int) -> None:
    ax.set(xscale="log", xlabel=axis_label("time"))
    ax.set_title(f"width {width}")
