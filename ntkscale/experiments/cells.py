"""What an experiment trains, and when it looks.

A *cell* is one training: one seed at one `gamma0`, one `width`, one task. Cells of equal shape may
be trained together as one batched ensemble; they are recorded one by one all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ntkscale.networks import Network
from ntkscale.tasks import Task


@dataclass(frozen=True)
class Schedule:
    """When a cell is looked at, in flow time (steps for Adam), besides its start and its end.

    Attributes:
        losses: times at which the losses are recorded.
        kernels: those of them at which the kernel is measured too.
        pictures: those of them at which the kernel itself is kept on disk too.
        expected_end: when the cell will probably be done, for the progress bar alone.
    """

    losses: Sequence[float]
    kernels: frozenset[float]
    pictures: frozenset[float]
    expected_end: float


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        key: what sets it apart, e.g. ``{"beta": .5, "gamma0": 1.0, "seed": 0}``; becomes columns.
        build: makes its network, on the CPU, in the precision of the run.
        task: what it learns.
        schedule: when it is looked at.
        probe: how many of the training inputs the kernel is followed on; None: all.
        spectrum: on how many training inputs the initial kernel is kept besides; None: no more.
        observed: on how many of the training inputs losses are recorded; None: all.
        linearised: keep the curves of the network linearised at its start.
        compiled: `torch.compile` the network for training.
        learning_rate: flow time a step (Adam: its own unit); None: that of the whole run.
        horizon: flow time at which it ends; None: only the number of steps ends it.
        stop_below: from the new network, the training mse at which it has learned enough.
    """

    key: dict[str, float | int]
    build: Callable[[], Network]
    task: Task
    schedule: Schedule
    probe: int | None = None
    spectrum: int | None = None
    observed: int | None = None
    linearised: bool = False
    compiled: bool = False
    learning_rate: float | None = None
    horizon: float | None = None
    stop_below: Callable[[Network], float] | None = None

    @property
    def name(self) -> str:
        """The key in one word, e.g. ``beta=0.5,gamma0=1,seed=0``."""
        return cell_name(self.key)


def cell_name(key: Mapping[str, float | int]) -> str:
    """Name of the cell with that key."""
    return ",".join(
        f"{name}={value}" if isinstance(value, int) else f"{name}={value:.12g}"
        for name, value in key.items()
    )


def thin(times: Sequence[float], count: int) -> frozenset[float]:
    """`count` of the times, evenly spread over their order, the first and the last among them."""
    if count >= len(times):
        return frozenset(times)
    last = len(times) - 1
    return frozenset(times[round(i * last / max(count - 1, 1))] for i in range(count))
