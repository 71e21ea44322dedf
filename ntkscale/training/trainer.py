"""The training loop."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ntkscale.tasks import Task
from ntkscale.training.batches import Batches
from ntkscale.training.distributed import data_parallel, rank, ranks, sum_over_ranks, unwrapped
from ntkscale.training.ensemble import Ensemble
from ntkscale.training.evaluation import answers, evaluate, training_losses
from ntkscale.training.flow import FlowStep
from ntkscale.training.interruption import Interruption
from ntkscale.training.losses import LOSSES
from ntkscale.training.optimisation import Optimisation
from ntkscale.training.optimisers import Update
from ntkscale.training.precision import wide

Status = Literal["finished", "stopped", "diverged", "interrupted"]
Adversary = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network as it is, inputs (b, ...), labels (b,)) -> the inputs that a step takes instead."""

_CHECK = 10  # steps between looks at the loss: each look waits for the device
_BLOW_UP = 1e3  # times the initial loss, or that of f = 0
_PROGRESS_SECONDS = 0.2
_NEAR = 1e-9  # a sum of learning rates is this close to a measuring time: it is there


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: ``"finished"`` (steps or horizon reached), ``"stopped"`` (below the loss asked for),
            ``"diverged"`` (every member did), ``"interrupted"`` (resumable).
        step: steps taken.
        time: flow time reached; None for Adam.
        diverged_at: for each member the step at which it was seen to diverge, or None.
        seconds: wall time of this call, callbacks included.
    """

    status: Status
    step: int
    time: float | None
    diverged_at: tuple[int | None, ...]
    seconds: float


class Trainer:
    """Trains a network, or an `Ensemble`, on a task.

    The model may be compiled; under `process_group` every process takes its share of each batch.
    Richness is read from the network itself (`.gamma`, 1 if it has none). Only parameters that
    require gradients are trained, in place.

    Attributes:
        model: what is trained, with its wrappers; `network` is the same without them.
        task: on the device and in the dtype of the parameters.
        members: number of networks trained together.
        step: steps taken.
        learning_rate: eta of the last step, nan before the first.
        recent_loss: loss per member at the last look (every 10 steps), on the batch of that step.
        diverged_at: per member the step at which it was seen to diverge, or None.
        ended: status of a run that is over, or None.

    Raises:
        ValueError: a batch larger than the set, augmentation of inputs that are not images, nothing
            to train; an adversary for a task without labels, for gradient flow or an `Ensemble`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimisation: Optimisation,
        *,
        seed: int = 0,
        observed: int | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        """Prepare; nothing is trained yet.

        Args:
            model: network, or `Ensemble`, with or without its wrappers.
            task: what it learns.
            optimisation: how.
            seed: of the order of samples and of augmentation.
            observed: on how many of the first training samples losses are evaluated; None: all.
            adversary: replaces the inputs of every step by what it makes of them for the network
                as it stands (adversarial training). The same network, inputs and labels must give
                the same inputs, or resuming is not bitwise. What is evaluated stays clean.
        """
        self.model, self.network = data_parallel(model), unwrapped(model)
        self.optimisation, self.seed = optimisation, seed
        self._adversary = adversary
        if adversary is not None:
            _check_attackable(self.network, task, optimisation)
        self._parameters = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        if not self._parameters:
            raise ValueError("the model has no parameter that requires a gradient: unfreeze one.")
        first = next(iter(self._parameters.values()))
        self._device = first.device
        self.task = task.to(first.device, first.dtype)
        self._observed = self.task if observed is None else self.task.first(observed)
        self._loss = LOSSES[self.task.loss]

        gamma = torch.as_tensor(getattr(self.network, "gamma", 1.0), device=self._device)
        self.members = gamma.numel()
        self._single = gamma.ndim == 0
        self._gamma = wide(gamma.detach()).reshape(-1).tolist()
        self._batches = Batches(
            self.task.inputs.shape,
            optimisation.batch_size,
            seed=seed,
            augmentation=optimisation.augmentation,
            rank=rank(),
            ranks=ranks(),
        )
        self._inputs, self._answers = self.task.inputs, answers(self.task)
        self._labels = self.task.labels
        if self._batches.full and ranks() > 1:
            share = self._batches.indices(0).to(self._device)
            self._inputs, self._answers = self._inputs[share], self._answers[share]
            self._labels = None if self._labels is None else self._labels[share]
        self._update = Update(self._parameters, gamma, optimisation)
        self._flow: FlowStep | None = None
        if optimisation.method == "flow":
            self._flow = FlowStep(
                self.network,
                self._parameters,
                self._inputs,
                gamma,
                samples=self._batches.size,
                fraction=optimisation.step_fraction,
                curvature=self._loss.curvature,
                weight_decay=optimisation.weight_decay,
                seed=seed,
            )

        self.step = 0
        self.learning_rate = math.nan
        self.recent_loss = [math.nan] * self.members
        self.diverged_at: list[int | None] = [None] * self.members
        self.ended: Status | None = None
        self._time = 0.0
        self._measured = 0  # measuring times that have passed
        self._measured_step = -1
        self._blow_up: list[float] = []  # loss per member that counts as divergence

    @property
    def time(self) -> float | None:
        """Flow time t, the sum of eta (momentum: of eta / (1 - mu)); None for Adam."""
        return self._time if self.optimisation.has_flow_time else None

    @property
    def running(self) -> list[bool]:
        """Per member, whether it has not diverged."""
        return [step is None for step in self.diverged_at]

    @property
    def complete(self) -> bool:
        """Whether all steps are taken or the horizon is reached."""
        horizon = self.optimisation.horizon
        return self.step >= self.optimisation.steps or (
            horizon is not None and self._reached(horizon)
        )

    def evaluate(self) -> dict[str, Any]:
        """How well the network does now, under schema names: numbers, or lists for an ensemble.

        `loss`, and as far as the task allows `mse`, `accuracy`, `test_mse`, `test_accuracy`, on the
        observed training samples and the whole test set, in chunks, summed in float64; `mse` only
        for tasks trained on it. A network that diverged has whatever numbers it has, nan perhaps.
        """
        rows = evaluate(self.network, self._observed)
        if self._single:
            return {name: values[0] for name, values in rows.items()}
        return rows

    def run(
        self,
        *,
        measure_at: Sequence[float] = (),
        by_step: bool = False,
        on_measure: Callable[["Trainer"], object] | None = None,
        checkpoint: Callable[["Trainer"], object] | None = None,
        checkpoint_seconds: float = 20.0,
        stop_below: float | None = None,
        progress: Callable[["Trainer"], object] | None = None,
    ) -> Outcome:
        """Train until steps or horizon are reached, or something else ends the run.

        Args:
            measure_at: flow times (Adam: steps) at which to measure, besides the start and the end.
                Gradient flow lands on them exactly; other methods measure after the first step that
                reaches them, once if a step passes several.
            by_step: `measure_at` counts steps, whatever the method; not for gradient flow.
            on_measure: called at those moments, on rank 0 alone, as are the other callbacks.
            checkpoint: called every `checkpoint_seconds` of wall time and when the run ends or is
                interrupted, always between steps; `state` gives it what to save.
            checkpoint_seconds: see above.
            stop_below: end as ``"stopped"`` when the mse (cross-entropy: the loss) of every running
                member is below. Full batches: looked at every 10 steps; mini-batches: on the whole
                training set once an epoch.
            progress: called every .2 seconds or less often.

        Returns:
            How it ended. Divergence (a loss that is not finite, or 1000 times that of the start and
            of f = 0) is a result like others, and so is Ctrl-C, which lets the step finish and
            calls `checkpoint`. After `restore` pass the same arguments; a run that is over returns
            at once.

        Raises:
            ValueError: a measuring time that is negative or not finite, steps in gradient flow; a
                zero kernel there.
        """
        started = saved = shown = time.monotonic()
        targets = _targets(measure_at)
        if by_step and self._flow is not None:
            raise ValueError("gradient flow chooses its steps: give measure_at in flow time.")

        def passed(target: float) -> bool:
            return self.step >= target if by_step else self._reached(target)

        if rank() != 0:
            on_measure = checkpoint = progress = None
        if not self._blow_up:
            self._blow_up = [_BLOW_UP * loss for loss in self._initial_losses()]

        status = self.ended
        with Interruption() as interruption:
            while status is None:
                if self._measured < len(targets) and passed(targets[self._measured]):
                    self._measured = sum(map(passed, targets))
                    self._measure(on_measure)
                status = self._status(stop_below, interruption)
                if status is not None:
                    break
                now = time.monotonic()
                if checkpoint is not None and now - saved >= checkpoint_seconds:
                    checkpoint(self)
                    saved = time.monotonic()
                if progress is not None and now - shown >= _PROGRESS_SECONDS:
                    progress(self)
                    shown = now
                self._advance(targets[self._measured] if self._measured < len(targets) else None)

            if status != "interrupted" and self.ended is None:
                self.ended = status
                self._measure(on_measure)
            if checkpoint is not None:
                checkpoint(self)
        seconds = time.monotonic() - started
        return Outcome(status, self.step, self.time, tuple(self.diverged_at), seconds)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything a bitwise resumption needs: tensors on the CPU (copies), and JSON-able rest.

        The tensors are ``model.*`` (parameters and buffers), ``optimiser.*`` and ``flow.*``. Taking
        the state leaves the run as it is.
        """
        tensors = {f"model.{name}": value for name, value in self._named_tensors().items()}
        tensors |= {f"optimiser.{name}": value for name, value in self._update.state().items()}
        meta: dict[str, Any] = {
            "optimisation": asdict(self.optimisation),
            "seed": self.seed,
            "gamma": self._gamma,
            "step": self.step,
            "time": self._time,
            "learning_rate": _to_json(self.learning_rate),
            "recent_loss": [_to_json(loss) for loss in self.recent_loss],
            "diverged_at": self.diverged_at.copy(),
            "blow_up": self._blow_up.copy(),
            "measured": self._measured,
            "measured_step": self._measured_step,
            "ended": self.ended,
        }
        if self._flow is not None:
            vector, meta["flow"] = self._flow.state()
            tensors |= {f"flow.{name}": value for name, value in vector.items()}
        return {n: v.detach().to("cpu", copy=True) for n, v in tensors.items()}, meta

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue where `state` was taken, by a trainer built in the same way.

        Raises:
            ValueError: the state is of another optimisation, seed, richness or network.
        """
        mine = {"optimisation": asdict(self.optimisation), "seed": self.seed, "gamma": self._gamma}
        for name, value in mine.items():
            if meta[name] != value:
                raise ValueError(
                    f"the checkpoint was made with {name} {meta[name]}, this run has {value}: "
                    "resume with the same options or start a new run."
                )
        for name, value in self._named_tensors().items():
            saved = tensors.get(f"model.{name}")
            if saved is None or saved.shape != value.shape:
                raise ValueError(
                    f"the checkpoint has no {name} of shape {tuple(value.shape)}: it belongs to "
                    "another network; resume with the same options or start a new run."
                )
            value.copy_(saved)
        self._update.restore(_below("optimiser.", tensors))
        if self._flow is not None:
            self._flow.restore(_below("flow.", tensors), meta["flow"])
        self.step, self._time = int(meta["step"]), float(meta["time"])
        self.learning_rate = _from_json(meta["learning_rate"])
        self.recent_loss = [_from_json(loss) for loss in meta["recent_loss"]]
        self.diverged_at, self._blow_up = list(meta["diverged_at"]), list(meta["blow_up"])
        self._measured, self._measured_step = meta["measured"], meta["measured_step"]
        self.ended = meta["ended"]
        if not all(self.running):
            self._update.freeze(~torch.tensor(self.running))

    def _advance(self, target: float | None) -> None:
        """One step; gradient flow shortens it to end exactly at `target` or the horizon."""
        eta = self._step_size(target)
        if math.isnan(eta):
            return
        inputs, targets = self._batch()
        outputs = self.model(inputs)
        values = outputs.detach()
        if self.step % _CHECK == 0:
            self._look(values, targets)
            if not any(self.running):
                return
        # Processes average their gradients, so each multiplies its share by their number.
        gradient = self._loss.gradient(values, targets) * (ranks() / self._batches.size)
        outputs.backward(gradient)
        self._update.apply(eta)
        self.step += 1
        self.learning_rate = eta
        self._time += self.optimisation.flow_time(eta)
        if self._flow is not None and (stop := self._stop(target)) is not None:
            self._time = stop if self._reached(stop) else self._time

    def _step_size(self, target: float | None) -> float:
        """eta of this step; nan if a kernel overflowed, whose member then counts as diverged."""
        if self._flow is None:
            return self.optimisation.learning_rate_at(self.step)
        running = None if all(self.running) else torch.tensor(self.running, device=self._device)
        eta = self._flow.eta(self.step, running)
        if math.isnan(eta):
            self._mark_diverged([not finite for finite in self._flow.finite.reshape(-1).tolist()])
        elif (stop := self._stop(target)) is not None and self._time + eta >= stop * (1 - _NEAR):
            return stop - self._time
        return eta

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and answers of this step, our share of them."""
        inputs, targets, labels = self._inputs, self._answers, self._labels
        if not self._batches.full:
            chosen = self._batches.indices(self.step).to(self._device)
            inputs, targets = inputs[chosen], targets[chosen]
            labels = None if labels is None else labels[chosen]
        inputs = self._batches.augment(inputs, self.step)
        if self._adversary is not None:
            assert labels is not None  # refused at the start
            attacked = self._adversary(self.network, inputs, labels).detach()
            if attacked.shape != inputs.shape:
                raise ValueError(
                    f"the adversary made {tuple(attacked.shape)} of inputs {tuple(inputs.shape)}: "
                    "it must return one input for each."
                )
            inputs = attacked
        return inputs, targets

    def _look(self, outputs: Tensor, targets: Tensor) -> None:
        """Read the losses of this batch and mark the members that diverged."""
        losses = self._loss.value(outputs, targets) / self._batches.size
        sum_over_ranks([losses])
        self.recent_loss = losses.reshape(-1).tolist()
        limits = zip(self.recent_loss, self._blow_up, strict=True)
        self._mark_diverged([not loss <= limit for loss, limit in limits])

    def _mark_diverged(self, now: list[bool]) -> None:
        fresh = [run and bad for run, bad in zip(self.running, now, strict=True)]
        if any(fresh):
            marks = zip(self.diverged_at, fresh, strict=True)
            self.diverged_at = [self.step if new else old for old, new in marks]
            self._update.freeze(~torch.tensor(self.running))

    def _status(self, stop_below: float | None, interruption: Interruption) -> Status | None:
        """Why the run is over, or None."""
        if not any(self.running):
            return "diverged"
        if self.complete:
            # The last look is some steps old.
            losses = training_losses(self.network, self._observed)
            limits = zip(losses, self._blow_up, strict=True)
            self._mark_diverged([not loss <= limit for loss, limit in limits])
            return "finished" if any(self.running) else "diverged"
        if stop_below is not None and self._is_below(stop_below):
            return "stopped"
        if (ranks() == 1 or self.step % _CHECK == 0) and interruption.anywhere(self._device):
            return "interrupted"
        return None

    def _is_below(self, stop_below: float) -> bool:
        losses = self.recent_loss
        if not self._batches.full or self.optimisation.augmentation != "none":
            if self.step % self._batches.per_epoch:
                return False
            losses = training_losses(self.network, self._observed)
        factor = 2 if self.task.loss == "mse" else 1
        pairs = zip(losses, self.running, strict=True)
        return all(factor * loss < stop_below for loss, running in pairs if running)

    def _initial_losses(self) -> list[float]:
        """Loss per member now, or that of f = 0 if it is larger (a network may start trained)."""
        losses = training_losses(self.network, self._observed)
        zeros = torch.zeros_like(self._observed.targets)
        silent = float(self._loss.value(zeros, answers(self._observed))) / len(zeros)
        return [max(loss, silent) for loss in losses]

    def _measure(self, on_measure: Callable[["Trainer"], object] | None) -> None:
        """Measure, unless this step was measured already."""
        if self._measured_step != self.step:
            self._measured_step = self.step
            if on_measure is not None:
                on_measure(self)

    def _reached(self, target: float) -> bool:
        clock = self._time if self.optimisation.has_flow_time else self.step
        return clock >= target * (1 - _NEAR)

    def _stop(self, target: float | None) -> float | None:
        """Where gradient flow has to land next: a measuring time or the horizon."""
        stops = [stop for stop in (target, self.optimisation.horizon) if stop is not None]
        return min(stops) if stops else None

    def _named_tensors(self) -> dict[str, Tensor]:
        return dict(self.network.named_parameters()) | dict(self.network.named_buffers())


def _check_attackable(network: nn.Module, task: Task, optimisation: Optimisation) -> None:
    if task.labels is None:
        raise ValueError("an adversary needs labels, and the task has none: give it labels.")
    if optimisation.method == "flow":
        raise ValueError(
            "gradient flow has no adversary, as its steps follow the kernel of the clean inputs: "
            "choose method 'sgd'."
        )
    if isinstance(network, Ensemble):
        raise ValueError("an ensemble has no adversary: train its members one by one.")


def _targets(measure_at: Sequence[float]) -> list[float]:
    for moment in measure_at:
        if not (math.isfinite(moment) and moment >= 0):
            raise ValueError(f"measuring time {moment} is not a time of at least 0: drop it.")
    return sorted({0.0, *map(float, measure_at)})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _to_json(value: float) -> float | str:
    """JSON has no nan and no infinities."""
    return value if math.isfinite(value) else str(value)


def _from_json(value: float | str) -> float:
    return float(value)
