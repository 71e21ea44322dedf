"""Pieces of the part `transfer`: attacks made on a kernel, tried on networks that were trained.

Kernel and networks learn the same samples by gradient flow; the networks are attacked at equal flow
times, and at the end also at equal training loss, where rich networks are far earlier than the
kernel.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ntkscale.experiments.adversarial_kernel.models import (
    Pair,
    build,
    limit_of_networks,
    pair_task,
    tested,
)
from ntkscale.experiments.adversarial_kernel.settings import EXPERIMENT, AdversarialKernelSettings
from ntkscale.experiments.work import Desk, Piece, save_piece
from ntkscale.reporting import WandbLog
from ntkscale.robustness import (
    Expansion,
    KernelPredictor,
    Model,
    NetworkKernel,
    gradient_cosine,
    transfer,
)
from ntkscale.tasks import Task
from ntkscale.training import Optimisation, Trainer

LOOKS = 13
"""Flow times at which networks are attacked, from a thousandth of the last."""
_MOST_STEPS = 200_000


def transfer_pieces(settings: AdversarialKernelSettings, pair: Pair, seed: int) -> list[Piece]:
    """The kernel of one pair and seed, networks over widths, and over gamma0."""
    if "transfer" not in settings.parts:
        return []
    key: dict[str, Any] = {"a": pair[0], "b": pair[1], "seed": seed}
    found = [Piece({"part": "kernel", **key}, partial(_source, settings, pair, seed))]
    sizes = [(width, None) for width in settings.width]
    sizes += [(settings.ladder_width, gamma0) for gamma0 in settings.gamma0]
    for width, gamma0 in sizes:
        own = {**key, "width": width} | ({} if gamma0 is None else {"gamma0": gamma0})
        work = partial(_network, settings, pair, seed, width, gamma0)
        found.append(Piece({"part": "network", **own}, work))
    return found


def look_times(settings: AdversarialKernelSettings) -> list[float]:
    """Flow times at which kernel and networks are compared."""
    last = settings.transfer_time
    return np.geomspace(last / 1000, last, LOOKS).tolist()


def training_mse(predictor: KernelPredictor, time: float) -> float:
    """Mean squared error of f_t on the training points of a kernel of one output."""
    along = (predictor.eigenvectors.mT @ predictor.targets)[:, 0]
    left = torch.exp(-predictor.eigenvalues * time) * along
    return float(left.square().mean())


def time_of_mse(predictor: KernelPredictor, mse: float) -> float:
    """Flow time at which the kernel's training mse has fallen to `mse`; inf if it never does."""
    low, high = 0.0, 1.0
    while training_mse(predictor, high) > mse:
        low, high = high, 2 * high
        if high > 1e12:
            return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if training_mse(predictor, middle) > mse else (low, middle)
    return high


def _fitted(
    settings: AdversarialKernelSettings, pair: Pair, seed: int
) -> tuple[Task, KernelPredictor]:
    task = pair_task(settings, pair, seed, settings.transfer_size)
    kernel = limit_of_networks(settings, task)
    return task, KernelPredictor(kernel, task.inputs, task.targets)


def _source(
    settings: AdversarialKernelSettings, pair: Pair, seed: int, desk: Desk, piece: Piece
) -> dict[str, Any]:
    """The kernel itself under its own attack, at every look."""
    task, source = _fitted(settings, pair, seed)
    x, labels = tested(task)
    row: dict[str, float] = {}
    for time in look_times(settings):
        found = transfer(source.at(time), {}, x, labels, settings.threat(settings.eps[0]))
        row = {
            "time": time,
            "mse": training_mse(source, time),
            "test_accuracy": found.accuracy("clean").value,
            "noise_accuracy": found.accuracy("random signs").value,
            "fgsm_accuracy": found.accuracy("own").value,
        }
        desk.folder.append({"cell": piece.name, **piece.key, **row})
    return row


def _network(
    settings: AdversarialKernelSettings,
    pair: Pair,
    seed: int,
    width: int,
    gamma0: float | None,
    desk: Desk,
    piece: Piece,
) -> dict[str, Any]:
    """Train one network, attacking it on the way through the kernel at the same flow time.

    Networks of the ladder end where they fit as well as the kernel does at `--transfer-time`: to
    follow a rich one further takes ever smaller steps.
    """
    task, source = _fitted(settings, pair, seed)
    network = build(settings, task, width, gamma0, seed)
    start = NetworkKernel(network)
    trainer = Trainer(
        network,
        task,
        Optimisation(
            method="flow",
            steps=_MOST_STEPS,
            horizon=settings.transfer_time,
            step_fraction=1.0,
        ),
        seed=seed,
    )
    if desk.saved is not None:
        trainer.restore(*desk.saved)
    log = WandbLog(
        settings.wandb,
        desk.home,
        name=piece.name,
        group=f"{EXPERIMENT}/{desk.home.name}",
        config={**desk.folder.config, **piece.key},
    )

    def look(now: Trainer) -> None:
        if not now.time:
            return  # f = 0
        row = {"time": now.time, "step": now.step, **now.evaluate()}
        found = _attacked(settings, task, network, {"kernel": source.at(now.time)})
        row["transfer_accuracy"] = found.pop("kernel")
        row["gradient_cosine"] = found.pop("cosine, kernel")
        row |= {**found, "movement": movement(network)}
        desk.folder.append({"cell": piece.name, **piece.key, **row})
        log.log(row)

    outcome = trainer.run(
        measure_at=look_times(settings),
        on_measure=look,
        checkpoint=lambda now: save_piece(desk, piece, *now.state()),
        stop_below=None if gamma0 is None else training_mse(source, settings.transfer_time),
        # It ends at a loss, perhaps later than the kernel got there.
        progress=lambda now: desk.tell(
            min((now.time or 0) / settings.transfer_time, 1.0),
            f"t = {now.time:.0f}, step {now.step}",
        ),
    )
    log.finish()
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    record: dict[str, Any] = {"status": outcome.status, "step": outcome.step}
    if outcome.status == "diverged":
        return record
    mse, time = trainer.evaluate()["mse"], trainer.time
    assert time is not None  # gradient flow has one
    sources: dict[str, Expansion] = {"kernel at t": source.at(time)}
    for name, fitted in (
        ("kernel", source),
        ("K_0", KernelPredictor(start, task.inputs, task.targets)),
        ("K_T", KernelPredictor(NetworkKernel(network), task.inputs, task.targets)),
    ):
        sources[name] = fitted.at(time_of_mse(fitted, mse))
    found = _attacked(settings, task, network, sources)
    return {**record, "time": time, "mse": mse, "movement": movement(network), **found}


def _attacked(
    settings: AdversarialKernelSettings, task: Task, network: Model, sources: dict[str, Expansion]
) -> dict[str, float]:
    """Accuracies of the network, and cosines of its input gradients with those of the sources."""
    x, labels = tested(task)
    found = transfer(network, sources, x, labels, settings.threat(settings.eps[0]))
    row = {
        "test_accuracy": found.accuracy("clean").value,
        "noise_accuracy": found.accuracy("random signs").value,
        "fgsm_accuracy": found.accuracy("own").value,
    }
    for name, source in sources.items():
        row[name] = found.accuracy(name).value
        row[f"cosine, {name}"] = float(gradient_cosine(network, source, x, labels).mean())
    return row


def movement(network: nn.Module) -> float:
    """|theta_t - theta_0| / |theta_0| of a centred network, which keeps its initial parameters."""
    buffers: dict[str, Tensor] = dict(network.named_buffers())
    moved = start = 0.0
    for name, value in network.named_parameters():
        first = buffers[f"initial_{name}"].double()
        moved += float((value.detach().double() - first).square().sum())
        start += float(first.square().sum())
    return math.sqrt(moved / start)
