"""Auto-PGD: projected ascent with momentum that halves its step where it stops to gain."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntkscale.robustness.attack_losses import Loss, correct, per_sample_loss
from ntkscale.robustness.checks import check_attack
from ntkscale.robustness.loss_gradient import Model, loss_gradient
from ntkscale.robustness.threat import Threat

_MOMENTUM = 0.75
"""alpha: share of the new step; the rest goes on as before."""

_RHO = 0.75
"""Share of the steps since the last checkpoint that must have gained."""


def apgd(
    model: Model,
    x: Float[Tensor, "n ..."],
    labels: Int[Tensor, "n"],
    threat: Threat,
    *,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    loss: Loss = "auto",
) -> Float[Tensor, "n ..."]:
    """The iterate of largest loss; one that is classified wrong goes before those that are not.

    Every run begins eps away from x in a random direction, with steps of 2 eps. At checkpoints
    w_j = ceil(p_j steps) a sample's step is halved, and it goes on from its best point, where (1)
    fewer than 3/4 of the steps since the last checkpoint gained, or (2) the step was not halved
    there and the best loss is the same since. Later runs take only samples that are still right.

    Args:
        model, x, labels, threat: as of `fgsm`.
        steps: of each run.
        restarts: number of runs.
        seed: of the random starts.
        loss: ``"dlr"`` sees what cross-entropy loses where it saturates, given three classes.

    Returns:
        (n, ...) in dtype and device of x, without a graph; eps = 0 gives x bit for bit.

    Cost: `restarts` times `steps + 1` forward and backward passes.

    Source: Croce & Hein 2020 (arXiv 2003.01690), Algorithm 1 and section 3; the start is that of
    their code, and so is clipping to the ball and then to the range in the l2 norm.

    Raises:
        ValueError: as of `fgsm`; steps or restarts below 1.
    """
    check_attack(model, x, labels, threat)
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps is {steps} and restarts {restarts}; take 1 or more of both.")
    start, labels = x.detach(), labels.to(x.device)
    if threat.eps == 0:
        return start.clone()
    generator = torch.Generator().manual_seed(seed)
    search = _Search(model, threat, steps, loss)
    found = search.run(start, threat.draw(start, generator, surface=True), labels)
    for _ in range(restarts - 1):
        # Drawn for all samples, so that a start does not depend on who is left.
        first = threat.draw(start, generator, surface=True)
        left = (~found.wrong).nonzero()[:, 0]
        if not len(left):
            break
        again = search.run(start[left], first[left], labels[left])
        found = found.put(left, _preferred(found.rows(left), again))
    return found.x


@dataclass(frozen=True)
class _Points:
    """One point a sample, with what is known there."""

    x: Float[Tensor, "n ..."]
    gradient: Float[Tensor, "n ..."]
    loss: Float[Tensor, "n"]
    wrong: Bool[Tensor, "n"]

    def rows(self, index: Tensor) -> "_Points":
        return _Points(*(part[index] for part in self._parts()))

    def put(self, index: Tensor, other: "_Points") -> "_Points":
        pairs = zip(self._parts(), other._parts(), strict=True)
        return _Points(*(own.index_copy(0, index, new) for own, new in pairs))

    def where(self, chosen: Bool[Tensor, "n"], other: "_Points") -> "_Points":
        """The other's points where chosen."""
        index = chosen.nonzero()[:, 0]
        if len(index) in (0, len(chosen)):
            return other if len(index) else self
        return self.put(index, other.rows(index))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.gradient, self.loss, self.wrong


@dataclass(frozen=True)
class _Search:
    """Algorithm 1, every sample by itself."""

    model: Model
    threat: Threat
    steps: int
    loss: Loss

    def run(self, start: Tensor, first: Tensor, labels: Int[Tensor, "n"]) -> _Points:
        """The preferred point of x(0) to x(steps), x(0) = first."""
        alpha, project = _MOMENTUM, self.threat.project
        point = best = kept = self._look(first, labels)
        before = point.x
        size = torch.full_like(point.loss, 2 * self.threat.eps, dtype=start.dtype)
        gains = torch.zeros_like(point.loss)
        halved, last, best_then = torch.zeros_like(point.wrong), 0, point.loss
        checkpoints = set(_checkpoints(self.steps))
        for k in range(self.steps):
            ahead = project(self._step(point, size), start)
            if k > 0:
                moved = point.x + alpha * (ahead - point.x) + (1 - alpha) * (point.x - before)
                ahead = project(moved, start)
            new = self._look(ahead, labels)
            best_so_far = best.loss  # of x(0) to x(k)
            best, kept = best.where(new.loss > best.loss, new), _preferred(kept, new)
            if k in checkpoints:
                halve = (gains < _RHO * (k - last)) | (~halved & (best_so_far == best_then))
                size = torch.where(halve, size / 2, size)
                new = new.where(halve, best)
                halved, last, best_then = halve, k, best_so_far
                gains = torch.zeros_like(gains)
            gains += new.loss > point.loss
            before, point = point.x, new
        return kept

    def _look(self, x: Tensor, labels: Tensor) -> _Points:
        outputs, gradient = loss_gradient(self.model, x, labels, self.loss)
        with torch.no_grad():
            value = per_sample_loss(outputs, labels, self.loss)
        return _Points(x, gradient, value, ~correct(outputs, labels))

    def _step(self, point: _Points, size: Float[Tensor, "n"]) -> Tensor:
        direction = self.threat.steepest(point.gradient).to(point.x)
        return point.x + size.reshape(-1, *[1] * (direction.ndim - 1)) * direction


def _preferred(kept: _Points, new: _Points) -> _Points:
    """Wrong before right, then the larger loss."""
    larger = (new.wrong == kept.wrong) & (new.loss > kept.loss)
    return kept.where((new.wrong & ~kept.wrong) | larger, new)


def _checkpoints(steps: int) -> list[int]:
    """w_1, w_2, ...: p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06), in whole percent."""
    found, earlier, percent = [], 0, 22
    while percent < 100:
        found.append(-(-percent * steps // 100))
        earlier, percent = percent, percent + max(percent - earlier - 3, 6)
    return found
