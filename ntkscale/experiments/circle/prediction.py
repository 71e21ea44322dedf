"""Whole training curves predicted from the kernel at the start, lazy and rich.

The solvable model (`theory.scaling_model`) started from the eigenvalues of a network's own K_0 and
the target's coefficients on its eigenvectors: gamma = 0 for a lazy network, gamma = gamma0^2 for a
rich one. Nothing is fitted. For a lazy network this is its linearised training, exact but for the
steps and for how far from lazy it is; for a rich one the model is a linear network that shares the
spectrum and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from numpy import ndarray

from ntkscale.experiments.circle.cells import build, columns, label, target
from ntkscale.experiments.circle.figures import shown
from ntkscale.experiments.circle.measures import Trained, alike
from ntkscale.experiments.circle.settings import CircleSettings
from ntkscale.reporting import (
    COLOURS,
    Entry,
    Picture,
    Table,
    axis_label,
    house_style,
    new_figure,
    save_figure,
)
from ntkscale.theory.scaling_model import flow, measured
from ntkscale.tracking import MEMORY
from ntkscale.training import linearised_flow

CLOSE = 0.1
"""Relative error of a whole lazy training curve up to which the prediction is said to hold."""


@dataclass(frozen=True)
class Predicted:
    """What the initial kernel says of one training, beside what happened.

    All mse are without the target's tail, which would hide errors.

    Attributes:
        cell: the training.
        times: of its record, without t = 0.
        ratio: measured over predicted training mse at these times.
        inside: which of them lie in the cell's window; none if it did not get through it.
        test_ratio: the same half-way between the training points; only of lazy networks.
    """

    cell: Trained
    times: Float[ndarray, "T"]
    ratio: Float[ndarray, "T"]
    inside: ndarray
    test_ratio: Float[ndarray, "T"] | None


def predict_cells(cells: Sequence[Trained], settings: CircleSettings) -> list[Predicted]:
    """Every training beside its prediction.

    Cost: a flow of P rows each, and for a lazy network a kernel between training and test points.
    """
    return [_predict(cell, settings) for cell in cells if np.isfinite(cell.mse).all()]


def _predict(cell: Trained, settings: CircleSettings) -> Predicted:
    base = cell.baseline
    later = cell.times > 0
    times = cell.times[later]
    spectrum = measured(base.eigenvalues, base.coefficients)
    gamma = 0.0 if cell.condition.lazy else cell.gamma0**2
    predicted = flow(spectrum, gamma, times).mse
    test_ratio = None
    if cell.condition.lazy:
        answer = _linearised_test_mse(cell, settings, times)
        test_ratio = (cell.test_mse[later] - base.tail) / answer
    low, high = cell.window or (np.inf, np.inf)
    return Predicted(
        cell=cell,
        times=times,
        ratio=(cell.mse[later] - base.tail) / predicted,
        inside=(times >= low * (1 - 1e-9)) & (times <= high * (1 + 1e-9)),
        test_ratio=test_ratio,
    )


def _linearised_test_mse(
    cell: Trained, settings: CircleSettings, times: Float[ndarray, "T"]
) -> Float[ndarray, "T"]:
    """Of the network rebuilt from its seed, on the test points."""
    network = build(settings, cell.condition)
    said = linearised_flow(network, target(settings, cell.condition), times.tolist(), memory=MEMORY)
    assert said.test_mse is not None
    return said.test_mse.numpy()


def prediction_table(found: Sequence[Predicted], settings: CircleSettings) -> Table:
    """Largest relative errors, the worst seed of every condition."""
    rows = []
    of = {id(one.cell): one for one in found}
    for cells in alike([one.cell for one in found]):
        own = [of[id(cell)] for cell in cells]
        lazy = cells[0].condition.lazy
        whole = max(_worst(one.ratio) for one in own)
        rows.append(
            {
                "beta": Entry(cells[0].baseline.beta, digits=2),
                **columns(settings, cells[0].condition),
                "gamma0": f"{cells[0].gamma0:g}",
                "seeds": len(own),
                "model": "gamma = 0" if lazy else f"gamma = {cells[0].gamma0 ** 2:g}",
                "whole run": Entry(
                    whole, mark=("pass" if whole <= CLOSE else "fail") if lazy else None
                ),
                "in the window": max(_worst(one.ratio[one.inside]) for one in own),
                "end: measured / predicted": float(np.mean([one.ratio[-1] for one in own])),
                "test, whole run": max(
                    _worst(one.test_ratio) if one.test_ratio is not None else np.nan for one in own
                ),
            }
        )
    return Table(
        "Predicted from the initial kernel",
        list(rows[0]) if rows else ["beta"],
        rows,
        "Largest relative error of the training mse (without tail) which the solvable model, "
        "started from K_0, predicts; worst seed. Test: half-way between the training points, from "
        f"K_0 between the two. Bound of a lazy network's whole run: {CLOSE:g}.",
    )


def _worst(ratio: Float[ndarray, "T"]) -> float:
    return float(np.abs(ratio - 1).max()) if len(ratio) else float("nan")


def draw_prediction(found: Sequence[Predicted], settings: CircleSettings, folder: Path) -> Picture:
    """Measured over predicted mse in time, lazy networks beside rich ones."""
    figure, axes = new_figure(2)
    kept = {id(cell) for cell in shown([one.cell for one in found])}
    of = {id(one.cell): one for one in found}
    with house_style():
        for i, cells in enumerate(alike([of[k].cell for k in of if k in kept], "gamma0")):
            colour = COLOURS[i % len(COLOURS)]
            for lazy, ax in zip((True, False), axes, strict=True):
                own = [of[id(cell)] for cell in cells if cell.condition.lazy == lazy]
                for j, one in enumerate(own):
                    name = label(settings, one.cell.condition) if j == 0 else ""
                    ax.plot(one.times, one.ratio, color=colour, linewidth=1.2, label=name or None)
        _finish(axes[0], "lazy networks, model with gamma = 0")
        axes[1].set_yscale("log")
        _finish(axes[1], "rich networks, model with gamma = gamma0^2")
    return Picture(
        save_figure(figure, folder, "predicted_from_the_initial_kernel")[0],
        "Measured training mse over that predicted from the initial kernel, in time.",
        f"Dashed: exact; shaded: {CLOSE:.0%} about it. One line a seed and gamma0; no tail.",
    )


def _finish(ax: Axes, title: str) -> None:
    ax.axhline(1.0, color="black", linestyle="--", linewidth=0.8)
    ax.axhspan(1 - CLOSE, 1 + CLOSE, color="#000000", alpha=0.06, linewidth=0)
    ax.set(xscale="log", xlabel=axis_label("time"), ylabel="measured / predicted mse [1]")
    ax.set_title(title)
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
