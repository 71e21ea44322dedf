"""The kernel with its autograd graph, for losses and searches that move the inputs."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.jacobian import Jacobian


def differentiable_kernel(
    jacobian: Jacobian, x1: Tensor, x2: Tensor | None, kind: Kind, outputs: Sequence[int]
) -> Float[Tensor, "n1 n2 ..."]:
    """J J^T as one differentiable expression; holds the Jacobian and the graphs that made it.

    Sums are taken in the model's own precision. The symmetric kernel costs one Jacobian.
    """
    left = _rows(jacobian, x1, outputs)
    right = left if x2 is None else _rows(jacobian, x2, outputs)
    pattern = {"trace": "acw,bcw->ab", "diagonal": "acw,bcw->abc", "full": "acw,bdw->abcd"}[kind]
    return torch.einsum(pattern, left, right)


def _rows(jacobian: Jacobian, x: Tensor, outputs: Sequence[int]) -> Float[Tensor, "n C width"]:
    forward = jacobian.forward
    picked = list(outputs)
    if jacobian.vectorised:

        def one(p: dict[str, Tensor], sample: Tensor) -> Tensor:
            return forward(p, sample[None])[0, picked]

        gradients = torch.func.vmap(torch.func.jacrev(one), (None, 0))(forward.chosen, x)
        return torch.cat(
            [_real(g).reshape(x.shape[0], len(picked), -1) for g in gradients.values()], 2
        )
    # Leaves of their own would cut the graph: a view stays attached to the parameters.
    leaves = {
        name: p.view_as(p) if p.requires_grad else p.detach().requires_grad_()
        for name, p in forward.chosen.items()
    }
    rows = []
    for i in range(x.shape[0]):
        y = forward(leaves, x[i : i + 1])[0]
        for c in picked:
            gradients = torch.autograd.grad(
                y[c], list(leaves.values()), create_graph=True, allow_unused=True
            )
            rows.append(
                torch.cat(
                    [
                        _real(torch.zeros_like(p) if g is None else g).reshape(-1)
                        for p, g in zip(leaves.values(), gradients, strict=True)
                    ]
                )
            )
    return torch.stack(rows).unflatten(0, (x.shape[0], len(picked)))


def _real(gradient: Tensor) -> Tensor:
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
