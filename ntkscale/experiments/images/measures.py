"""What an images run says, in numbers: task exponents, measured slopes, agreement across widths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ntkscale.experiments.images.experiment import ImagesSettings
from ntkscale.runs import Run
from ntkscale.scaling import PowerLawFit, SourceCapacity, fit_power_law, source_capacity


@dataclass(frozen=True)
class Start:
    """What the initial kernel of one width and seed says about the task.

    Attributes:
        width, seed: of the network.
        eigenvalues: of K_0 / n on the samples of the spectrum, descending, n of them.
        coefficients: u_k . y_c / sqrt(n) on each eigenvector, for each output.
        linearised: flow times, training and test mse of the linearised network; test mse is nan
            without a test set. None where it was not asked for.
        measured: alpha and beta read off them; None where too few eigenvalues are positive.
    """

    width: int
    seed: int
    eigenvalues: Float[ndarray, " n"]
    coefficients: Float[ndarray, "n C"]
    measured: SourceCapacity | None
    linearised: Float[ndarray, "3 T"] | None

    @property
    def power(self) -> Float[ndarray, " n"]:
        """Power of the targets on each eigenvector, summed over outputs."""
        return np.square(self.coefficients).sum(axis=1)


@dataclass(frozen=True)
class Trained:
    """What one cell did.

    Attributes:
        width, gamma0, seed: its key.
        status: how its training ended.
        x: flow times of the record (steps for Adam), above 0.
        loss: what is compared: training mse, or the loss under cross-entropy.
        test_loss: test mse at these times; nan without a test set or under cross-entropy.
        fit: power law through it, over the window the data choose; None: too few points.
        kernel_x: when its kernel was measured, above 0.
        distance: kernel distance then.
        change: |K_t - K_0| / |K_0| then.
        alignment: kernel-target alignment then.
        accuracy, test_accuracy: at the end, nan where there are no classes or no test set.
    """

    width: int
    gamma0: float
    seed: int
    status: str
    x: Float[ndarray, " T"]
    loss: Float[ndarray, " T"]
    test_loss: Float[ndarray, " T"]
    fit: PowerLawFit | None
    kernel_x: Float[ndarray, " S"]
    distance: Float[ndarray, " S"]
    change: Float[ndarray, " S"]
    alignment: Float[ndarray, " S"]
    accuracy: float
    test_accuracy: float


def starts(run: Run) -> list[Start]:
    """The spectra of the initial kernels that are there."""
    found: list[Start] = []
    for name, result in run.results.items():
        tensors = run.kernels[name, 0]
        if "spectrum_eigenvalues" not in tensors:
            continue
        values = tensors["spectrum_eigenvalues"].numpy()
        along = tensors["spectrum_coefficients"].numpy()
        try:
            measured = source_capacity(values, np.square(along).sum(axis=1))
        except ValueError:  # fewer eigenvalues than a fit needs
            measured = None
        found.append(
            Start(
                width=result["width"],
                seed=result["seed"],
                eigenvalues=values,
                coefficients=along,
                measured=measured,
                linearised=_linearised(tensors),
            )
        )
    return found


def _linearised(tensors: Mapping[str, Tensor]) -> Float[ndarray, "3 T"] | None:
    if "linearised_mse" not in tensors:
        return None
    times, mse = tensors["linearised_times"], tensors["linearised_mse"]
    test = tensors.get("linearised_test_mse", torch.full_like(mse, float("nan")))
    return torch.stack([times, mse, test]).cpu().numpy()


def trained(run: Run, settings: ImagesSettings) -> list[Trained]:
    """Every cell that ended, in the order they were trained."""
    found: list[Trained] = []
    axis = "step" if settings.method == "adam" else "time"
    column = "mse" if settings.loss == "mse" else "loss"
    for name, result in run.results.items():
        rows = run.metrics.filter((pl.col("cell") == name) & (pl.col(axis) > 0))
        rows = rows.filter(pl.col(column).is_not_null())
        kernels = rows.filter(pl.col("kernel_distance").is_not_null())
        x, loss = rows[axis].to_numpy(), rows[column].to_numpy()
        found.append(
            Trained(
                width=result["width"],
                gamma0=result["gamma0"],
                seed=result["seed"],
                status=result["status"],
                x=x,
                loss=loss,
                test_loss=rows["test_mse"].to_numpy()
                if "test_mse" in rows.columns
                else np.full(len(x), np.nan),
                fit=fit_power_law(x, loss) if len(x) >= 5 else None,
                kernel_x=kernels[axis].to_numpy(),
                distance=kernels["kernel_distance"].to_numpy(),
                change=kernels["kernel_change"].to_numpy(),
                alignment=kernels["kernel_alignment"].to_numpy(),
                accuracy=_last(rows, "accuracy"),
                test_accuracy=_last(rows, "test_accuracy"),
            )
        )
    return found


def _last(rows: pl.DataFrame, column: str) -> float:
    if column not in rows.columns or not len(rows) or rows[column][-1] is None:
        return float("nan")
    return float(rows[column][-1])


@dataclass(frozen=True)
class WidthGap:
    """How far the loss curves of different widths lie apart at one richness.

    Attributes:
        gamma0: the richness.
        gap: largest |L_N / L_M - 1|, all widths N < M and common times, seeds averaged.
        widest_pair: the gap between the two widest networks alone.
        at: where the largest gap is.
    """

    gamma0: float
    gap: float
    widest_pair: float
    at: float


def width_gaps(cells: Sequence[Trained]) -> list[WidthGap]:
    """The gap for every gamma0 that was trained at two widths or more."""
    found: list[WidthGap] = []
    for gamma0 in sorted({cell.gamma0 for cell in cells}):
        curves: dict[int, tuple[ndarray, ndarray]] = {}
        for width in sorted({cell.width for cell in cells}):
            own = [c for c in cells if c.gamma0 == gamma0 and c.width == width]
            if own and all(np.array_equal(c.x, own[0].x) for c in own):
                curves[width] = own[0].x, np.mean([c.loss for c in own], axis=0)
        widths = sorted(curves)
        if len(widths) < 2:
            continue
        pairs = [
            (*_largest_gap(curves[narrow], curves[wide]), (narrow, wide))
            for i, narrow in enumerate(widths)
            for wide in widths[i + 1 :]
        ]
        gap, at, _ = max(pairs)
        last = next(entry[0] for entry in pairs if entry[2] == (widths[-2], widths[-1]))
        found.append(WidthGap(gamma0, gap, last, at))
    return found


def _largest_gap(
    narrow: tuple[ndarray, ndarray], wide: tuple[ndarray, ndarray]
) -> tuple[float, float]:
    common, i, j = np.intersect1d(narrow[0], wide[0], return_indices=True)
    gaps = np.abs(narrow[1][i] / wide[1][j] - 1)
    if not len(gaps):
        return float("nan"), float("nan")
    worst = int(np.argmax(gaps))
    return float(gaps[worst]), float(common[worst])
