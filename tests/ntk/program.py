"""How test models are written down: parts, a forward, and what its inputs look like."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES = -1
"""In a shape: as many as there are samples in x1, so that axes cannot be told apart by size."""


@dataclass(frozen=True)
class Whole:
    """Whole numbers below `below`; `shape` is that of one sample."""

    below: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mask:
    """True and False; the first along the last axis is always False."""

    shape: tuple[int, ...]


Spec = tuple[int, ...] | Whole | Mask | list[Any] | Mapping[str, Any]
"""One sample: the shape of normal numbers, one of the above, or a list (a tuple of inputs) or a
dict of these."""


@dataclass(frozen=True)
class Entry:
    """A model to build and what it takes.

    Attributes:
        build: makes the module, from the global random state.
        inputs: what one sample is.
        keep: parameters left as built; all others are moved away from where they start.
    """

    build: Callable[[], nn.Module]
    inputs: Spec
    keep: tuple[str, ...] = ()


class Program(nn.Module):
    """Named parts (modules, parameters, buffers), and a forward that is a function of them."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module | Tensor):
        super().__init__()
        self.program = forward
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *positional: Any, **named: Any) -> Any:
        return self.program(self, *positional, **named)


def parameter(*shape: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(scale * torch.randn(*shape, dtype=dtype))
