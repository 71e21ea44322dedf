"""Models that treat the first samples in one way, and later ones in another.

An engine that learns from a few samples what a model does, and believes it for all, fails here: a
layer that is not called yet, rows that divide evenly among samples by chance, padding that does not
occur.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkscale import ntk

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ntk.program import Program, parameter
from tests.ntk.zoo import perturb
from tests.ntk.zoo_dense import mlp
from tests.reference.ntk import jacobian_rows, of_output

FRESH = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
SEED = int(os.environ.get("ZOO_SEED", FRESH))


def padded(gather: Callable[[Any, Tensor], Tensor]) -> Program:
    def forward(m: Any, x: Tensor) -> Tensor:
        return gather(m, m.embed(x).tanh().mean(1))

    return Program(forward, embed=nn.Embedding(6, 4, padding_idx=0), w=parameter(4, 3))


def routed() -> Program:
    """Rows of every leading axis go to one of two experts, by the sign of their first entry."""

    def forward(m, x):
        first = x[..., 0] > 0
        y = x.new_zeros(*x.shape[:-1], 2)
        y[first] = m.one(x[first])
        y[~first] = m.two(x[~first])
        return y

    return Program(forward, one=mlp(3, 5, 2), two=mlp(3, 4, 2))


def routed_by_a_parameter() -> Program:
    """Under a head of zeros nothing flows back, and the parameter that routes has no gradient."""

    def forward(m, x):
        first = x[..., 0] + 50 * m.gate > 0
        y = x.new_zeros(*x.shape[:-1], 4)
        y[first] = m.one(x[first])
        y[~first] = m.two(x[~first])
        return m.zeros(torch.tanh(y).mean(1))

    head = nn.Linear(4, 2)
    nn.init.zeros_(head.weight)
    return Program(
        forward,
        one=nn.Linear(3, 4),
        two=nn.Linear(3, 4),
        zeros=head,
        gate=nn.Parameter(torch.tensor(0.01)),
    )


def called_where_needed() -> Program:
    """A layer that is called only if some sample of the batch needs it."""

    def forward(m, x):
        needs = x[:, :1] > 0
        h = m.always(x)
        if needs.any():
            h = torch.where(needs, h * m.seldom(x), h)
        return m.head(torch.tanh(h))

    return Program(forward, always=nn.Linear(3, 4), seldom=nn.Linear(3, 4), head=nn.Linear(4, 2))


def halting(*, one_by_one: bool) -> Program:
    """One step, or as many as the sample asks for."""

    def steps(x: Tensor) -> Tensor:
        return 1 + 2 * (x[..., 0] > 0).long() + (x[..., 0] > 0.7).long()

    def by_row(m, x):
        rows = []
        for row in x:
            for _ in range(int(steps(row))):
                row = torch.tanh(m.step(row))
            rows.append(m.head(row))
        return torch.stack(rows)

    def by_mask(m, x):
        left = steps(x)
        while (left > 0).any():
            x = torch.where((left > 0)[:, None], torch.tanh(m.step(x)), x)
            left = left - 1
        return m.head(x)

    return Program(by_row if one_by_one else by_mask, step=nn.Linear(3, 3), head=nn.Linear(3, 2))


def packed() -> Program:
    """Only the positions in use are computed on, as many as there happen to be."""

    def forward(m, x):
        used = x[..., 0] > 0
        h = torch.tanh(m.f(x[used]))
        owner = used.nonzero()[:, 0]
        return m.head(h.new_zeros(len(x), 4).index_add(0, owner, h))

    return Program(forward, f=nn.Linear(3, 4), head=nn.Linear(4, 2))


def tokens(n: int, *, tame: bool) -> Tensor:
    """Padding, which is token 0, only among the wild."""
    return torch.randint(int(tame), 6, (n, 5))


def rows(n: int, *, tame: bool) -> Tensor:
    """First entries below zero, or of either sign."""
    x = torch.randn(n, 3)
    return torch.cat([-x[:, :1].abs() if tame else x[:, :1], x[:, 1:]], 1)


def even_rows(n: int, *, tame: bool) -> Tensor:
    """Signs of first entries alternate from sample to sample, or are random."""
    x = torch.randn(n, 3)
    x[:, 0] = x[:, 0].abs() * (1 - 2 * (torch.arange(n) % 2)) if tame else x[:, 0]
    return x


def even_positions(n: int, *, tame: bool) -> Tensor:
    """Two positions of four have a first entry above zero, or any number of them."""
    x = torch.randn(n, 4, 3)
    if tame:
        x[..., 0] = x[..., 0].abs() * torch.tensor([1.0, -1, -1, 1])
    return x


CASES: dict[str, tuple[Callable[[], Program], Callable[..., Tensor]]] = {
    "padding": (lambda: padded(lambda m, h: h @ m.w), tokens),
    "padding, samples in a loop": (
        lambda: padded(lambda m, h: torch.stack([one @ m.w for one in h])),
        tokens,
    ),
    "padding, first sample apart": (
        lambda: padded(lambda m, h: torch.cat([h[:1] @ m.w, h[1:] @ m.w])),
        tokens,
    ),
    "routed samples": (routed, rows),
    "routed samples, evenly at first": (routed, even_rows),
    "routed positions, evenly at first": (routed, even_positions),
    "packed positions, evenly at first": (packed, even_positions),
    "positions routed by a parameter, head of zeros": (routed_by_a_parameter, even_positions),
    "layer called where needed": (called_where_needed, rows),
    "steps by the sample": (lambda: halting(one_by_one=True), rows),
    "steps by the sample, masked": (lambda: halting(one_by_one=False), rows),
}
ORDERS = ["tame, then wild", "wild, then tame", "tame against wild", "wild against tame"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CASES)
def test_later_samples_that_differ(name, order):
    print(f"ZOO_SEED={SEED}")
    torch.manual_seed(SEED)
    build, inputs = CASES[name]
    model = build()
    perturb(model, keep=("gate", "zeros.weight"))
    model.double()
    tame, wild = inputs(4, tame=True), inputs(4, tame=False)
    a, b = (tame, wild) if order.startswith("tame") else (wild, tame)
    a, b = (x.double() if x.is_floating_point() else x for x in (a, b))
    x1, x2 = (a, b) if "against" in order else (torch.cat([a, b]), None)
    left = jacobian_rows(model, x1)
    right = left if x2 is None else jacobian_rows(model, x2)
    full = torch.stack([torch.einsum("acw,bdw->abcd", left[k], right[k]) for k in left]).sum(0)
    # Room for all samples at once, and for two or three.
    checks: list[tuple[Any, int | None]] = [("full", None), ("trace", 4000)]
    for output, memory in checks:
        error = ntk.gram(model, x1, x2, output=output, memory=memory) - of_output(full, output)
        worst, largest = float(error.abs().max()), float(full.abs().max())
        assert worst <= 1e-10 * largest, f"{output}, {memory=}: {worst:.1e} of {largest:.1e}"
