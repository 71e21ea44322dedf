"""Small tasks and networks that the tests of training share."""

import math

import torch

from ntkscale.networks import MLP
from ntkscale.tasks import Task, centred_one_hot


def regression(points: int, inputs: int, outputs: int, seed: int, dtype=torch.float64) -> Task:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(points, inputs, generator=random, dtype=torch.float64)
    y = torch.randn(points, outputs, generator=random, dtype=torch.float64)
    return Task("random regression", x.to(dtype), y.to(dtype))


def classification(points: int, inputs: int, classes: int, seed: int) -> Task:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(points, inputs, generator=random, dtype=torch.float64)
    labels = torch.randint(classes, (points,), generator=random)
    return Task("random classes", x, centred_one_hot(labels, classes), "cross-entropy", labels)


def images(points: int, side: int, seed: int) -> Task:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(points, 1, side, side, generator=random, dtype=torch.float64)
    y = torch.randn(points, 2, generator=random, dtype=torch.float64)
    return Task("random images", x, y)


def network(task: Task, *, width: int = 16, gamma0: float = 1.0, seed: int = 0, **options) -> MLP:
    return MLP(
        math.prod(task.inputs.shape[1:]),
        task.outputs,
        width=width,
        gamma0=gamma0,
        seed=seed,
        activation=options.pop("activation", "tanh"),
        dtype=task.inputs.dtype,
        **options,
    )


class Linear(torch.nn.Module):
    """f = x theta with theta(0) = 0: its kernel is X X^T for ever."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(inputs, outputs, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.theta
