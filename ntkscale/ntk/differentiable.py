"""The kernel with its autograd graph, for losses and searches that move the inputs."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.inputs import Batch, count, each, rows
from ntkscale.ntk.jacobian import Jacobian


def differentiable_kernel(
    jacobian: Jacobian, x1: Batch, x2: Batch | None, kind: Kind, outputs: Sequence[int]
) -> Float[Tensor, "n1 n2 ..."]:
    """J J^T as one differentiable expression; holds the Jacobian and the graphs that made it.

    Sums are taken in the model's own precision. The symmetric kernel costs one Jacobian.
    """
    left = _rows(jacobian, x1, outputs)
    right = left if x2 is None else _rows(jacobian, x2, outputs)
    pattern = {"trace": "acw,bcw->ab", "diagonal": "acw,bcw->abc", "full": "acw,bdw->abcd"}[kind]
    return torch.einsum(pattern, left, right)


def _rows(jacobian: Jacobian, x: Batch, outputs: Sequence[int]) -> Float[Tensor, "n C width"]:
    forward = jacobian.forward
    picked = list(outputs)
    if jacobian.vectorised:

        def one(p: dict[str, Tensor], sample: Batch) -> Tensor:
            return forward(p, each(lambda t: t[None], sample))[0, picked]

        gradients = torch.func.vmap(torch.func.jacrev(one), (None, 0))(forward.chosen, x)
        return torch.cat(
            [_real(g).reshape(count(x), len(picked), -1) for g in gradients.values()], 2
        )
    # Leaves of their own would cut the graph: a view stays attached to the parameters.
    leaves = {
        name: p.view_as(p) if p.requires_grad else p.detach().requires_grad_()
        for name, p in forward.chosen.items()
    }
    found = []
    with forward.holding(leaves):
        for i in range(count(x)):
            y = forward.run(rows(x, slice(i, i + 1)))[0]
            for c in picked:
                gradients = torch.autograd.grad(
                    y[c], list(leaves.values()), create_graph=True, allow_unused=True
                )
                found.append(
                    torch.cat(
                        [
                            _real(torch.zeros_like(p) if g is None else g).reshape(-1)
                            for p, g in zip(leaves.values(), gradients, strict=True)
                        ]
                    )
                )
    return torch.stack(found).unflatten(0, (count(x), len(picked)))


def _real(gradient: Tensor) -> Tensor:
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient
