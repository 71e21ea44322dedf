"""Which ReLUs are on: patterns of a forward pass, and how far apart two networks' patterns are.

ReLUs are found where they are computed, below modules and functions: every ``aten::relu`` of the
forward pass, and every clamp, threshold or maximum that is one (its floor is zero, it has no top).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from ntkscale.landscape.model import Weights, evaluating, pieces, to_device, values_for
from ntkscale.networks import Network
from ntkscale.ntk import unwrap


def activation_patterns(
    model: nn.Module, inputs: Float[Tensor, "m ..."]
) -> Bool[Tensor, "units m"]:
    """Whether the input of each ReLU is positive, at the model's own weights, in evaluation mode.

    Units are in the order of the forward pass, each layer's flattened; a pixel of a channel is a
    unit. Of a `Network`, centred or not, the units are those of its present parameters.

    Cost: one forward pass and units * m bytes, on the model's device. For the distance between
    networks too large for that, use `pattern_distance`.

    Source: Fort et al. 2020 (arXiv 2010.15110), the ReLU activation pattern B_w(S).

    Raises:
        ValueError: the model has no ReLU, one whose first axis is not the samples, or a centred
            network inside another module.
    """
    module = _without_initial_copy(model)
    values = values_for(module, module.state_dict(), "weights")
    found = torch.empty(0, 0)
    with evaluating(module):
        for piece in pieces(inputs):
            rows = _patterns(module, values, inputs[piece])
            if piece.start == 0:
                found = rows.new_empty(rows.shape[1], len(inputs))
            elif rows.shape[1] != len(found):
                raise ValueError(
                    f"the forward computes {len(found)} ReLU units for one batch and "
                    f"{rows.shape[1]} for another; patterns need the same ones for all inputs."
                )
            found[:, piece] = rows.T
    return found


def hamming_distance(first: Bool[Tensor, "units m"], second: Bool[Tensor, "units m"]) -> float:
    """Share of entries that differ, mean |B - B'|: 0 for equal patterns, 1/2 for unrelated ones.

    Source: Fort et al. 2020 (arXiv 2010.15110), the Hamming distance of ReLU patterns.

    Raises:
        ValueError: patterns that are not bool or differ in shape.
    """
    if first.shape != second.shape or first.dtype != torch.bool or second.dtype != torch.bool:
        raise ValueError(
            f"patterns of shapes {tuple(first.shape)} and {tuple(second.shape)}, {first.dtype} and "
            f"{second.dtype}, cannot be compared; pass two bool patterns on the same inputs."
        )
    return int(torch.count_nonzero(first ^ second)) / first.numel()


def pattern_distance(
    model: nn.Module, first: Weights, second: Weights, inputs: Float[Tensor, "m ..."]
) -> float:
    """Hamming distance of the patterns of two state dicts, holding those of a few samples only.

    Cost: two forward passes.

    Raises:
        ValueError: as `activation_patterns`, or weights that are not the model's.
    """
    module = _without_initial_copy(model)
    both = values_for(module, first, "first"), values_for(module, second, "second")
    differing = entries = 0
    with evaluating(module):
        for piece in pieces(inputs):
            rows = [_patterns(module, values, inputs[piece]) for values in both]
            differing += int(torch.count_nonzero(rows[0] ^ rows[1]))
            entries += rows[0].numel()
    return differing / entries


def _without_initial_copy(model: nn.Module) -> nn.Module:
    """The module under its wrappers.

    Raises:
        ValueError: a centred network inside another module, whose ReLUs at initialisation cannot be
            told from the present ones.
    """
    module = unwrap(model)
    for name, part in module.named_modules():
        if part is not module and isinstance(part, Network) and part.centered:
            raise ValueError(
                f"the part {name!r} is a centred network, which also runs at its initial "
                "parameters; pass that network itself, or build it with centered=False."
            )
    return module


def _patterns(
    module: nn.Module, values: dict[str, Tensor], inputs: Tensor
) -> Bool[Tensor, "n units"]:
    batch = to_device(module, inputs)
    with _ReLUs(len(batch)) as relus, _unfused():
        if isinstance(module, Network):
            # A centred forward runs a second time, at the initial parameters.
            module.features(batch, values)
        else:
            functional_call(module, values, (batch,))
    if not relus.on:
        raise ValueError(
            "the model's forward has no ReLU, so it has no activation pattern; pass a ReLU network."
        )
    return torch.cat(relus.on, dim=1)


class _ReLUs(TorchDispatchMode):
    """Keeps, for every ReLU computed while it is active, where its input is positive."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.on: list[Tensor] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # Before the call, which may be in place.
        h = _input_of_relu(func.overloadpacket.__name__.rstrip("_"), args)
        if h is not None:
            if h.ndim == 0 or len(h) != self.samples:
                raise ValueError(
                    f"a ReLU works on shape {tuple(h.shape)} while the batch holds {self.samples} "
                    "samples; patterns need the samples along the first axis of every ReLU."
                )
            self.on.append((h > 0).reshape(self.samples, -1))
        return func(*args, **(kwargs or {}))


def _input_of_relu(name: str, args: tuple[Any, ...]) -> Tensor | None:
    """The input of an aten operation that is a ReLU, otherwise None."""
    if name not in ("relu", "clamp_min", "clamp", "threshold", "maximum"):
        return None
    h, floors = args[0], list(args[1:])
    if not h.is_floating_point():
        return None
    if name == "maximum" and _is_zero(h):
        return floors[0]
    if name == "clamp" and floors[1:] not in ([], [None]):
        return None  # it has a top
    return h if all(_is_zero(floor) for floor in floors[: 1 if name == "clamp" else None]) else None


def _is_zero(floor: float | Tensor | None) -> bool:
    return not floor.any() if isinstance(floor, Tensor) else floor == 0


@contextmanager
def _unfused() -> Iterator[None]:
    """Transformer layers as the operations they are made of: fused, they hide their ReLU."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
