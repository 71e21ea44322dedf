"""Cells trained together: one trainer, and for each cell a tracker, a record and a W&B run."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.experiments.cells import Cell
from ntkscale.experiments.settings import WandbMode
from ntkscale.experiments.theory_curve import lazy_curve
from ntkscale.reporting import WandbLog
from ntkscale.runs import RunFolder
from ntkscale.tracking import MEMORY, KernelTracker
from ntkscale.training import Ensemble, Optimisation, Outcome, Trainer, linearised_flow


class CellGroup:
    """A group of cells on their way through training.

    On all processes but the first there is no folder, and nothing is recorded.

    Attributes:
        name: of all its cells; a checkpoint carries it.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        cells: Sequence[Cell],
        optimisation: Optimisation,
        device: torch.device,
        home: Path,
        report: Callable[[float, str], None],
    ) -> None:
        """Build networks, trainer and trackers.

        Args:
            folder: where to record.
            cells: of equal shape; they differ in seed alone, or in gamma0.
            optimisation: how they are trained.
            device: where they live.
            home: folder of the whole run; W&B's files lie there, its name is their group.
            report: called with the share done and a text, for a progress bar.
        """
        self.name = " + ".join(cell.name for cell in cells)
        networks = [cell.build().to(device) for cell in cells]
        self._folder, self._cells, self._networks = folder, cells, networks
        eta = cells[0].learning_rate or optimisation.learning_rate
        self._optimisation = replace(optimisation, horizon=cells[0].horizon, learning_rate=eta)
        self._home, self._report = home, report
        self._schedule = cells[0].schedule
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
        self._trainer = Trainer(
            model,
            cells[0].task,
            self._optimisation,
            seed=int(cells[0].key["seed"]),
            observed=cells[0].observed,
        )
        inputs, targets = self._trainer.task.inputs, self._trainer.task.targets
        self._trackers = [
            KernelTracker(network, inputs[: cell.probe], targets[: cell.probe], by_layer=True)
            for cell, network in zip(cells, networks, strict=True)
        ]
        self._logs: list[WandbLog] = []
        self._looked_at = -1.0
        self._spectrum_seconds = 0.0

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
        if folder is not None:
            self._logs = [
                WandbLog(
                    wandb,
                    self._home,
                    name=cell.name,
                    group=f"{self._home.parent.name}/{self._home.name}",
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
        if folder is not None:
            self._conclude(folder, outcome)

    def _conclude(self, folder: RunFolder, outcome: Outcome) -> None:
        for i, cell in enumerate(self._cells):
            diverged_at = outcome.diverged_at[i]
            ending = {
                "status": outcome.status if diverged_at is None else "diverged",
                "step": outcome.step if diverged_at is None else diverged_at,
                "time": outcome.time if diverged_at is None else None,
            }
            folder.write_weights(cell.name, dict(self._networks[i].named_parameters()))
            folder.write_result(cell.name, {**cell.key, **ending})
            folder.append_timing(
                {
                    "cell": cell.name,
                    "seconds": outcome.seconds / len(self._cells),
                    "tracker_seconds": self._trackers[i].seconds,
                    "spectrum_seconds": self._spectrum_seconds / len(self._cells),
                }
            )
        folder.save_checkpoint({}, {"group": None, "after": self.name})

    def _measure(self, trainer: Trainer) -> None:
        assert self._folder is not None  # the trainer calls back on the first process alone
        now = _clock(trainer)
        reached = now * (1 + 1e-9)  # a sum of learning rates ends next to the time meant
        losses = trainer.evaluate()
        always = trainer.step == 0 or trainer.ended is not None
        kernel_due = always or any(self._looked_at < t <= reached for t in self._schedule.kernels)
        picture_due = always or any(self._looked_at < t <= reached for t in self._schedule.pictures)
        for i, cell in enumerate(self._cells):
            tracker = self._trackers[i]
            row: dict[str, Any] = {"step": trainer.step, "time": trainer.time}
            row["learning_rate"] = trainer.learning_rate
            row |= {
                name: value[i] if isinstance(value, list) else value
                for name, value in losses.items()
            }
            if kernel_due and trainer.diverged_at[i] is None:
                # The row's own time comes last: it is null for Adam, whose clock counts steps.
                row = tracker.measure(time=now, step=trainer.step) | row
                if picture_due:
                    kernels = self._kernels(i, trainer.step)
                    self._folder.write_kernel(cell.name, trainer.step, kernels)
                    self._logs[i].log_kernel_picture("kernel", kernels["kernel"].numpy(), now)
                    if trainer.step == 0 and trainer.time is not None:
                        self._log_theory(i, kernels)
            self._folder.append({"cell": cell.name, **cell.key, **row})
            self._logs[i].log(row)
        self._looked_at = reached

    def _log_theory(self, index: int, start: dict[str, Tensor]) -> None:
        """Give the dashboard the whole curve that theory expects, before the network goes there."""
        if self._logs[index].recording:
            network, task = self._networks[index], self._trainer.task
            looks = [t for t in self._schedule.losses if t <= self._schedule.expected_end]
            for t, mse in zip(*lazy_curve(start, network, task, looks), strict=True):
                self._logs[index].log({"time": t, "theory_mse": mse})

    def _kernels(self, index: int, step: int) -> dict[str, Tensor]:
        """The kernel just measured; at first also what the start predicts.

        That is the spectrum of the kernel on more samples, with the targets' coefficients on each
        eigenvector, for alpha and beta; and the curves of the linearised network.
        """
        tracker, cell, network = self._trackers[index], self._cells[index], self._networks[index]
        assert tracker.kernel is not None
        tensors = {"kernel": tracker.kernel}
        if step == 0 and cell.spectrum is not None:
            task = self._trainer.task
            inputs, targets = task.inputs[: cell.spectrum], task.targets[: cell.spectrum]
            scale = float(network.gamma) ** 2 / targets.shape[1]
            started = time.perf_counter()
            kernel = scale * ntk.gram(
                network, inputs, memory=MEMORY, progress=self._blocks("kernel at the start")
            )
            values, vectors = ntk.eigensystem(kernel.to("cpu", torch.float64) / len(targets))
            along = vectors.T @ targets.to("cpu", torch.float64)
            tensors["spectrum_eigenvalues"] = values
            tensors["spectrum_coefficients"] = along / len(targets) ** 0.5
            self._spectrum_seconds += time.perf_counter() - started
        if step == 0 and cell.linearised:
            started = time.perf_counter()
            task = self._trainer.task.to(dtype=torch.float64)
            said = linearised_flow(
                network,
                task,
                self._schedule.losses,
                memory=MEMORY,
                progress=self._blocks("linearised network"),
            )
            tensors["linearised_times"], tensors["linearised_mse"] = said.times, said.mse
            if said.test_mse is not None:
                tensors["linearised_test_mse"] = said.test_mse
            self._spectrum_seconds += time.perf_counter() - started
        return tensors

    def _blocks(self, what: str) -> Callable[[int, int], object]:
        name = self._cells[0].name
        return lambda done, total: self._report(0.0, f"{name}  {what} {done / total:.0%}")

    def _checkpoint(self, trainer: Trainer) -> None:
        assert self._folder is not None
        tensors, meta = trainer.state()
        named = {f"trainer.{name}": value for name, value in tensors.items()}
        for i, tracker in enumerate(self._trackers):
            named |= {f"tracker{i}.{name}": v for name, v in tracker.state_dict().items()}
        self._folder.save_checkpoint(
            named, {"group": self.name, "trainer": meta, "looked_at": self._looked_at}
        )

    def _progress(self, trainer: Trainer) -> None:
        seen = [loss for loss in trainer.recent_loss if not math.isnan(loss)]
        losses = ", ".join(f"{loss:.3g}" for loss in seen) or "not looked at yet"
        # The run may end before its last step: at a loss, or at the last time worth a look.
        share = max(
            trainer.step / self._optimisation.steps, _clock(trainer) / self._schedule.expected_end
        )
        late = "  longer than expected" if share > 1 else ""
        self._report(min(share, 1.0), f"{self._cells[0].name}  loss {losses}{late}")


def _clock(trainer: Trainer) -> float:
    return trainer.step if trainer.time is None else trainer.time


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
