"""Kernels out of Jacobian rows, for the peers that give rows: block by block of samples.

The loop does for a peer what a careful user would: it uses the symmetry of the kernel, and one set
of rows where all of them fit.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Rows = Callable[[Tensor, Sequence[int]], list[Tensor]]
"""Inputs and outputs to the rows, one (samples, outputs, numbers) tensor for each parameter."""


def gram_from_rows(
    rows: Rows, x: Tensor, classes: int, output: str, *, samples: int, outputs: str
) -> Tensor:
    """J J^T, traced or full, from rows of `samples` samples at a time."""
    n = len(x)
    tail = (classes, classes) if output == "full" else ()
    kernel = x.new_zeros(n, n, *tail)
    groups = [[c] for c in range(classes)] if outputs == "one" else [list(range(classes))]
    for group in groups:
        for first in range(0, n, samples):
            last = min(first + samples, n)
            left = rows(x[first:last], group)
            for start in range(0, first + 1, samples):
                stop = min(start + samples, n)
                right = left if start == first else rows(x[start:stop], group)
                block = _product(left, right, output)
                kernel[first:last, start:stop] += block
                if start != first:
                    across = block.transpose(0, 1)
                    if output == "full":
                        across = across.transpose(2, 3)
                    kernel[start:stop, first:last] += across
    return kernel


def _product(left: list[Tensor], right: list[Tensor], output: str) -> Tensor:
    if output == "trace":
        parts = [a.flatten(1) @ b.flatten(1).T for a, b in zip(left, right, strict=True)]
        return _sum(parts)
    parts = [a.flatten(0, 1) @ b.flatten(0, 1).T for a, b in zip(left, right, strict=True)]
    (a, ca, _), (b, cb, _) = left[0].shape, right[0].shape
    return _sum(parts).view(a, ca, b, cb).transpose(1, 2)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total.add_(part)
    return total
