"""What `train.py dmft --preset cnn` trains: CNNs of several widths on two classes of images.

After arXiv 2205.09653, figure 4: at fixed gamma0 networks of every width should have the same test
mse, test error and alignment of their features with the targets. There is no solver for CNNs; the
wider networks are what the narrower ones are compared with.

Differences to the paper and its code, so that minutes of a CPU are enough: Fashion-MNIST (sneaker
or ankle boot, at 14 x 14 pixels) in place of CIFAR-10 (airplane or automobile); 1,000 training and
500 test images in place of 10,000 and 2,000; two convolutions and average pooling in place of four
without pooling, each divided by sqrt(9 C_in) in place of sqrt(C_in) (the first one by nothing);
widths 16, 32, 64 in place of 250 and 500; gamma0 = .1, .3, 1 in place of 1, 5, 10, which with other
divisors are not the same gamma0 anyway; batches of 50, in an order drawn anew every epoch, in place
of 250; 500 steps in place of 5,000. The loss has its factor 1/2.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ntkscale import ntk
from ntkscale.experiments.dmft.record import Row, Tell, recorded
from ntkscale.experiments.dmft.settings import DmftSettings
from ntkscale.experiments.settings import resolve_device
from ntkscale.experiments.work import Piece
from ntkscale.networks import CNN
from ntkscale.tasks import Task, images
from ntkscale.training import Optimisation, Trainer
from ntkscale.training.evaluation import outputs_on

CLASSES = {"fashion-mnist": (7, 9), "digits": (3, 8)}
"""Two that are hard to tell apart: sneaker or ankle boot; three or eight."""
BATCH = 50
_TEST = {"fashion-mnist": 500, "digits": None}
_ALIGNED = 250  # test images whose features are aligned with their targets, as in the paper
_LOOKS = 20


def cnn_cells(settings: DmftSettings) -> list[Piece]:
    """A cell for every gamma0 and width, with all seeds."""
    return [
        recorded(
            settings,
            {"part": "cnn", "gamma0": gamma0, "width": width},
            partial(_train, settings, gamma0, width),
        )
        for gamma0 in settings.gamma0
        for width in settings.width
    ]


def two_classes(settings: DmftSettings) -> Task:
    """Images of two classes, targets -1 and +1; 28 x 28 ones averaged to 14 x 14."""
    name = settings.data
    assert name != "gaussian"
    task = images(
        name,
        size=settings.num_train,
        test_size=_TEST[name],
        classes=CLASSES[name],
        seed=settings.seed[0],
    )
    if task.inputs.shape[-1] < 28:
        return task
    assert task.test_inputs is not None
    return Task(
        name=task.name,
        inputs=F.avg_pool2d(task.inputs, 2),
        targets=task.targets,
        labels=task.labels,
        test_inputs=F.avg_pool2d(task.test_inputs, 2),
        test_targets=task.test_targets,
        test_labels=task.test_labels,
    )


def _train(
    settings: DmftSettings, gamma0: float, width: int, folder: Path, tell: Tell
) -> tuple[list[Row], dict[str, Any]]:
    """All seeds of a width; rows of test mse, test error and alignment."""
    task = two_classes(settings).to(resolve_device(settings.device))
    assert task.test_inputs is not None and task.test_targets is not None
    tested, wanted = task.test_inputs, task.test_targets
    aligned, targets = task.test_inputs[:_ALIGNED], task.test_targets[:_ALIGNED].double()
    rows: list[Row] = []
    statuses: list[str] = []
    last = settings.steps * settings.learning_rate
    for index, seed in enumerate(settings.seed):
        network = CNN(
            task.inputs.shape[1],
            task.inputs.shape[2],
            1,
            width=width,
            activation=settings.activation,
            gamma0=gamma0,
            readout="global",
            seed=seed,
        ).to(task.inputs.device)

        @torch.no_grad()
        def look(trainer: Trainer, seed: int = seed, network: CNN = network) -> None:
            features = network.last_features(aligned).double()
            outputs = outputs_on(network, tested)
            rows.append(
                {
                    "kind": "network",
                    "seed": seed,
                    "time": trainer.time,
                    "mse": trainer.evaluate()["mse"],
                    "test_mse": float((wanted - outputs).square().mean()),
                    "test_error": float((wanted * outputs <= 0).double().mean()),
                    "alignment": float(ntk.alignment(features @ features.T, targets)),
                }
            )

        def progress(trainer: Trainer, index: int = index) -> None:
            tell(index * settings.steps + trainer.step, len(settings.seed) * settings.steps)

        trainer = Trainer(
            network,
            task,
            Optimisation(
                steps=settings.steps,
                learning_rate=settings.learning_rate,
                batch_size=min(BATCH, settings.num_train),
            ),
            # One order of images for all: networks differ by their weights alone.
            seed=settings.seed[0],
        )
        outcome = trainer.run(
            measure_at=[last * (i / _LOOKS) ** 2 for i in range(_LOOKS + 1)],
            on_measure=look,
            progress=progress,
        )
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        statuses.append(outcome.status)
    return rows, {"status": statuses}
