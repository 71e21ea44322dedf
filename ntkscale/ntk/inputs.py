"""A batch of inputs: a tensor, or tensors in a tuple or a dict, each with samples first.

A tensor reaches the model as ``model(x)``, a tuple as ``model(*x)``, a dict as ``model(**x)``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def arguments(x: Batch) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """What a model is called with: positional and named arguments."""
    if isinstance(x, Tensor):
        return (x,), {}
    return ((), dict(x)) if isinstance(x, Mapping) else (tuple(x), {})


def tensors(x: Batch) -> list[Tensor]:
    """The tensors of a batch, in order."""
    positional, named = arguments(x)
    return [*positional, *named.values()]


def each(change: Callable[[Tensor], Tensor], x: Batch) -> Batch:
    """The batch with every tensor changed."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, Mapping):
        return {name: change(t) for name, t in x.items()}
    return tuple(change(t) for t in x)


def count(x: Batch) -> int:
    """Number of samples."""
    return tensors(x)[0].shape[0]


def rows(x: Batch, index: Any) -> Batch:
    """Some samples of a batch: a slice (a view) or a tensor of indices (a copy)."""
    return each(lambda t: t[index], x)


def prepared(x: Any, name: str, device: torch.device, *, attached: bool) -> Batch:
    """A batch on the device; detached unless `attached`.

    Raises:
        ValueError: no tensors, no samples, or tensors that disagree about how many.
    """
    if not isinstance(x, (Tensor, tuple, list, Mapping)):
        raise ValueError(
            f"{name} is {type(x).__name__}; pass a tensor, or a tuple or dict of tensors, with "
            "samples along the first axis."
        )
    parts = tensors(x)
    wrong = [t for t in parts if not isinstance(t, Tensor)]
    if wrong or not parts:
        what = f"holds {type(wrong[0]).__name__}" if wrong else "is empty"
        raise ValueError(f"{name} {what}; every entry must be a tensor with samples first.")
    sizes = {t.shape[0] if t.ndim else 0 for t in parts}
    if sizes != {max(sizes)} or 0 in sizes:
        shapes = [tuple(t.shape) for t in parts]
        raise ValueError(
            f"{name} has the shape {shapes[0] if len(shapes) == 1 else shapes}; pass at least one "
            "sample along the first axis, as many in every tensor."
        )

    def place(t: Tensor) -> Tensor:
        t = (t if attached else t.detach()).to(device)
        # A tensor made in inference mode cannot be saved for a backward pass.
        return t.clone() if t.is_inference() else t

    return each(place, x)


def same_form(x1: Batch, x2: Batch) -> None:
    """Refuse two batches a model could not both take.

    Raises:
        ValueError: other keys, another number of tensors, or samples of another shape.
    """
    keys1, keys2 = (list(x) if isinstance(x, Mapping) else None for x in (x1, x2))
    if keys1 != keys2 and (keys1 is None or keys2 is None or set(keys1) != set(keys2)):
        raise ValueError(f"x1 has the keys {keys1} and x2 {keys2}; give both the same.")
    second = tensors(x2) if keys1 is None or not isinstance(x2, Mapping) else [x2[k] for k in keys1]
    shapes1 = [tuple(t.shape[1:]) for t in tensors(x1)]
    shapes2 = [tuple(t.shape[1:]) for t in second]
    if shapes1 != shapes2:
        one = len(shapes1) == len(shapes2) == 1
        raise ValueError(
            f"samples of x1 have shape {shapes1[0] if one else shapes1} and those of x2 "
            f"{shapes2[0] if one else shapes2}; give both the shape the model takes."
        )
