"""The kernel column by column, from its products with unit vectors.

Never forms a gradient of one sample: one direction in parameter space is all that is held. The
slowest route, and the one that is least like the others.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.forward import Forward
from ntkscale.ntk.inputs import Batch, count, each, tensors
from ntkscale.ntk.products import Products, products

COLUMNS = 32
"""Columns computed together."""


def kernel_by_products(
    forward: Forward,
    x1: Batch,
    x2: Batch | None,
    *,
    kind: Kind,
    outputs: tuple[int, ...],
    memory: int,
    progress: Callable[[int, int], object] | None,
) -> Float[Tensor, "G n1 n2"]:
    """The squares of the kernel, G = 1, C or C^2 of them, in the precision sums are taken in.

    Cost: C VJPs and JVPs over all samples for each of the n2 columns.

    Raises:
        ValueError: the model has no forward-mode derivative, nor one by two reverse passes.
    """
    n1 = count(x1)
    x = x1 if x2 is None else _joined(x1, x2)
    n2, offset = (n1, 0) if x2 is None else (count(x2), n1)
    single = kind == "trace" and len(outputs) == 1
    if kind == "full":
        whole = products(forward, x, output=None, full=True, memory=memory)
        c = whole.size
        flat = _columns(whole, offset * c, n2 * c, _share(progress, 0, 1))[: n1 * c]
        return flat.view(n1, c, n2, c).permute(1, 3, 0, 2).reshape(c * c, n1, n2)
    picked = [None] if kind == "trace" and not single else list(outputs)
    squares = []
    for k, c in enumerate(picked):
        one = products(forward, x, output=c, full=False, memory=memory)
        squares.append(_columns(one, offset, n2, _share(progress, k, len(picked)))[:n1])
    found = torch.stack(squares)
    # Equal but for rounding: column j came from sample j.
    return (found + found.transpose(1, 2)) / 2 if x2 is None else found


def _columns(
    linear: Products, first: int, number: int, tell: Callable[[int, int], object]
) -> Float[Tensor, "N number"]:
    found = []
    for start in range(0, number, COLUMNS):
        width = min(COLUMNS, number - start)
        unit = torch.zeros(linear.length, width, dtype=torch.float64)
        unit[first + start + torch.arange(width), torch.arange(width)] = 1
        found.append(linear.times(unit))
        tell(start + width, number)
    return torch.cat(found, 1)


def _share(
    progress: Callable[[int, int], object] | None, k: int, of: int
) -> Callable[[int, int], object]:
    def tell(done: int, number: int) -> None:
        if progress is not None:
            progress(k * number + done, of * number)

    return tell


def _joined(x1: Batch, x2: Batch) -> Batch:
    if isinstance(x1, Mapping) and isinstance(x2, Mapping):
        x2 = {name: x2[name] for name in x1}
    second = iter(tensors(x2))
    return each(lambda t: torch.cat([t, next(second)]), x1)
