"""A model with other weights than its own, in evaluation mode, on as many samples as fit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call

from ntkscale.ntk import unwrap

Weights = Mapping[str, Tensor]
"""A state dict: parameters and buffers by name."""

_MOST_SAMPLES = 500
_MOST_BYTES = 8 << 20  # of inputs at a time: 500 of 32 x 32, a dozen of 224 x 224 colour images


def outputs_at(
    model: nn.Module, weights: Weights, inputs: Float[Tensor, "m ..."]
) -> Float[Tensor, "m C"]:
    """Outputs of the model with these weights in place of its own, in evaluation mode.

    Computed without autograd, at most 500 samples and 8 MiB of inputs at a time.

    Raises:
        ValueError: weights that are not the model's, no inputs, or outputs that are not one row a
            sample.
    """
    module = unwrap(model)
    values = values_for(module, weights, "weights")
    with evaluating(module):
        return torch.cat([row for _, row in outputs_by_pieces(module, values, inputs)])


def outputs_by_pieces(
    module: nn.Module, values: dict[str, Tensor], inputs: Float[Tensor, "m ..."]
) -> Iterator[tuple[slice, Float[Tensor, "n C"]]]:
    """Outputs of one piece of the inputs after the other; inputs go to the values' device."""
    for piece in pieces(inputs):
        batch = to_device(module, inputs[piece])
        outputs = functional_call(module, values, (batch,))
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(batch):
            what = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(
                f"the model returns {what} for {len(batch)} samples; it must return one row of "
                "outputs a sample, so wrap it in a module that does."
            )
        yield piece, outputs


def values_for(module: nn.Module, weights: Weights, name: str) -> dict[str, Tensor]:
    """The weights in device and dtype of the module's own, as `load_state_dict` takes them.

    A tensor with several names goes by its first. Buffers are copies, so that a forward that
    writes into them changes nobody's.

    Raises:
        ValueError: a name or a shape that differs from the module's; `name` says whose weights.
    """
    state = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    given = {k for k, v in weights.items() if isinstance(v, Tensor)}
    if given != state.keys():
        odd = min(given ^ state.keys())
        raise ValueError(
            f"{name} {'lacks' if odd in state else 'has an entry'} {odd!r}, unlike the model; pass "
            "the whole state_dict() of a network of the same architecture."
        )
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    values: dict[str, Tensor] = {}
    for key, own in (parameters | buffers).items():
        if key not in state:
            continue  # a buffer that is not saved keeps the module's own value
        value = weights[key].detach()
        if value.shape != own.shape:
            raise ValueError(
                f"{name} has {key!r} of shape {tuple(value.shape)} where the model has "
                f"{tuple(own.shape)}; pass the state_dict() of a network of the same architecture."
            )
        value = value.to(device=own.device, dtype=own.dtype)
        values[key] = value.clone() if key in buffers else value
    # Those that are not saved are copied for the same reason.
    unsaved = {key: own.detach().clone() for key, own in buffers.items() if key not in state}
    return values | unsaved


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without autograd; every part's mode is put back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(modes[0][1])
        for part, mode in modes:
            part.training = mode


def pieces(inputs: Shaped[Tensor, "m ..."]) -> list[slice]:
    """Pieces of equal length, give or take one, that fit the memory.

    Raises:
        ValueError: there are no inputs.
    """
    if inputs.ndim == 0 or inputs.numel() == 0:
        raise ValueError(
            f"the inputs have shape {tuple(inputs.shape)}; pass at least one sample along the "
            "first axis."
        )
    m = len(inputs)
    fitting = _MOST_BYTES // (inputs[0].numel() * inputs.element_size())
    count = -(-m // min(_MOST_SAMPLES, max(1, fitting)))
    return [slice(i * m // count, (i + 1) * m // count) for i in range(count)]


def to_device(module: nn.Module, batch: Tensor) -> Tensor:
    """The batch where the module's first parameter is (or buffer, where it has none)."""
    first = next(iter([*module.parameters(), *module.buffers()]), batch)
    return batch.to(first.device)
