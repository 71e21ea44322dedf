"""The kernel out of blocks of rows: J J^T, block by block, summed in float64."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.inputs import Batch, count, rows
from ntkscale.ntk.jacobian import Jacobian

Kind = Literal["trace", "diagonal", "full"]

WIDTH = 4_096
"""Columns of one matrix product. Products of float32 rows this long stay within 1.5e-7 of the
kernel's largest entry (rows four times as long: 3e-7; one product over millions of columns: 1e-3),
the sum over products is taken in float64, and it is as fast as one long product."""

TILE = 32
"""Least rows of a tile of the symmetric product, of which those above the diagonal are left out."""


@dataclass(frozen=True)
class Cut:
    """How the kernel is cut up to stay within a memory budget.

    Attributes:
        rows: samples of `x1` whose Jacobian rows are held together.
        columns: samples of `x2` held beside them.
        outputs: outputs whose rows are held together.
    """

    rows: int
    columns: int
    outputs: int

    @classmethod
    def fit(
        cls, n1: int, n2: int | None, outputs: int, kind: Kind, row_bytes: int, memory: int
    ) -> "Cut":
        """The cut with the fewest Jacobian rows computed twice; never less than a sample a side.

        n2 is None for the symmetric kernel, which needs no second side while all of it fits.
        """
        least = outputs if kind == "full" else 1
        held = max(1, memory // max(1, row_bytes * least))
        if n2 is None and n1 <= held:
            rows, columns = n1, 0
        else:
            rows = max(1, min(n1, held - max(1, held // 4)))
            columns = max(1, min(n2 if n2 is not None else n1, held - rows))
        fits = memory // max(1, row_bytes * (rows + columns))
        return cls(rows, columns, outputs if kind == "full" else max(1, min(outputs, fits)))


def panels(
    jacobian: Jacobian,
    x1: Batch,
    x2: Batch | None,
    *,
    outputs: Sequence[int],
    kind: Kind,
    cut: Cut,
    progress: Callable[[int, int], object] | None,
) -> Iterator[tuple[int, int, list[Float[Tensor, "rows n2 ..."]]]]:
    """Rows [first, last) of the kernel, one panel after the other, for each block of columns.

    Where `x2` is None a panel reaches only to its own last row: the rest follows by symmetry.
    """
    groups = [outputs[i : i + cut.outputs] for i in range(0, len(outputs), cut.outputs)]
    tail = {"trace": (), "diagonal": (len(outputs),), "full": (len(outputs),) * 2}[kind]
    n1, device = count(x1), jacobian.forward.device
    starts = range(0, n1, cut.rows)

    def others(first: int) -> int:
        return first if x2 is None else count(x2)

    total = sum(min(cut.rows, n1 - i) + others(i) for i in starts) * len(outputs)
    done = 0

    def tick(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    for first in starts:
        last = min(first + cut.rows, n1)
        width = last if x2 is None else count(x2)
        panel = [
            torch.zeros(last - first, width, *tail, dtype=_sums(device), device=device)
            for _ in jacobian.columns.widths
        ]
        seen = 0
        for group in groups:
            at = slice(seen, seen + len(group))
            seen += len(group)
            left = jacobian.rows(rows(x1, slice(first, last)), group, tick)
            if x2 is None:
                for k, block in enumerate(left):
                    _add(panel[k][:, first:], block, block, kind, at)
            for start in range(0, others(first), max(1, cut.columns)):
                stop = min(start + cut.columns, others(first))
                right = jacobian.rows(
                    rows(x1 if x2 is None else x2, slice(start, stop)), group, tick
                )
                for k, block in enumerate(left):
                    _add(panel[k][:, start:stop], block, right[k], kind, at)
        yield first, last, panel


def _add(
    into: Float[Tensor, "a b ..."],
    left: Float[Tensor, "a G w"],
    right: Float[Tensor, "b G w"],
    kind: Kind,
    outputs: slice,
) -> None:
    """Add what a block of columns contributes, for the outputs of this group."""
    symmetric = left is right
    if kind == "trace":
        into += _product(left.flatten(1), right.flatten(1), symmetric)
    elif kind == "diagonal":
        for c in range(left.shape[1]):
            into[..., outputs.start + c] += _product(left[:, c], right[:, c], symmetric)
    else:
        product = _product(left.flatten(0, 1), right.flatten(0, 1), symmetric)
        into += product.unflatten(1, right.shape[:2]).unflatten(0, left.shape[:2]).transpose(1, 2)


def _product(
    left: Float[Tensor, "a w"], right: Float[Tensor, "b w"], symmetric: bool
) -> Float[Tensor, "a b"]:
    """left @ right^T in float64 sums; bitwise symmetric where both are the same rows."""
    sums = left.new_zeros(left.shape[0], right.shape[0], dtype=_sums(left.device))
    tile = max(TILE, left.shape[0] // 4) if symmetric else max(1, left.shape[0])
    for first in range(0, left.shape[0], tile):
        last = first + tile if symmetric else right.shape[0]
        part = sums[first : first + tile, :last]
        for start in range(0, left.shape[1], WIDTH):
            span = slice(start, start + WIDTH)
            part += left[first : first + tile, span] @ right[:last, span].T
    if symmetric:
        sums = torch.tril(sums) + torch.tril(sums, -1).T
    return sums


def _sums(device: torch.device) -> torch.dtype:
    """What sums are taken in: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64
