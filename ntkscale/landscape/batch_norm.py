"""Running statistics of batch norm, computed anew for weights that were never trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ntkscale.landscape.model import pieces, to_device


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms of a module, by name.

    Raises:
        ValueError: one of them keeps no running statistics, so that every answer depends on the
            other samples of the batch.
    """
    found = {n: part for n, part in module.named_modules() if isinstance(part, _BatchNorm)}
    for name, part in found.items():
        if part.running_mean is None:
            raise ValueError(
                f"batch norm {name!r} keeps no running statistics, so the error depends on how the "
                "samples are batched; build it with track_running_stats=True."
            )
    return found


def recompute_statistics(
    module: nn.Module, values: dict[str, Tensor], inputs: Float[Tensor, "s ..."]
) -> None:
    """Put the running statistics of these inputs into `values`, in place.

    The cumulative average over pieces of the inputs (batch norm with ``momentum=None``), all other
    layers in evaluation mode. Call it within `model.evaluating`.

    Cost: one forward pass of all inputs.

    Raises:
        ValueError: fewer than two samples.
    """
    if len(inputs) < 2:
        raise ValueError(
            f"statistics_inputs holds {len(inputs)} sample; batch norm needs two or more, usually "
            "the training set."
        )
    parts = batch_norms(module)
    for name in parts:
        prefix = f"{name}." if name else ""
        for buffer, start in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            values[prefix + buffer] = torch.full_like(values[prefix + buffer], start)
    with _averaging(list(parts.values())):
        for piece in pieces(inputs):
            # The forward writes into the buffers it is given.
            functional_call(module, values, (to_device(module, inputs[piece]),))


@contextmanager
def _averaging(parts: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms that average their statistics over batches; mode and momentum are put back."""
    before = [(part, part.training, part.momentum) for part in parts]
    try:
        for part in parts:
            part.training, part.momentum = True, None
        yield
    finally:
        for part, mode, momentum in before:
            part.training, part.momentum = mode, momentum
