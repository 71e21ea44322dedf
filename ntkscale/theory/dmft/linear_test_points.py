"""Kernels and outputs of a linear network at test points, from those at the training points.

Test points have Delta = 0: they feel the network and the network does not feel them. So once the
training points are solved for all times, everything about test points follows layer by layer from
the equations in `linear_march`, in a few large products, with nothing to solve.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft.linear_march import March, weigh


def with_test_points(
    march: March,
) -> tuple[list[Float[Tensor, "T All T All"]], Float[Tensor, "T All C"]]:
    """H^1 ... H^L and outputs at training and test points, in that order.

    The march's kernels are given up one after the other where there are test points.

    Args:
        march: solved for its first `reached` times, which are T here.
    """
    t, p, o = march.reached, march.p, march.o
    points = len(march.problem.kernel)
    if points == p:
        kernels = [h[: t * p, : t * p].view(t, p, t, p) for h in _cut(march)]
        return kernels, march.outputs[:t]
    held, back, front = points - p, slice(t * o), slice(t * p)
    cross = march.problem.kernel[p:, :p].repeat(t, t)  # H^(l-1) of test against training points
    own = march.problem.kernel[p:, p:].repeat(t, t)
    s, a, outputs, kernels = march.scale, None, None, []
    increments = _change(march, -1, cross)
    for layer in range(march.depth):
        c = torch.cat(
            [
                weigh(cross.view(t, held, t, p)[time], march.delta[:t].mT, march.w[time, :t])
                for time in range(t)
            ]
        )
        if a is not None and march.responses:
            c += a
        a = c @ march.y[layer][back, back]
        q = march.b[layer][back, front] @ cross.T
        r = q + march.g[layer][back, back] @ c.T
        own = own + s * (c @ r + q.T @ c.T)
        cross = cross + s * (c @ march.r[layer][back, front])
        cross += s * (q.T @ march.c[layer][front, back].T)
        increments += _change(march, layer, cross)
        kernels.append(_together(march.h[layer][front, front], cross, own, t))
        march.h[layer] = march.h[layer].new_empty(0)
        outputs = r.view(t, o, t, held).diagonal(dim1=0, dim2=2).permute(2, 1, 0)
    if not march.responses:
        outputs = torch.tensordot(march.w[:t, :t], increments, 1)
    assert outputs is not None
    return kernels, torch.cat((march.outputs[:t], outputs), dim=1)


def _cut(march: March) -> list[Float[Tensor, "TP TP"]]:
    n = march.reached * march.p
    return [h if len(h) == n else h[:n, :n].contiguous() for h in march.h]


def _change(
    march: March, layer: int, cross: Float[Tensor, "THeld TP"]
) -> Float[Tensor, "T Held C"]:
    """One layer's part of the tangent kernel of test against training points, times Delta."""
    t, p, o = march.reached, march.p, march.o
    time = torch.arange(t, device=cross.device)
    h = cross.view(t, -1, t, p)[time, :, time]
    above = march.g[layer + 1] if layer + 1 < march.depth else march.one.repeat(t, t)
    g = above[: t * o, : t * o].view(t, o, t, o)[time, :, time]
    return h @ march.delta[:t] @ g.mT


def _together(
    train: Float[Tensor, "TP TP"],
    cross: Float[Tensor, "THeld TP"],
    own: Float[Tensor, "THeld THeld"],
    t: int,
) -> Float[Tensor, "T All T All"]:
    p, held = len(train) // t, len(own) // t
    whole = train.new_empty(t, p + held, t, p + held)
    whole[:, :p, :, :p] = train.view(t, p, t, p)
    whole[:, p:, :, :p] = cross.view(t, held, t, p)
    whole[:, :p, :, p:] = cross.T.reshape(t, p, t, held)
    whole[:, p:, :, p:] = own.view(t, held, t, held)
    return whole
