"""How every experiment trains: cell after cell, each tracked, recorded and resumable.

A *cell* is one training: one seed at one `gamma0`, one `width`, one task. Cells of equal shape may
be trained together as one batched ensemble; they are recorded one by one all the same.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.experiments.settings import WandbMode
from ntkscale.networks import Network
from ntkscale.reporting import Progress, WandbLog
from ntkscale.runs import RunFolder
from ntkscale.tasks import Task
from ntkscale.tracking import KernelTracker
from ntkscale.training import Ensemble, Optimisation, Trainer


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        key: what sets it apart, e.g. ``{"beta": .5, "gamma0": 1.0, "seed": 0}``; becomes columns.
        build: makes its network, on the device and in the precision of the run.
        task: what it learns, on that device and in that precision.
        probe: how many of the training inputs the kernel is followed on; None: all.
        spectrum: on how many training inputs the initial kernel is kept besides; None: no more.
        compiled: `torch.compile` the network for training.
        stop_below: from the new network, the training mse at which it has learned enough.
    """

    key: dict[str, float | int]
    build: Callable[[], Network]
    task: Task
    probe: int | None = None
    spectrum: int | None = None
    compiled: bool = False
    stop_below: Callable[[Network], float] | None = None

    @property
    def name(self) -> str:
        """The key in one word, e.g. ``beta=0.5,gamma0=1,seed=0``."""
        return ",".join(f"{key}={value:g}" for key, value in self.key.items())


@dataclass(frozen=True)
class Schedule:
    """When a cell is looked at, in flow time (steps for Adam).

    Attributes:
        losses: times at which the losses are recorded.
        kernels: those of them at which the kernel is measured too.
        pictures: those of them at which the kernel itself is kept on disk.
        expected_end: when the cell will probably be done, for the progress bar alone.
    """

    losses: Sequence[float]
    kernels: frozenset[float]
    pictures: frozenset[float]
    expected_end: float


def thin(times: Sequence[float], count: int) -> frozenset[float]:
    """`count` of the times, evenly spread over their order, the first and the last among them."""
    if count >= len(times):
        return frozenset(times)
    last = len(times) - 1
    return frozenset(times[round(i * last / max(count - 1, 1))] for i in range(count))


def train_cells(
    folder: RunFolder,
    groups: Sequence[Sequence[Cell]],
    optimisation: Optimisation,
    schedule: Schedule,
    wandb: WandbMode,
) -> None:
    """Train every group of cells in order, recording as it goes; finished ones are passed over.

    Args:
        folder: the open run; it is marked finished at the end.
        groups: cells of one group are trained together as one batched ensemble.
        optimisation: how every cell is trained.
        schedule: when every cell is looked at.
        wandb: mode of the W&B record.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was done is kept and the same command goes on from there.
    """
    saved = folder.load_checkpoint()
    done = folder.results()
    with Progress() as progress:
        for position, cells in enumerate(groups):
            if all(cell.name in done for cell in cells):
                continue

            def report(share: float, text: str, position: int = position) -> None:
                progress.update(position + share, len(groups), text)

            report(0.0, cells[0].name)
            group = _Group(folder, cells, optimisation, schedule, report)
            if saved is not None and saved[1]["group"] == group.name:
                group.restore(*saved)
            group.run(wandb)
    folder.finish()


class _Group:
    """Cells trained together: one trainer, one tracker and one W&B run for each."""

    def __init__(
        self,
        folder: RunFolder,
        cells: Sequence[Cell],
        optimisation: Optimisation,
        schedule: Schedule,
        report: Callable[[float, str], None],
    ) -> None:
        self.name = " + ".join(cell.name for cell in cells)
        networks = [cell.build() for cell in cells]
        self._folder, self._cells, self._networks = folder, cells, networks
        self._optimisation, self._schedule, self._report = optimisation, schedule, report
        self._stop = (
            min(
                cell.stop_below(network)
                for cell, network in zip(cells, networks, strict=True)
                if cell.stop_below is not None
            )
            if cells[0].stop_below is not None
            else None
        )
        # The members of an ensemble are views of its stack, so each tracker sees its own train.
        model: nn.Module = networks[0] if len(cells) == 1 else Ensemble(networks)
        if cells[0].compiled:
            model = torch.compile(model)  # pyright: ignore[reportAssignmentType]
        self._trainer = Trainer(model, cells[0].task, optimisation, seed=int(cells[0].key["seed"]))
        self._trackers = [
            KernelTracker(
                network,
                cell.task.inputs[: cell.probe],
                cell.task.targets[: cell.probe],
                by_layer=True,
            )
            for cell, network in zip(cells, networks, strict=True)
        ]
        self._logs: list[WandbLog] = []
        self._looked_at = -1.0
        self._expected = schedule.expected_end

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take training up where a checkpoint left it."""
        self._trainer.restore(_part(tensors, "trainer."), meta["trainer"])
        for i, tracker in enumerate(self._trackers):
            tracker.load_state_dict(_part(tensors, f"tracker{i}."))
        self._looked_at = meta["looked_at"]

    def run(self, wandb: WandbMode) -> None:
        """Train to the end, then write down how it ended.

        Raises:
            KeyboardInterrupt: Ctrl-C, after a checkpoint.
        """
        folder = self._folder
        self._logs = [
            WandbLog(
                wandb,
                folder.path,
                name=cell.name,
                group=f"{folder.path.parent.name}/{folder.path.name}",
                config={**folder.config, **cell.key},
            )
            for cell in self._cells
        ]
        outcome = self._trainer.run(
            measure_at=self._schedule.losses,
            on_measure=self._measure,
            checkpoint=self._checkpoint,
            stop_below=self._stop,
            progress=self._progress,
        )
        for log in self._logs:
            log.finish()
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        for i, cell in enumerate(self._cells):
            diverged_at = outcome.diverged_at[i]
            status = outcome.status if diverged_at is None else "diverged"
            folder.write_weights(cell.name, dict(self._networks[i].named_parameters()))
            folder.write_result(
                cell.name,
                {
                    **cell.key,
                    "status": status,
                    "step": outcome.step if diverged_at is None else diverged_at,
                    "time": outcome.time,
                },
            )
            folder.append_timing(
                {
                    "cell": cell.name,
                    "seconds": outcome.seconds / len(self._cells),
                    "tracker_seconds": self._trackers[i].seconds,
                }
            )
        folder.save_checkpoint({}, {"group": None, "after": self.name})

    def _measure(self, trainer: Trainer) -> None:
        now = _clock(trainer)
        losses = trainer.evaluate()
        wanted = trainer.ended is not None
        kernel_due = wanted or any(self._looked_at < t <= now for t in self._schedule.kernels)
        picture_due = wanted or any(self._looked_at < t <= now for t in self._schedule.pictures)
        for i, cell in enumerate(self._cells):
            tracker = self._trackers[i]
            row: dict[str, Any] = {"step": trainer.step, "time": trainer.time}
            row |= {
                name: value[i] if isinstance(value, list) else value
                for name, value in losses.items()
            }
            if kernel_due and trainer.diverged_at[i] is None:
                row |= tracker.measure(time=now, step=trainer.step)
                if picture_due:
                    self._keep_kernel(cell, trainer.step, i)
                    self._logs[i].log_kernel_picture("kernel", tracker.kernel, now)
            self._folder.append({"cell": cell.name, **cell.key, **row})
            self._logs[i].log(row)
        self._looked_at = now

    def _keep_kernel(self, cell: Cell, step: int, index: int) -> None:
        tracker, network = self._trackers[index], self._networks[index]
        tensors = {"kernel": tracker.kernel}
        if step == 0 and cell.spectrum is not None:
            inputs, targets = cell.task.inputs[: cell.spectrum], cell.task.targets[: cell.spectrum]
            scale = network.gamma.double() ** 2 / targets.shape[1]
            tensors["spectrum_kernel"] = scale * ntk.gram(network, inputs).double()
            tensors["spectrum_targets"] = targets
        self._folder.write_kernel(cell.name, step, tensors)

    def _checkpoint(self, trainer: Trainer) -> None:
        tensors, meta = trainer.state()
        named = {f"trainer.{name}": value for name, value in tensors.items()}
        for i, tracker in enumerate(self._trackers):
            named |= {f"tracker{i}.{name}": v for name, v in tracker.state_dict().items()}
        self._folder.save_checkpoint(
            named, {"group": self.name, "trainer": meta, "looked_at": self._looked_at}
        )

    def _progress(self, trainer: Trainer) -> None:
        losses = ", ".join(f"{loss:.3g}" for loss in trainer.recent_loss)
        # The run may end before its last step: at a loss, or at the last time worth a look.
        share = max(trainer.step / self._optimisation.steps, _clock(trainer) / self._expected)
        self._report(min(share, 1.0), f"{self._cells[0].name}  loss {losses}")


def _clock(trainer: Trainer) -> float:
    return trainer.step if trainer.time is None else trainer.time


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def default_name(config: dict[str, Any]) -> str:
    """Name of a run that was given none: its options in eight characters, the same each time."""
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
