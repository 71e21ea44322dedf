"""Losses and accuracies over whole training and test sets."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntkscale.tasks import Task
from ntkscale.training.losses import LOSSES, squared_error
from ntkscale.training.precision import wide

_CHUNK = 500


@torch.no_grad()
def outputs_on(network: nn.Module, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "... n C"]:
    """Outputs in evaluation mode, computed 500 samples at a time; the mode is put back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        chunks = [network(chunk) for chunk in inputs.split(_CHUNK)]
    finally:
        network.train(modes[0][1])
        for module, mode in modes:
            module.training = mode
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=-2)


def answers(task: Task) -> Tensor:
    """What the loss of a task compares outputs with: targets, or labels under cross-entropy."""
    if task.loss == "mse":
        return task.targets
    assert task.labels is not None  # a Task refuses cross-entropy without labels
    return task.labels


def training_losses(network: nn.Module, task: Task) -> list[float]:
    """What is optimised, on the whole training set, for each member (one for a single network)."""
    outputs = outputs_on(network, task.inputs)
    return _loss(outputs, task).reshape(-1).tolist()


def evaluate(network: nn.Module, task: Task) -> dict[str, list[float]]:
    """Rows of the schema for training and, if there is one, test set; a number per member.

    `mse` belongs to tasks trained on it, accuracies to tasks with labels.
    """
    outputs = outputs_on(network, task.inputs)
    rows = {"loss": _loss(outputs, task)} | _quality(outputs, task.targets, task.labels, task, "")
    if task.test_inputs is not None:
        tested = outputs_on(network, task.test_inputs)
        rows |= _quality(tested, task.test_targets, task.test_labels, task, "test_")
    return {name: values.reshape(-1).tolist() for name, values in rows.items()}


def _loss(outputs: Tensor, task: Task) -> Tensor:
    return LOSSES[task.loss].value(outputs, answers(task)) / len(task.inputs)


def _quality(
    outputs: Tensor, targets: Tensor | None, labels: Tensor | None, task: Task, prefix: str
) -> dict[str, Tensor]:
    rows = {}
    if targets is not None and task.loss == "mse":
        rows[f"{prefix}mse"] = squared_error(outputs, targets) / len(targets)
    if labels is not None:
        # One column of -1 and +1 stands for two classes.
        chosen = outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs[..., 0] > 0).long()
        rows[f"{prefix}accuracy"] = wide((chosen == labels).float()).mean(-1)
    return rows
