"""How fast the loss falls, how fast it must, and whether its logarithm falls on a line."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ntkscale.theory.partially_trained.problem import Problem


def gains(problem: Problem, hidden: Float[Tensor, "n m"]) -> Float[Tensor, "n"]:
    """A_aa = (1/m) sum_i c_i^2 sigma'(h_ia)^2 of every point."""
    return (problem.sigma.first(hidden) * problem.readout).square().mean(1)


def instantaneous_rate(problem: Problem, hidden: Float[Tensor, "n m"]) -> float:
    """r_inst = -(dL/dt) / L = e^T (A o G) e / (n^2 L) of the flow; nan where L is 0."""
    e = problem.outputs(hidden) - problem.targets
    v = e[:, None] * problem.sigma.first(hidden) * problem.readout
    quadratic = (v * (problem.gram @ v)).sum() / len(problem.readout)
    return float(2 * quadratic / (len(e) * e.square().sum()))


def proven_rate(problem: Problem, hidden: Float[Tensor, "n m"]) -> float:
    """r(t) = (2/n) lambda_min(G) min_a A_aa, which -(dL/dt) / L never falls below.

    By Schur's theorem lambda_min(A o G) >= lambda_min(G) min_a A_aa for positive semi-definite A
    and G, and -(dL/dt) = e^T (A o G) e / n^2 >= lambda_min(A o G) 2 L / n. It is 0, and says
    nothing, where G is singular: fewer frozen features than points, or two points alike.
    """
    return 2 / len(problem.targets) * problem.extremes[0] * float(gains(problem, hidden).min())


def active_fraction(
    problem: Problem, hidden: Float[Tensor, "n m"], threshold: float
) -> Float[Tensor, "n"]:
    """Share of neurons with |sigma'(h_ia)| >= threshold, for every point."""
    return (problem.sigma.first(hidden).abs() >= threshold).double().mean(1)


@dataclass(frozen=True)
class LineFit:
    """log L = constant - rate t, by least squares.

    Attributes:
        rate: 1 / flow time.
        r_squared: share of the variance of log L that the line explains; nan of a constant.
    """

    rate: float
    r_squared: float


def fit_line(times: Float[ndarray, "T"], loss: Float[ndarray, "T"]) -> LineFit:
    """Fit a line to the logarithm of a loss, every entry with equal weight.

    Raises:
        ValueError: fewer than three entries, or a loss that is not above 0.
    """
    times, loss = np.asarray(times, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if len(times) < 3 or times.shape != loss.shape or not (loss > 0).all():
        raise ValueError("a line needs three times or more, and a loss above 0 at each.")
    logs = np.log(loss)
    slope, constant = np.polyfit(times, logs, 1)
    spread = np.square(logs - logs.mean()).sum()
    left = np.square(logs - constant - slope * times).sum()
    return LineFit(float(-slope), float(1 - left / spread) if spread > 0 else float("nan"))
