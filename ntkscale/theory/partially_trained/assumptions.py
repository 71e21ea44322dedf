"""What the theorems ask for, checked before anything is trained and said in words."""

from dataclasses import dataclass
from typing import Literal

import torch

from ntkscale.theory.partially_trained.guarantee import guarantee, largest_output
from ntkscale.theory.partially_trained.problem import Problem
from ntkscale.theory.partially_trained.rates import gains

Standing = Literal["holds", "vacuous", "violated", "open"]


@dataclass(frozen=True)
class Assumption:
    """One condition of a problem.

    Attributes:
        name: of the condition.
        standing: it ``"holds"``; without it the bound is ``"vacuous"`` (0) though training may
            succeed; it is ``"violated"`` and zero loss is out of reach, or the steps diverge; it is
            ``"open"``: the theorem promises nothing, the bound along the run still stands.
        said: why, in a sentence.
    """

    name: str
    standing: Standing
    said: str


def assumptions(problem: Problem, *, step: float = 0.0) -> list[Assumption]:
    """The conditions of the convergence theorems for a problem as it starts.

    Args:
        problem: what will be trained.
        step: of gradient descent, to be checked for stability; 0: it is not.

    Cost: two eigendecompositions of order n, and n^2 m multiply-adds.
    """
    return [
        _independent(problem),
        _active(problem),
        _within_reach(problem),
        _closed(problem),
        *([_stable(problem, step)] if step else []),
    ]


def _independent(problem: Problem) -> Assumption:
    name, (low, high), n = "G is positive definite", problem.extremes, len(problem.targets)
    if low > 0:
        return Assumption(name, "holds", f"lambda_min(G) = {low:.2g}")
    rank = int((torch.linalg.eigvalsh(problem.gram) > 1e-14 * n * high).sum())
    return Assumption(
        name,
        "vacuous",
        f"G of {n} points has rank {rank}: the proven rate is 0 and says nothing; take n <= d, or "
        "a frozen layer in between",
    )


def _active(problem: Problem) -> Assumption:
    name, least = "neurons are active on every point", float(gains(problem, problem.hidden).min())
    if least > 0:
        return Assumption(name, "holds", f"min_a A_aa = {least:.2g} at the start")
    return Assumption(
        name, "vacuous", "a point has no active neuron: the proven rate is 0; take more neurons"
    )


def _within_reach(problem: Problem) -> Assumption:
    name, most = "targets are within reach", largest_output(problem)
    # What the sum itself has to become: a centred output is its change.
    raw = problem.targets
    if problem.centered:
        phi = problem.sigma(problem.hidden)
        raw = raw + phi @ problem.readout / (problem.gamma0 * len(problem.readout))
    largest = float(raw.abs().max())
    if largest < most:
        return Assumption(name, "holds", f"|y| <= {largest:.3g} < {most:.3g}")
    return Assumption(
        name,
        "violated",
        f"|y| is up to {largest:.3g} but |f| stays below {most:.3g}: the loss cannot reach 0 and "
        "no line can be expected; take smaller targets or larger c",
    )


def _closed(problem: Problem) -> Assumption:
    name, found = "a rate is certain beforehand", guarantee(problem)
    if found is not None:
        return Assumption(name, "holds", f"L(t) <= L(0) exp(-{found.rate:.2g} t)")
    return Assumption(
        name,
        "open",
        "neurons might move far enough to die: no rate is promised, r(t) along the run is; smaller "
        "targets close it",
    )


def _stable(problem: Problem, step: float) -> Assumption:
    name = "the step is stable at the start"
    largest = float(torch.linalg.eigvalsh(problem.tangent(problem.hidden))[-1])
    edge = step * largest / len(problem.targets)
    if edge < 2:
        return Assumption(name, "holds", f"step times largest eigenvalue {edge:.2g} < 2")
    return Assumption(
        name, "violated", f"step times largest eigenvalue is {edge:.2g}, 2 or more: lower the step"
    )
