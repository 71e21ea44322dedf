"""The kernel by the most obvious route: float64 autograd, one sample and one output at a time."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def jacobian_rows(model, x, params=None, pick=lambda returned: returned):
    """Gradients (n, C, sum of sizes) by parameter name, in float64."""
    model = copy.deepcopy(model).double()
    names = [
        n for n, p in model.named_parameters() if p.requires_grad and (not params or n in params)
    ]
    leaves = [model.get_parameter(n) for n in names]
    x = x.double() if x.is_floating_point() else x
    rows = {n: [] for n in names}
    for i in range(len(x)):
        y = pick(model(x[i : i + 1])).reshape(-1)
        for c in range(len(y)):
            gradients = torch.autograd.grad(y[c], leaves, retain_graph=True, allow_unused=True)
            for n, p, g in zip(names, leaves, gradients, strict=True):
                rows[n].append((torch.zeros_like(p) if g is None else g).reshape(-1))
    return {n: torch.stack(r).reshape(len(x), -1, r[0].numel()) for n, r in rows.items()}


def kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
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
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    output: str | int = "trace",
    params: Sequence[str] | None = None,
    pick: Callable[[Any], Tensor] = lambda returned: returned,
) -> dict[str, Tensor]:
    left = jacobian_rows(model, x1, params, pick)
    right = left if x2 is None else jacobian_rows(model, x2, params, pick)
    kernels = {}
    for name, rows in left.items():
        full = torch.einsum("acw,bdw->abcd", rows, right[name])
        diagonal = torch.diagonal(full, dim1=2, dim2=3)
        if output == "full":
            kernels[name] = full
        elif output == "diagonal":
            kernels[name] = diagonal
        elif output == "trace":
            kernels[name] = diagonal.sum(-1)
        else:
            assert isinstance(output, int)
            kernels[name] = diagonal[..., output]
    return kernels
