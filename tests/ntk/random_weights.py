"""Matrices and vectors made of parameters in random ways, parameters of earlier ones included."""

import random
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from tests.ntk.program import Program


class Source:
    """Random choices, and the parameters made so far, which later weights may use again."""

    def __init__(self, seed: int, samples: int):
        self.rng = random.Random(seed)
        self.samples = samples
        self.pool: list[nn.Parameter] = []

    def size(self) -> int:
        """A small size, often that of the batch, so that axes cannot be told apart by it."""
        return self.rng.choice([2, 3, 4, 5, self.samples, self.samples, self.samples])

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def parameter(self, *shape: int) -> nn.Parameter:
        p = nn.Parameter(0.6 * torch.randn(*shape))
        self.pool.append(p)
        return p

    def used(self, fits: Callable[[nn.Parameter], bool]) -> nn.Parameter | None:
        found = [p for p in self.pool if fits(p)]
        return self.rng.choice(found) if found else None


def matrix(source: Source, rows: int, columns: int) -> Program:
    """A module without inputs that returns a matrix (rows, columns)."""
    made = source.rng.choice(MATRICES)(source, rows, columns)
    return made or plain(source, rows, columns)


def vector(source: Source, size: int) -> Program:
    """A module without inputs that returns a vector."""
    made = source.rng.choice(VECTORS)(source, size)
    return made or Program(lambda m: m.p, p=source.parameter(size))


def plain(source: Source, rows: int, columns: int) -> Program:
    return Program(lambda m: m.p, p=source.parameter(rows, columns))


def shared(source: Source, rows: int, columns: int) -> Program | None:
    """A matrix that is used already, maybe as its transpose."""
    p = source.used(lambda p: p.shape in ((rows, columns), (columns, rows)))
    if p is None:
        return None
    return Program(lambda m: m.p if m.p.shape == (rows, columns) else m.p.T, p=p)


def piece(source: Source, rows: int, columns: int) -> Program | None:
    """A stretch of the entries of a parameter that is used already."""
    p = source.used(lambda p: p.numel() >= rows * columns)
    if p is None:
        return None
    first = source.rng.randrange(p.numel() - rows * columns + 1)
    last = first + rows * columns
    return Program(lambda m: m.p.reshape(-1)[first:last].reshape(rows, columns), p=p)


def transposed(source: Source, rows: int, columns: int) -> Program:
    return Program(lambda m: m.p.T, p=source.parameter(columns, rows))


def sliced(source: Source, rows: int, columns: int) -> Program:
    p = source.parameter(rows + 2, 2 * columns)
    return Program(lambda m: m.p[1 : rows + 1, ::2], p=p)


def softmax(source: Source, rows: int, columns: int) -> Program:
    axis = source.rng.choice([0, 1])
    return Program(lambda m: torch.softmax(m.p, axis), p=source.parameter(rows, columns))


def normalised(source: Source, rows: int, columns: int) -> Program:
    axis = source.rng.choice([None, 0, 1])

    def forward(m):
        size = m.p.norm() if axis is None else m.p.norm(dim=axis, keepdim=True)
        return m.p / (0.5 + size)

    return Program(forward, p=source.parameter(rows, columns))


def joined(source: Source, rows: int, columns: int) -> Program | None:
    if rows < 2:
        return None
    top = source.rng.randrange(1, rows)
    a, b = source.parameter(top, columns), source.parameter(columns, rows - top)
    return Program(lambda m: torch.cat([m.a, m.b.T]), a=a, b=b)


def masked(source: Source, rows: int, columns: int) -> Program:
    mask = (torch.rand(rows, columns) < 0.6).float()
    return Program(lambda m: m.p * m.mask, p=source.parameter(rows, columns), mask=mask)


def chosen(source: Source, rows: int, columns: int) -> Program:
    """Rows of a parameter, some of them twice, some never."""
    index = torch.randint(0, 3, (rows,))
    return Program(lambda m: m.p[m.index], p=source.parameter(3, columns), index=index)


def product(source: Source, rows: int, columns: int) -> Program:
    inner = source.size()
    return Program(
        lambda m: torch.tanh(m.a()) @ m.b,
        a=matrix(source, rows, inner),
        b=source.parameter(inner, columns),
    )


def scaled(source: Source, rows: int, columns: int) -> Program:
    s = source.parameter(1)
    return Program(lambda m: m.p() * torch.exp(0.5 * m.s), p=matrix(source, rows, columns), s=s)


def outer(source: Source, rows: int, columns: int) -> Program:
    return Program(
        lambda m: m.a()[:, None] * m.b(), a=vector(source, rows), b=vector(source, columns)
    )


def expanded(source: Source, rows: int, columns: int) -> Program:
    eye = torch.eye(rows, columns)
    return Program(
        lambda m: m.p().expand(rows, columns) + m.eye, p=vector(source, columns), eye=eye
    )


def symmetric(source: Source, rows: int, columns: int) -> Program | None:
    if rows != columns:
        return None
    return Program(lambda m: (m.p + m.p.T) / 2, p=source.parameter(rows, columns))


def through_layer(source: Source, rows: int, columns: int) -> Program:
    """A layer that is called on a parameter, which has no samples."""
    k = source.size()
    layer: nn.Module = nn.Linear(k, columns)
    if source.chance(0.5):
        layer = nn.Sequential(layer, nn.LayerNorm(columns, 0.1))
    return Program(lambda m: m.f(m.p), f=layer, p=source.parameter(rows, k))


def of_layer(source: Source, rows: int, columns: int) -> Program:
    """The weight of a layer that is never called."""
    layer = nn.Linear(columns, rows, bias=False)
    source.pool += layer.parameters()
    return Program(lambda m: m.layer.weight, layer=layer)


MATRICES: list[Callable[[Source, int, int], Program | None]] = [
    plain, shared, shared, piece, transposed, sliced, softmax, normalised, joined, masked, chosen,
    product, scaled, outer, expanded, symmetric, of_layer,
    through_layer,
]  # fmt: skip


def shared_vector(source: Source, size: int) -> Program | None:
    p = source.used(lambda p: p.shape == (size,))
    return None if p is None else Program(lambda m: m.p, p=p)


def row(source: Source, size: int) -> Program | None:
    """A row or a column of a matrix that is used already."""
    p = source.used(lambda p: p.ndim == 2 and size in p.shape)
    if p is None:
        return None
    return Program(lambda m: m.p[-1] if m.p.shape[1] == size else m.p[:, 0], p=p)


def mean_of_rows(source: Source, size: int) -> Program:
    return Program(lambda m: m.p().mean(0), p=matrix(source, source.size(), size))


def diagonal(source: Source, size: int) -> Program:
    return Program(lambda m: m.p().diagonal(), p=matrix(source, size, size))


def number(source: Source, size: int) -> Program:
    """One number, `size` times."""
    return Program(lambda m: m.p.expand(size), p=source.parameter(1))


def squashed(source: Source, size: int) -> Program:
    return Program(lambda m: F.softplus(m.p), p=source.parameter(size))


def summed(source: Source, size: int) -> Program:
    return Program(lambda m: m.p.cumsum(0), p=source.parameter(size))


VECTORS: list[Callable[[Source, int], Program | None]] = [
    lambda source, size: None, shared_vector, shared_vector, row, mean_of_rows, diagonal, number,
    squashed, summed,
]  # fmt: skip
