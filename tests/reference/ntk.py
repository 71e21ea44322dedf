"""The kernel by the most obvious route: float64 autograd, one sample and one output at a time.

A batch is a tensor, or a tuple or a dict of tensors with samples first.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Batch = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]


def each(change: Callable[..., Tensor], *batches: Any) -> Any:
    """A batch, from one or several of the same form, tensor by tensor."""
    first = batches[0]
    if isinstance(first, Tensor):
        return change(*batches)
    if isinstance(first, Mapping):
        return {key: change(*(x[key] for x in batches)) for key in first}
    return tuple(change(*parts) for parts in zip(*batches, strict=True))


def count(x: Batch) -> int:
    """Number of samples."""
    if isinstance(x, Tensor):
        return len(x)
    return len(next(iter(x.values() if isinstance(x, Mapping) else x)))


def joined(x1: Batch, x2: Batch) -> Batch:
    """Both sets of samples in one."""
    return each(lambda a, b: torch.cat([a, b]), x1, x2)


def call(model: nn.Module, x: Batch) -> Any:
    """What the model returns on a batch."""
    if isinstance(x, Tensor):
        return model(x)
    return model(**x) if isinstance(x, Mapping) else model(*x)


def cast(thing: Any, dtype: torch.dtype) -> Any:
    """A copy of a module or a batch in another real precision; complex numbers keep both parts."""

    def change(t: Tensor) -> Tensor:
        if t.is_complex():
            return t.to(dtype.to_complex())
        return t.to(dtype) if t.is_floating_point() else t

    if isinstance(thing, nn.Module):
        return copy.deepcopy(thing)._apply(change)
    return each(change, thing)


def jacobian_rows(
    model: nn.Module,
    x: Batch,
    params: Sequence[str] | None = None,
    pick: Callable[[Any], Tensor] = lambda returned: returned,
) -> dict[str, Tensor]:
    """Gradients (n, C, sum of sizes) by parameter name, in float64.

    Real and imaginary part of a complex parameter are two parameters.
    """
    model, x = cast(model, torch.float64), cast(x, torch.float64)
    names = [
        n for n, p in model.named_parameters() if p.requires_grad and (not params or n in params)
    ]
    leaves = [model.get_parameter(n) for n in names]
    rows: dict[str, list[Tensor]] = {n: [] for n in names}
    for i in range(count(x)):
        y = pick(call(model, each(lambda t, i=i: t[i : i + 1], x))).reshape(-1)
        for c in range(len(y)):
            gradients = [None] * len(leaves)
            if y.requires_grad:
                gradients = torch.autograd.grad(y[c], leaves, retain_graph=True, allow_unused=True)
            for n, p, g in zip(names, leaves, gradients, strict=True):
                g = torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
                rows[n].append((torch.view_as_real(g) if g.is_complex() else g).reshape(-1))
    return {n: torch.stack(r).reshape(count(x), -1, r[0].numel()) for n, r in rows.items()}


def kernel(
    model: nn.Module,
    x1: Batch,
    x2: Batch | None = None,
    *,
    output: str | int = "trace",
    params: Sequence[str] | None = None,
    pick: Callable[[Any], Tensor] = lambda returned: returned,
) -> Tensor:
    """The kernel summed over parameters; `output` as in the engine, without callables."""
    kernels = kernel_by_parameter(model, x1, x2, output=output, params=params, pick=pick)
    return torch.stack(list(kernels.values())).sum(0)


def kernel_by_parameter(
    model: nn.Module,
    x1: Batch,
    x2: Batch | None = None,
    *,
    output: str | int = "trace",
    params: Sequence[str] | None = None,
    pick: Callable[[Any], Tensor] = lambda returned: returned,
) -> dict[str, Tensor]:
    left = jacobian_rows(model, x1, params, pick)
    right = left if x2 is None else jacobian_rows(model, x2, params, pick)
    return {
        name: of_output(torch.einsum("acw,bdw->abcd", rows, right[name]), output)
        for name, rows in left.items()
    }


def of_output(full: Tensor, output: str | int) -> Tensor:
    """What the engine calls `output`, out of the full kernel (n1, n2, C, C)."""
    if output == "full":
        return full
    diagonal = torch.diagonal(full, dim1=2, dim2=3)
    if output == "diagonal":
        return diagonal
    return diagonal.sum(-1) if isinstance(output, str) else diagonal[..., output]
