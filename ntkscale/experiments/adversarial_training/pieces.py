"""What `train.py adversarial-training` does: networks, their kernels, linearised ones.

A group is one network and all that comes of it: one attack, one seed, one gamma0. Its pieces find
each other's weights and kernels in the run's folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.experiments.adversarial_training.attacks import Attacks
from ntkscale.experiments.adversarial_training.kernels import CLEAN, PROBES, path_record, shares
from ntkscale.experiments.adversarial_training.settings import (
    EXPERIMENT,
    AdversarialTrainingSettings,
)
from ntkscale.experiments.class_networks import class_network
from ntkscale.experiments.settings import data_folder, resolve_device
from ntkscale.experiments.work import Desk, Piece, piece_name, save_piece
from ntkscale.reporting import WandbLog
from ntkscale.runs import load
from ntkscale.tasks import Task, images
from ntkscale.tracking import MEMORY, KernelTracker
from ntkscale.tracking.evaluation import evaluating
from ntkscale.training import Linearised, Optimisation, Trainer

SKIPPED: dict[str, Any] = {"status": "skipped"}
"""The record of a piece whose network diverged."""
STRIP = 8
"""Test images that are kept clean and attacked, for the pictures."""
TITLES = {"none": "standard", "fgsm": "FGSM", "pgd": "PGD"}
"""What trainings are called, by the attack in them."""


@dataclass(frozen=True)
class Plan:
    """One network.

    Attributes:
        settings: of the run.
        task: what all learn, pixels from 0 to 1; with test samples.
        optimisation: how it is trained.
        attack: what it is trained against.
        gamma0: richness; None in the standard parameterization.
        seed: of weights and order.
        per_epoch: steps an epoch.
    """

    settings: AdversarialTrainingSettings
    task: Task
    optimisation: Optimisation
    attack: str
    gamma0: float | None
    seed: int
    per_epoch: int

    @property
    def attacks(self) -> Attacks:
        """The attacks of training and of evaluation."""
        own = self.settings
        return Attacks(own.eps / 255, own.train_steps, own.step_size / 255, own.eval_steps)

    @property
    def key(self) -> dict[str, float | int]:
        """What sets the group apart, but for the attack."""
        richness = {} if self.gamma0 is None else {"gamma0": self.gamma0}
        return {**richness, "seed": self.seed}

    def piece(self, part: str = "", **more: float) -> dict[str, Any]:
        """The key of a piece of the group; of the network itself without `part`."""
        kind = TITLES[self.attack].lower()
        return {"part": f"{kind}-{part}" if part else kind, **self.key, **more}

    def step(self, epochs: float) -> int:
        """The step nearest to that many epochs."""
        return round(epochs * self.per_epoch)

    @property
    def looks(self) -> list[int]:
        """Steps at which the kernel is measured: 0, 1/4, 1/2, 1, 2 ... epochs, and the end."""
        last = self.optimisation.steps
        epochs = [0.0, 0.25, 0.5, *range(1, int(self.settings.epochs) + 1)]
        return sorted({min(self.step(e), last) for e in epochs} | {last})

    @property
    def spawns(self) -> dict[int, float]:
        """Steps at which linearised training begins, with their epochs; none for standard ones."""
        if self.attack == "none" or not self.settings.linear_epochs:
            return {}
        return {self.step(epochs): epochs for epochs in self.settings.linear_spawn}

    def build(self) -> nn.Module:
        """The network at its initialisation."""
        own = self.settings
        network = class_network(
            own.model, self.task, width=own.width, depth=own.depth, gamma0=self.gamma0,
            seed=self.seed,
        )  # fmt: skip
        return network.to(resolve_device(own.device))


def load_task(settings: AdversarialTrainingSettings) -> Task:
    """The task, with cross-entropy, in pixels from 0 to 1."""
    chosen = settings.classes
    return images(
        settings.data,
        size=settings.size or None,
        test_size=settings.test_size or None,
        classes=(chosen[0], chosen[1]) if chosen else "all",
        loss="cross-entropy",
        scale="pixels",
        seed=0,
        data_dir=data_folder(settings.data_dir),
        download=settings.download,
    )


def groups(settings: AdversarialTrainingSettings) -> list[list[Piece]]:
    """All pieces, a list for every network.

    Raises:
        ValueError: batches or a probe larger than the training set, spawn times at one step.
        FileNotFoundError: the data are not there.
    """
    task = load_task(settings)
    for option in ("batch_size", "probe"):
        if getattr(settings, option) > len(task.inputs):
            raise ValueError(
                f"--{option.replace('_', '-')} {getattr(settings, option)} exceeds the "
                f"{len(task.inputs)} training samples: lower it."
            )
    per_epoch = len(task.inputs) // settings.batch_size
    optimisation = Optimisation(
        steps=round(settings.epochs * per_epoch),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
    )
    found = []
    for gamma0 in settings.gamma0 or (None,):
        for seed in settings.seed:
            for attack in settings.attack:
                plan = Plan(settings, task, optimisation, attack, gamma0, seed, per_epoch)
                if len(plan.spawns) < len(settings.linear_spawn) and plan.spawns:
                    raise ValueError(
                        f"--linear-spawn {' '.join(f'{e:g}' for e in settings.linear_spawn)} has "
                        f"times at one and the same of {per_epoch} steps an epoch: spread them."
                    )
                found.append(_group(plan))
    return found


def _group(plan: Plan) -> list[Piece]:
    pieces = [
        Piece(plan.piece(), partial(_network, plan)),
        Piece(plan.piece("kernels"), partial(_kernels, plan)),
    ]
    for step, epochs in plan.spawns.items():
        key = plan.piece("linearised", spawn=epochs)
        pieces.append(Piece(key, partial(_linearised, plan, step)))
    return pieces


def _network(plan: Plan, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Train the network; keep its kernels at every look, its weights at every spawn time."""
    folder, network = desk.folder, plan.build()
    trainer = Trainer(
        network,
        plan.task,
        plan.optimisation,
        seed=plan.seed,
        adversary=plan.attacks.adversary(plan.attack),
    )
    count, task = plan.settings.probe, trainer.task
    assert task.labels is not None
    probe, labels = task.inputs[:count], task.labels[:count]
    tracker = KernelTracker(network, probe, eigenvalues=8, directions=8)
    first: dict[str, Tensor] = {}  # the kernel on the probe attacked at the start
    if desk.saved is not None:
        tensors, meta = desk.saved
        trainer.restore(_below("trainer.", tensors), meta)
        tracker.load_state_dict(_below("tracker.", tensors))
        first = _below("first.", tensors)
    log = WandbLog(
        plan.settings.wandb,
        desk.home,
        name=piece.name,
        group=f"{EXPERIMENT}/{desk.home.name}",
        config={**folder.config, **piece.key},
    )

    def look(now: Trainer) -> None:
        row = tracker.measure(time=now.time, step=now.step) | {"epoch": now.step / plan.per_epoch}
        row |= now.evaluate() | plan.attacks.accuracies(network, now.task)
        kernels: dict[str, Tensor] = {}
        attacked = plan.attacks.on(network, probe, labels)
        for name, inputs in zip(PROBES, (probe, attacked), strict=True):
            kernels[name] = _gram(plan, network, inputs)
            prefix = "" if name == CLEAN else f"{name}_"
            row |= {f"{prefix}{n}": v for n, v in shares(kernels[name], plan.settings.top).items()}
            if name != CLEAN:
                start = first.setdefault("kernel", kernels[name])
                row[f"{prefix}kernel_distance"] = float(ntk.kernel_distance(start, kernels[name]))
                row[f"{prefix}kernel_change"] = float(ntk.kernel_change(start, kernels[name]))
        folder.write_kernel(piece.name, now.step, {n: k.float() for n, k in kernels.items()})
        if now.step in plan.spawns:
            folder.write_weights(_at(piece.name, now.step), _cpu(network.state_dict()))
        folder.append({"cell": piece.name, **piece.key, **row})
        log.log(row)

    def checkpoint(now: Trainer) -> None:
        tensors, meta = now.state()
        named = {f"trainer.{name}": value for name, value in tensors.items()}
        named |= {f"tracker.{name}": value for name, value in tracker.state_dict().items()}
        named |= {f"first.{name}": value for name, value in first.items()}
        save_piece(desk, piece, named, meta)

    status = _train(trainer, desk, plan, look, checkpoint)
    log.finish()
    folder.write_weights(piece.name, _cpu(network.state_dict()))
    record: dict[str, Any] = {"attack": plan.attack, "status": status}
    if status == "finished":
        folder.write_weights(f"{piece.name},images", _strip(plan, network, trainer.task))
        record["worst_accuracy"] = plan.attacks.worst(network, trainer.task)
    return record


def _kernels(plan: Plan, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Distances, growth and rotation along the path of both kernels, from those on disk."""
    run = load(desk.folder.path)
    name = _name(plan)
    if run.results[name]["status"] != "finished":
        return SKIPPED
    steps = run.kernels.steps(name)
    record: dict[str, Any] = {"status": "finished", "step": steps}
    for position, probe in enumerate(PROBES):
        desk.tell(position / len(PROBES), f"{probe} probe")
        path = [run.kernels[name, step][probe].double() for step in steps]
        if any(not 0 < float(kernel.norm()) < float("inf") for kernel in path):
            return {"status": "dead"}
        record[probe] = path_record(path, plan.settings.top)
    return record


def _linearised(plan: Plan, step: int, desk: Desk, piece: Piece) -> dict[str, Any]:
    """Continue adversarial training with the network linearised at one spawn time."""
    run = load(desk.folder.path)
    name = _name(plan)
    if run.results[name]["status"] != "finished":
        return SKIPPED
    network = plan.build()
    network.load_state_dict(run.weights(_at(name, step)))
    model, settings = Linearised(network), plan.settings
    optimisation = Optimisation(
        steps=max(1, plan.step(settings.linear_epochs)),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
    )
    # The attack is on the linearised model: that is what is trained.
    trainer = Trainer(
        model,
        plan.task,
        optimisation,
        seed=1_000_000 + plan.seed,  # its own order of samples
        adversary=plan.attacks.adversary(plan.attack),
    )
    if desk.saved is not None:
        trainer.restore(*desk.saved)

    def checkpoint(now: Trainer) -> None:
        save_piece(desk, piece, *now.state())

    status = _train(trainer, desk, plan, None, checkpoint)
    if status != "finished":
        return {"status": status}
    desk.folder.write_weights(piece.name, _cpu(model.displacements))
    network.load_state_dict(run.weights(name))  # at its end, to attack through
    found = trainer.evaluate() | plan.attacks.accuracies(model, trainer.task)
    found["worst_accuracy"] = plan.attacks.worst(model, trainer.task, [network.eval()])
    return {"status": status, **found}


def _train(trainer: Trainer, desk: Desk, plan: Plan, look: Any, checkpoint: Any) -> str:
    """Train to the end.

    Raises:
        KeyboardInterrupt: Ctrl-C, after a checkpoint.
    """

    def progress(now: Trainer) -> None:
        steps = now.optimisation.steps
        desk.tell(now.step / steps, f"epoch {now.step / plan.per_epoch:.1f}")

    moments = sorted({*plan.looks, *plan.spawns}) if look is not None else ()
    outcome = trainer.run(
        measure_at=moments,
        by_step=True,
        on_measure=look,
        checkpoint=checkpoint,
        progress=progress,
    )
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    return outcome.status


def _gram(plan: Plan, network: nn.Module, inputs: Tensor) -> Tensor:
    """gamma^2 J J^T in float64 on the processor: averaged over the C outputs, or full."""
    full = plan.settings.kernel == "full"
    with evaluating(network):
        kernel = ntk.gram(network, inputs, output="full" if full else "trace", memory=MEMORY)
    gamma = float(torch.as_tensor(getattr(network, "gamma", 1.0)))
    scale = gamma**2 / (1 if full else plan.task.outputs)
    return scale * kernel.detach().to("cpu", torch.float64)


@torch.no_grad()
def _strip(plan: Plan, network: nn.Module, task: Task) -> dict[str, Tensor]:
    """The first test images, clean and attacked, with the classes the network sees in them."""
    assert task.test_inputs is not None and task.test_labels is not None
    clean, labels = task.test_inputs[:STRIP], task.test_labels[:STRIP]
    attacked = plan.attacks.on(network, clean, labels)
    found = {"clean": clean, "attacked": attacked, "labels": labels}
    found |= {"seen": network(clean).argmax(1), "seen_attacked": network(attacked).argmax(1)}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}


def _name(plan: Plan) -> str:
    return piece_name(plan.piece())


def _at(name: str, step: int) -> str:
    return f"{name},step={step}"


def _cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training does not change."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
