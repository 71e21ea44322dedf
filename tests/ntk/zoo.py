"""The models that a kernel is tested on, by name, with parameters and inputs drawn from a seed.

`MODELS` have a kernel; `REFUSED` have none. Everything is drawn in float32, and cast without loss
to float64, so that one reference serves both.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tests.ntk.program import SAMPLES, Entry, Mask, Spec, Whole
from tests.ntk.zoo_dense import DENSE
from tests.ntk.zoo_images import IMAGES
from tests.ntk.zoo_parameters import PARAMETERS
from tests.ntk.zoo_programs import PROGRAMS
from tests.ntk.zoo_refused import REFUSED
from tests.ntk.zoo_sequences import SEQUENCES
from tests.reference.ntk import cast

__all__ = ["MODELS", "REFUSED", "draw", "perturb", "sample"]

MODELS: dict[str, Entry] = {**DENSE, **IMAGES, **SEQUENCES, **PARAMETERS, **PROGRAMS}


def draw(name: str, seed: int, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any, Any]:
    """The model and two sets of inputs, of three to seven samples each."""
    entry = MODELS.get(name) or REFUSED[name]
    torch.manual_seed(seed)
    n1, n2 = (int(n) for n in torch.randint(3, 8, (2,)))
    model = entry.build()
    perturb(model, keep=entry.keep)
    x1, x2 = (sample(entry.inputs, n, n1) for n in (n1, n2))
    return cast(model, dtype), cast(x1, dtype), cast(x2, dtype)


@torch.no_grad()
def perturb(model: nn.Module, *, keep: tuple[str, ...] = ()) -> None:
    """Move parameters and running statistics away from where they start."""
    for name, p in model.named_parameters():
        if name not in keep:
            p.add_(0.2 * torch.randn_like(p))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.5)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


def sample(spec: Spec, n: int, n1: int) -> Any:
    """A batch of `n` samples; `n1` stands in for `SAMPLES`."""
    if isinstance(spec, Mapping):
        return {name: sample(one, n, n1) for name, one in spec.items()}
    if isinstance(spec, list):
        return tuple(sample(one, n, n1) for one in spec)
    shape = [n1 if s == SAMPLES else s for s in (spec if isinstance(spec, tuple) else spec.shape)]
    if isinstance(spec, Whole):
        return torch.randint(0, spec.below, (n, *shape))
    if isinstance(spec, Mask):
        mask: Tensor = torch.rand(n, *shape) < 0.4
        mask[..., 0] = False
        return mask
    return torch.randn(n, *shape)
