"""What `train.py kernel-evolution` does, piece after piece: parents, children, pairs, linearised.

A group is one parent and all that comes of it: one seed at one gamma0. Its pieces find each other's
weights in the run's folder.
"""

import itertools
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ntkscale import landscape, ntk
from ntkscale.experiments.class_networks import class_network
from ntkscale.experiments.kernel_evolution.settings import (
    EXPERIMENT,
    KernelEvolutionSettings,
)
from ntkscale.experiments.settings import data_folder, resolve_device
from ntkscale.experiments.work import Desk, Piece, Saved, piece_name, save_piece
from ntkscale.networks import ResNet20
from ntkscale.reporting import WandbLog
from ntkscale.runs import load
from ntkscale.tasks import Task, images, two_xor
from ntkscale.tracking import MEMORY, KernelTracker
from ntkscale.tracking.evaluation import evaluating
from ntkscale.training import Linearised, Optimisation, Trainer, spawn

SKIPPED: dict[str, Any] = {"status": "skipped"}
"""The record of a piece whose parent diverged."""
LOOKS = 12
"""Further looks at the kernel, evenly spread, besides those that velocities need."""
_OWN_ORDERS = 1_000_000
"""Seeds of the children's orders of samples begin here, so that none is a parent's."""


@dataclass(frozen=True)
class Plan:
    """One parent and its children, in steps.

    Attributes:
        settings: of the run.
        task: what all learn; classes, with test samples.
        optimisation: how parent and children are trained.
        gamma0: richness; None in the standard parameterization.
        seed: of weights and of the parent's order.
        per_epoch: steps an epoch.
    """

    settings: KernelEvolutionSettings
    task: Task
    optimisation: Optimisation
    gamma0: float | None
    seed: int
    per_epoch: int

    @property
    def key(self) -> dict[str, float | int]:
        """What sets the group apart."""
        richness = {} if self.gamma0 is None else {"gamma0": self.gamma0}
        return {**richness, "seed": self.seed}

    def step(self, epochs: float) -> int:
        """The step nearest to that many epochs."""
        return round(epochs * self.per_epoch)

    @property
    def spacing(self) -> int:
        """Steps over which velocity is read."""
        return max(1, self.step(self.settings.spacing))

    @property
    def spawn_steps(self) -> list[int]:
        """Steps at which children leave."""
        return [self.step(epochs) for epochs in self.settings.spawn]

    @property
    def looks(self) -> list[int]:
        """Steps at which the kernel is measured.

        Every spawn time has a second look one spacing later, for its velocity, and a third one two
        spacings later, which tells drift from the noise of batches.
        """
        last = self.optimisation.steps
        even = {round(last * i / LOOKS) for i in range(LOOKS + 1)}
        starts = [*self.spawn_steps, last - 2 * self.spacing]
        found = even | {start + k * self.spacing for start in starts for k in range(3)}
        return sorted(step for step in found if 0 <= step <= last)

    def build(self) -> nn.Module:
        """The network at its initialisation."""
        settings, task = self.settings, self.task
        device = resolve_device(settings.device)
        if settings.model == "resnet20":
            return ResNet20(
                task.inputs.shape[1], task.outputs, width=settings.width, seed=self.seed
            ).to(device)
        return class_network(
            settings.model, task, width=settings.width, depth=settings.depth, gamma0=self.gamma0,
            seed=self.seed,
        ).to(device)  # fmt: skip


def groups(settings: KernelEvolutionSettings) -> list[list[Piece]]:
    """All pieces, a list for every parent.

    Raises:
        ValueError: batches larger than the training set, or an architecture the images do not fit.
        FileNotFoundError: the data are not there.
    """
    task = load_task(settings)
    if settings.batch_size > len(task.inputs):
        raise ValueError(
            f"--batch-size {settings.batch_size} exceeds the {len(task.inputs)} training samples."
        )
    for option in ("probe", "regression"):
        if getattr(settings, option) > len(task.inputs):
            raise ValueError(
                f"--{option} {getattr(settings, option)} exceeds the {len(task.inputs)} training "
                "samples: lower it."
            )
    per_epoch = len(task.inputs) // settings.batch_size
    optimisation = Optimisation(
        method="momentum" if settings.momentum else "sgd",
        steps=max(1, round(settings.epochs * per_epoch)),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        schedule=settings.schedule,
        augmentation=settings.augmentation,
    )
    steps = [round(epochs * per_epoch) for epochs in settings.spawn]
    if len(set(steps)) < len(steps) or steps[-1] >= optimisation.steps:
        raise ValueError(
            f"--spawn {' '.join(f'{epochs:g}' for epochs in settings.spawn)} are steps "
            f"{', '.join(map(str, steps))} of {optimisation.steps}: give times at different steps, "
            "before the last."
        )
    found = []
    for gamma0 in settings.gamma0 or (None,):
        for seed in settings.seed:
            plan = Plan(settings, task, optimisation, gamma0, seed, per_epoch)
            if seed == settings.seed[0]:
                Trainer(plan.build(), task, optimisation)  # refuses what does not fit
            found.append(_group(plan))
    return found


def load_task(settings: KernelEvolutionSettings) -> Task:
    """The task, with cross-entropy."""
    if settings.data == "two-xor":
        return two_xor(settings.size or 2000, test_size=settings.test_size or 2000, seed=0)
    return images(
        settings.data,
        size=settings.size or None,
        test_size=settings.test_size or None,
        loss="cross-entropy",
        seed=0,
        data_dir=data_folder(settings.data_dir),
        download=settings.download,
    )


def _group(plan: Plan) -> list[Piece]:
    settings = plan.settings
    pieces = [Piece({"part": "parent", **plan.key}, partial(_parent, plan))]
    for position, epochs in enumerate(settings.spawn):
        at = {**plan.key, "spawn": epochs}
        for child in range(settings.children):
            key = {"part": "child", **at, "child": child}
            pieces.append(Piece(key, partial(_child, plan, position, child)))
        if settings.children:
            pieces.append(Piece({"part": "pairs", **at}, partial(_pairs, plan, position)))
        if settings.linear_epochs:
            key = {"part": "linearised", **at}
            pieces.append(Piece(key, partial(_linearised, plan, position)))
    return pieces


def _parent(plan: Plan, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Train the parent; keep its whole state at every spawn time, and its kernel at every look."""
    folder, network = desk.folder, plan.build()
    trainer = Trainer(network, plan.task, plan.optimisation, seed=plan.seed)
    probe = trainer.task.inputs[: plan.settings.probe]
    tracker = KernelTracker(network, probe, eigenvalues=8, directions=8)
    if desk.saved is not None:
        tensors, meta = desk.saved
        trainer.restore(_below("trainer.", tensors), meta)
        tracker.load_state_dict(_below("tracker.", tensors))
    log = WandbLog(
        plan.settings.wandb,
        desk.home,
        name=piece.name,
        group=f"{EXPERIMENT}/{desk.home.name}",
        config={**folder.config, **piece.key},
    )
    spawn_steps = set(plan.spawn_steps)

    def look(now: Trainer) -> None:
        row = tracker.measure(time=now.time, step=now.step) | {"epoch": now.step / plan.per_epoch}
        row |= now.evaluate()
        if now.step in spawn_steps:
            if plan.settings.regression:
                row["regression_error"] = _regression_error(plan, network, now.task)
            folder.write_weights(f"{piece.name},step={now.step}", pack(now.state()))
        kernel = tracker.kernel
        if plan.settings.kernel == "full":
            kernel = _gram(plan, network, probe)
        assert kernel is not None
        folder.write_kernel(piece.name, now.step, {"kernel": kernel.float()})
        folder.append({"cell": piece.name, **piece.key, **row})
        log.log(row)

    def checkpoint(now: Trainer) -> None:
        tensors, meta = now.state()
        named = {f"trainer.{name}": value for name, value in tensors.items()}
        named |= {f"tracker.{name}": value for name, value in tracker.state_dict().items()}
        save_piece(desk, piece, named, meta)

    status = _train(trainer, desk, plan, look, checkpoint)
    log.finish()
    folder.write_weights(piece.name, _state_dict(network))
    return {"status": status, **_errors(trainer)}


def _child(plan: Plan, position: int, child: int, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Train a child from its spawn time to the end."""
    seed = _OWN_ORDERS + 1000 * plan.seed + 10 * position + child
    network, state = plan.build(), _state(plan, desk, position)
    if state is None:
        return SKIPPED
    if desk.saved is None:
        trainer = spawn(network, plan.task, state, seed=seed)
    else:
        trainer = Trainer(network, plan.task, plan.optimisation, seed=seed)
        trainer.restore(*desk.saved)

    def checkpoint(now: Trainer) -> None:
        save_piece(desk, piece, *now.state())

    status = _train(trainer, desk, plan, None, checkpoint)
    desk.folder.write_weights(piece.name, _state_dict(network))
    return {"status": status, **_errors(trainer)}


def _pairs(plan: Plan, position: int, desk: Desk, piece: Piece) -> dict[str, Any]:
    """All measures between the finished children of one spawn time."""
    settings, network, run = plan.settings, plan.build(), load(desk.folder.path)
    at = {**plan.key, "spawn": settings.spawn[position]}
    names = [
        piece_name({"part": "child", **at, "child": child}) for child in range(settings.children)
    ]
    task = plan.task.to(next(network.parameters()).device)
    tested = _test_inputs(task)
    assert task.labels is not None and task.test_labels is not None
    sets = {"train": (task.inputs, task.labels), "test": (tested, task.test_labels)}
    found: dict[str, list[Any]] = {}
    pairs = list(itertools.combinations(range(settings.children), 2))
    for done, (first, second) in enumerate(pairs):
        desk.tell(done / len(pairs), f"children {first} and {second}")
        if any(run.results[names[k]]["status"] != "finished" for k in (first, second)):
            continue
        ends = run.weights(names[first]), run.weights(names[second])
        barriers = landscape.error_barrier(
            network,
            *ends,
            sets,
            batch_norm=settings.batch_norm,
            statistics_inputs=task.inputs if settings.batch_norm == "recompute" else None,
        )
        outputs = [landscape.outputs_at(network, end, tested) for end in ends]
        probe = task.inputs[: settings.probe]
        kernels = [_gram(plan, network, probe, end) for end in ends]
        own: dict[str, Any] = {
            "pair": [first, second],
            "hamming": landscape.pattern_distance(network, *ends, probe),
            "function_distance": landscape.function_distance(*outputs),
            "disagreement": landscape.disagreement(*outputs),
            "kernel_distance": float(ntk.kernel_distance(*kernels)),
        }
        for name, line in barriers.items():
            own[f"{name}_barrier"] = line.barrier
            own[f"{name}_path"] = line.errors.tolist()
            own["batch_norm"] = line.batch_norm
        for name, value in own.items():
            found.setdefault(name, []).append(value)
    return found


def _linearised(plan: Plan, position: int, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Train the network linearised at the parent's weights at one spawn time."""
    network, state = plan.build(), _state(plan, desk, position)
    if state is None:
        return SKIPPED
    network.load_state_dict(_below("model.", state[0]))
    model = Linearised(network)
    settings = plan.settings
    optimisation = Optimisation(
        method=plan.optimisation.method,
        steps=max(1, plan.step(settings.linear_epochs)),
        learning_rate=settings.linear_rate or settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
    )
    trainer = Trainer(model, plan.task, optimisation, seed=_OWN_ORDERS + plan.seed)
    if desk.saved is not None:
        trainer.restore(*desk.saved)

    def checkpoint(now: Trainer) -> None:
        save_piece(desk, piece, *now.state())

    before = _errors(Trainer(Linearised(network), plan.task, optimisation))
    status, after = _train(trainer, desk, plan, None, checkpoint), _errors(trainer)
    # Its loss is convex: one that ends above where it began was trained at too large a rate.
    blown = not after["train_loss"] <= before["train_loss"]
    return {"status": "diverged" if blown else status, **after}


def _train(trainer: Trainer, desk: Desk, plan: Plan, look: Any, checkpoint: Any) -> str:
    """Train to the end.

    Raises:
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
    """

    def progress(now: Trainer) -> None:
        steps = now.optimisation.steps
        desk.tell(now.step / steps, f"epoch {now.step / plan.per_epoch:.1f}")

    outcome = trainer.run(
        measure_at=plan.looks if look is not None else (),
        by_step=True,
        on_measure=look,
        checkpoint=checkpoint,
        progress=progress,
    )
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    return outcome.status


def _errors(trainer: Trainer) -> dict[str, float]:
    found = trainer.evaluate()
    return {
        "train_loss": found["loss"],
        "train_error": 1 - found["accuracy"],
        "test_error": 1 - found["test_accuracy"],
    }


def _regression_error(plan: Plan, network: nn.Module, task: Task) -> float:
    """Test error of kernel regression with the kernel as it is now."""
    count = plan.settings.regression
    inputs, tested = task.inputs[:count], _test_inputs(task)
    assert task.labels is not None and task.test_labels is not None
    with evaluating(network):
        kernel = ntk.gram(network, inputs, memory=MEMORY)
        across = ntk.gram(network, tested, inputs, memory=MEMORY)
    labels = task.labels[:count]
    try:
        outputs = landscape.kernel_regression(kernel, labels, across, classes=task.outputs)
    except ValueError:  # the network is diverging, or its kernel has no rank
        return float("nan")
    return landscape.error_rate(outputs, task.test_labels)


def _gram(
    plan: Plan, network: nn.Module, probe: Tensor, weights: dict[str, Tensor] | None = None
) -> Tensor:
    """Its kernel on the probe, traced over outputs or full; with other weights, if given."""
    model = network if weights is None else (network, weights)
    output = "full" if plan.settings.kernel == "full" else "trace"
    with evaluating(network):
        return ntk.gram(model, probe, output=output, memory=MEMORY)


def _state(plan: Plan, desk: Desk, position: int) -> Saved | None:
    """The parent's whole state at a spawn time; None where it diverged, if only later on."""
    run = load(desk.folder.path)
    name = piece_name({"part": "parent", **plan.key})
    step = plan.spawn_steps[position]
    diverged = run.results[name]["status"] == "diverged"
    return None if diverged else unpack(run.weights(f"{name},step={step}"))


def pack(state: Saved) -> dict[str, Tensor]:
    """Tensors and meta as tensors alone."""
    tensors, meta = state
    text = bytearray(json.dumps(meta).encode())
    return {**tensors, "meta": torch.frombuffer(text, dtype=torch.uint8)}


def unpack(tensors: dict[str, Tensor]) -> Saved:
    """What `pack` was given."""
    rest = {name: value for name, value in tensors.items() if name != "meta"}
    return rest, json.loads(bytes(tensors["meta"].tolist()))


def _state_dict(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _test_inputs(task: Task) -> Tensor:
    assert task.test_inputs is not None  # every task here is loaded with a test set
    return task.test_inputs


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
