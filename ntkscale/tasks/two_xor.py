"""Two exclusive ors in many dimensions: features that a kernel does not have and a network learns.

Four classes, y = [x1 x2 > 0] + 2 [x3 x4 > 0], of inputs whose other coordinates say nothing. A
kernel that treats all coordinates alike needs of the order of D^2 samples, a network that finds the
four relevant ones far fewer.
"""

import torch

from ntkscale.tasks.targets import class_targets
from ntkscale.tasks.task import Loss, Task

CLASSES = 4


def two_xor(
    size: int = 2000,
    *,
    test_size: int = 2000,
    dimension: int = 40,
    loss: Loss = "cross-entropy",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """Inputs of independent signs, (P, D), and their four classes.

    Args:
        size: P, training samples.
        test_size: further samples; 0: no test set.
        dimension: D, at least 4.
        loss: ``"cross-entropy"`` or ``"mse"`` on centred one-hot targets.
        seed: of the inputs.
        dtype: of inputs and targets.

    Raises:
        ValueError: fewer than four dimensions, or no samples.
    """
    if dimension < CLASSES or size < 1 or test_size < 0:
        raise ValueError(
            f"two exclusive ors need 4 dimensions and a sample, got dimension {dimension}, size "
            f"{size}, test_size {test_size}: give more."
        )
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (size + test_size, dimension), generator=generator)
    inputs = (2 * bits - 1).to(dtype)
    equal = bits[:, 0:4:2] == bits[:, 1:4:2]  # a product of signs is positive where they agree
    labels = equal[:, 0].long() + 2 * equal[:, 1].long()
    targets = class_targets(labels, CLASSES, loss, dtype)
    held_out = slice(size, None) if test_size else None
    return Task(
        name="two-xor",
        inputs=inputs[:size],
        targets=targets[:size],
        loss=loss,
        labels=labels[:size],
        test_inputs=None if held_out is None else inputs[held_out],
        test_targets=None if held_out is None else targets[held_out],
        test_labels=None if held_out is None else labels[held_out],
    )
