"""The patches of its input a convolution multiplies its weight with."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def patches(
    x: Float[Tensor, "n c *space"],
    kernel: Sequence[int],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    out: Sequence[int],
) -> Float[Tensor, "n c k P"]:
    """Entry (n, c, j, p): what position j of the kernel meets at output position p.

    Any number of spatial dimensions. `out` is the output's spatial shape; input beyond what it
    needs is ignored. A copy, k times as large as the input.
    """
    widths = [w for p in reversed(padding) for w in (p, p)]
    if any(widths):
        x = torch.nn.functional.pad(x, widths)
    # Transposed convolutions with output padding reach a little beyond.
    short = [
        (o - 1) * s + (k - 1) * d + 1 - have
        for o, s, k, d, have in zip(out, stride, kernel, dilation, x.shape[2:], strict=True)
    ]
    if any(missing > 0 for missing in short):
        x = torch.nn.functional.pad(x, [w for m in reversed(short) for w in (0, max(0, m))])
    x = x.contiguous()
    steps = x.stride()[2:]
    windows = x.as_strided(
        (*x.shape[:2], *kernel, *out),
        (
            *x.stride()[:2],
            *(d * step for d, step in zip(dilation, steps, strict=True)),
            *(s * step for s, step in zip(stride, steps, strict=True)),
        ),
    )
    dims = len(kernel)
    return windows.flatten(2 + dims).flatten(2, 1 + dims)
