"""What is computed, how it is cut into blocks, in which order they come and who takes which.

Blocks are walked row by row in serpentine order: even rows of blocks from left to right, odd ones
from right to left. So whoever keeps the factors of the last rows and of the last columns makes at
most one of the two anew for a block, also where a row of blocks ends and the next begins.
Of a symmetric kernel only the blocks on and below the diagonal are walked:
(0,0); (1,1), (1,0); (2,0), (2,1), (2,2); (3,3), ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

Block = tuple[int, int]
"""Place of a block in the grid of blocks: its row and its column."""

Region = tuple[slice, slice]
"""Rows and columns of the kernel."""

DTYPES = ("<f4", "<f8")
"""What a kernel is stored in: float32 or float64, little-endian."""

MOST_BLOCKS = 1 << 19
"""More blocks than this make a manifest that `manifest.read_manifest` would refuse to read."""


@dataclass(frozen=True)
class Job:
    """A kernel to be written block by block; part of what is recorded about it.

    Attributes:
        shape: of the kernel, (n1, n2), (n1, n2, C) or (n1, n2, C, C).
        dtype: of the file, see `DTYPES`.
        block: rows and columns of a block; those at the edges are smaller.
        symmetric: K_cd(x, x') = K_dc(x', x), so half the blocks follow from the others.
        fingerprint: equal for two kernels exactly if they are equal.

    Raises:
        ValueError: any of them is not so.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    block: int
    symmetric: bool
    fingerprint: str

    def __post_init__(self) -> None:
        shape, tail = self.shape, self.shape[2:]
        if not 2 <= len(shape) <= 4 or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError(f"a kernel has no shape {shape}; give (n1, n2), (n1, n2, C) or more.")
        if self.symmetric and (shape[0] != shape[1] or (len(tail) == 2 and tail[0] != tail[1])):
            raise ValueError(f"a kernel of shape {shape} is not symmetric; pass symmetric=False.")
        if self.dtype.str not in DTYPES:
            raise ValueError(f"a kernel of {self.dtype} cannot be stored; use float32 or float64.")
        if prod(shape) * self.dtype.itemsize >= 1 << 62:
            raise ValueError(f"no file holds a kernel of shape {shape}; use fewer inputs.")
        if type(self.block) is not int or self.block < 1:
            raise ValueError(f"blocks of {self.block} rows do not exist; pass at least 1.")
        if prod(self.grid) > MOST_BLOCKS:
            raise ValueError(
                f"blocks of {self.block} rows are too small for a kernel of shape {shape}; take "
                f"at most {MOST_BLOCKS:,} blocks."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and of columns of blocks."""
        return -(-self.shape[0] // self.block), -(-self.shape[1] // self.block)

    def walk(self) -> list[Block]:
        """The blocks to compute, in serpentine order."""
        rows, columns = self.grid
        blocks: list[Block] = []
        for i in range(rows):
            row = range(i + 1 if self.symmetric else columns)
            blocks += [(i, j) for j in (row if i % 2 == 0 else reversed(row))]
        return blocks

    def region(self, block: Block) -> Region:
        """Rows and columns of one block of the grid."""
        rows, columns = (
            slice(k * self.block, min((k + 1) * self.block, n))
            for k, n in zip(block, self.shape, strict=False)
        )
        return rows, columns

    def places(self, block: Block) -> tuple[Block, ...]:
        """Where a computed block goes: its place, and its mirror's if it has one."""
        i, j = block
        return (block, (j, i)) if self.symmetric and i != j else (block,)

    def entries(self, block: Block) -> int:
        """Pairs of samples that are done with this block, its mirror's included."""
        rows, columns = self.region(block)
        return (rows.stop - rows.start) * (columns.stop - columns.start) * len(self.places(block))


def deal(job: Job, blocks: Sequence[Block], ranks: int) -> list[list[Block]]:
    """Cut blocks into one run for each rank, equal in entries to within a block; rank 0 gets some.

    Runs and not every `ranks`-th block, so that each rank keeps what the order saves. Nothing but
    the arguments decides, so all ranks agree without talking.
    """
    total = sum(job.entries(block) for block in blocks)
    hands: list[list[Block]] = [[] for _ in range(ranks)]
    before = 0
    for block in blocks:
        hands[before * ranks // total].append(block)
        before += job.entries(block)
    return hands
