"""The networks that systems E and F train on classes, as in their papers or lazy to rich."""

from typing import Any

from torch import nn

from ntkscale.networks import CNN, MLP
from ntkscale.tasks import Task


def class_network(
    model: str, task: Task, *, width: int, depth: int, gamma0: float | None, seed: int
) -> nn.Module:
    """An MLP or CNN at its initialisation.

    Args:
        model: ``"mlp"`` or ``"cnn"``.
        task: whose inputs and classes it is for.
        width: neurons or channels.
        depth: hidden layers of the MLP.
        gamma0: richness in the mean-field parameterization; None: standard, with biases and the
            output that initialisation gives.
        seed: of the weights.
    """
    common: dict[str, Any] = {"width": width, "seed": seed}
    if gamma0 is None:
        common |= {"parameterization": "standard", "centered": False, "bias": True}
    else:
        common |= {"gamma0": gamma0}
    if model == "cnn":
        channels, side = task.inputs.shape[1], task.inputs.shape[2]
        return CNN(channels, side, task.outputs, **common)
    return MLP(task.inputs[0].numel(), task.outputs, depth=depth, **common)
