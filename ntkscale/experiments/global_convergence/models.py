"""What `train.py global-convergence` trains: data, networks, and the problem they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.experiments.global_convergence.settings import (
    PICTURES,
    GlobalConvergenceSettings,
)
from ntkscale.experiments.settings import data_folder, resolve_device
from ntkscale.networks import MLP
from ntkscale.tasks import Task, images
from ntkscale.theory import activations
from ntkscale.theory.partially_trained import Problem


@dataclass(frozen=True)
class Model:
    """One training.

    Attributes:
        settings: of the run.
        scaling, activation, depth, width, label, size, seed: its own.
        dimension: d; of images what they have.
        pair: of classes, for images.
    """

    settings: GlobalConvergenceSettings
    scaling: str
    activation: str
    depth: int
    width: int
    label: float
    size: int
    dimension: int
    pair: tuple[int, int] | None
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """What sets it apart: the kind first, then numbers."""
        apart: dict[str, Any] = {"part": f"{self.scaling}-{self.activation}"}
        if self.pair is not None:
            apart |= {"first": self.pair[0], "second": self.pair[1]}
        else:
            apart |= {"dimension": self.dimension}
        return {
            **apart,
            "size": self.size,
            "label": self.label,
            "depth": self.depth,
            "width": self.width,
            "seed": self.seed,
        }

    def task(self) -> Task:
        """Training points, and test points where the target is more than noise; float64."""
        settings = self.settings
        if settings.data in PICTURES:
            task = images(
                cast(Any, settings.data),
                size=self.size,
                test_size=settings.test_size,
                classes=cast(tuple[int, int], self.pair),
                seed=self.seed,
                data_dir=data_folder(settings.data_dir),
                download=settings.download,
                dtype=torch.float64,
            )
            x, y, x_test, y_test = task.inputs, task.targets, task.test_inputs, task.test_targets
        else:
            x, y, x_test, y_test = _drawn(self)
        return Task(
            settings.data,
            x.flatten(1),
            self.label * y,
            test_inputs=None if x_test is None else x_test.flatten(1),
            test_targets=None if y_test is None else self.label * y_test,
        ).to(resolve_device(settings.device))

    def network(self, inputs: int) -> MLP:
        """The network at its start, whose last hidden layer is trained."""
        below = (self.settings.frozen,) * (self.depth - 1)
        return MLP(
            inputs,
            1,
            width=(*below, self.width),
            depth=self.depth,
            activation=self.activation,
            bias=self.settings.bias if self.depth > 1 else False,
            parameterization=cast(Any, self.scaling),
            init="paired-signs",
            trained="last-hidden",
            seed=self.seed,
            dtype=torch.float64,
        ).to(resolve_device(self.settings.device))

    def both(self) -> tuple[MLP, Task, Problem]:
        """The network, what it learns, and the two as a problem in function space."""
        task = self.task()
        network = self.network(task.inputs.shape[1])
        return network, task, problem_of(network, task)


def models(settings: GlobalConvergenceSettings) -> list[Model]:
    """Every combination of what the options name."""
    pictures = settings.data in PICTURES
    dimensions = (0,) if pictures else settings.dimension
    return [
        Model(settings, scaling, name, depth, width, label, size, dimension, pair, seed)
        for size, dimension, pair, label, depth, name, width, scaling, seed in product(
            settings.size,
            dimensions,
            settings.pairs,
            settings.label,
            settings.depth,
            settings.activation,
            settings.width,
            settings.scaling,
            settings.seed,
        )
    ]


@torch.no_grad()
def problem_of(network: MLP, task: Task) -> Problem:
    """What a network of which the last hidden layer alone is trained is in function space.

    Args:
        network: ``MLP(..., trained="last-hidden")`` with one output, at its start.
        task: what it learns, with or without test points.

    Raises:
        ValueError: other parameters are trained too, or there are several outputs.
    """
    if network.trained != "last-hidden" or network.outputs != 1:
        raise ValueError(
            "only a network with trained='last-hidden' and one output is a problem in function "
            "space: build it so, or train it as it is."
        )
    last = f"hidden{network.depth}"
    # Weights move by gamma^2, outputs by 1 / (gamma0 N): what is left beside gamma0 is in G.
    factor = float(network.gamma / network.gamma0) ** 2 / network.readout_fan_in
    inputs = network.last_inputs(task.inputs)
    sigma = activations.activation(network.activation.name)
    test: Mapping[str, Float[Tensor, "q _"]] = {}
    if task.test_inputs is not None:
        test = {
            "cross": factor * network.last_inputs(task.test_inputs) @ inputs.mT,
            "cross_hidden": network.preactivations(task.test_inputs)[last],
        }
    return Problem(
        gram=factor * inputs @ inputs.mT,
        hidden=network.preactivations(task.inputs)[last],
        readout=network.get_parameter("readout")[0],
        targets=task.targets[:, 0],
        activation=sigma.normalised() if network.normalised else sigma,
        gamma0=float(network.gamma0),
        # Paired neurons are silent at the start: nothing is left to subtract.
        centered=bool(network.centered),
        **test,
    )


def _drawn(model: Model) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Random labels on the sphere of radius sqrt(d), or the product of two of d signs."""
    generator = torch.Generator().manual_seed(model.seed)
    if model.settings.data == "sphere":
        shape = (model.size, model.dimension)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        x *= model.dimension**0.5 / x.norm(dim=1, keepdim=True)
        signs = torch.randn(model.size, 1, generator=generator, dtype=torch.float64).sign()
        return x, signs, None, None
    count = model.size + model.settings.test_size
    bits = torch.randint(0, 2, (count, model.dimension), generator=generator)
    x = (2 * bits - 1).double()
    y = x[:, :1] * x[:, 1:2]
    if not model.settings.test_size:
        return x, y, None, None
    return x[: model.size], y[: model.size], x[model.size :], y[model.size :]
