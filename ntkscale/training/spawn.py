"""Children of a run: trainings that go on from one of its checkpoints with their own data order."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ntkscale.tasks import Task
from ntkscale.training.optimisation import Optimisation
from ntkscale.training.trainer import Trainer


def spawn(
    model: nn.Module,
    task: Task,
    state: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    *,
    seed: int,
    observed: int | None = None,
) -> Trainer:
    """A child that leaves its parent where `state` was taken.

    Weights, buffers, optimiser state, step, time and schedule are the parent's; samples and
    augmentation are drawn from then on with `seed`. Children with different seeds feel independent
    noise; with the parent's own seed a child repeats the parent bit by bit (in gradient flow: given
    the parent's measuring times, on which steps end). Full batches have no order, so that their
    children differ by augmentation alone.

    The child's `run` measures at the moment of spawning, then at its own measuring times; `state`
    and `restore` resume it like any other run, by `Trainer(model, task, child.optimisation,
    seed=seed)`. What counts as divergence remains what it was for the parent. A state taken within
    an epoch starts the child at the same place of an epoch in another order: samples that the
    parent has had may come once more.

    Args:
        model: a network, or `Ensemble`, built like the parent's. It receives the weights, so give
            every child its own unless the parent itself is to be overwritten.
        task: what the parent learns.
        state: what the parent's `Trainer.state()` returned, tensors and meta; left as it is.
        seed: of the child's order of samples and augmentation.
        observed: as in `Trainer`.

    Raises:
        ValueError: the parent is over, or every member of it diverged; the state is of another
            network or richness.

    Source: parent-child spawning, Fort et al. 2020 (arXiv 2010.15110).
    """
    tensors, meta = state
    at = f"at step {meta['step']}"
    if meta["ended"] == "diverged" or all(step is not None for step in meta["diverged_at"]):
        raise ValueError(f"the parent diverged {at}: spawn from a state before that.")
    if meta["ended"] is not None:
        raise ValueError(f"the parent is {meta['ended']} {at}: spawn from a state before its end.")
    child = Trainer(model, task, Optimisation(**meta["optimisation"]), seed=seed, observed=observed)
    # The count of measuring times belongs to the parent's list of them.
    own = {"seed": seed, "measured": 0, "measured_step": -1}
    child.restore(tensors, {**meta, **own})
    if child.complete:
        raise ValueError(f"the parent is finished {at}: spawn from a state before its end.")
    return child
