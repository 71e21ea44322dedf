"""Models for which no kernel is defined: random forwards, and those that mix their samples."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.ntk.program import Entry, Program, Whole, parameter
from tests.ntk.zoo_dense import mlp


def mixing(forward) -> Entry:
    return Entry(lambda: Program(lambda m, x: forward(m.net(x)), net=mlp(5, 6, 3)), (5,))


REFUSED: dict[str, Entry] = {
    "dropout": Entry(lambda: nn.Sequential(mlp(5, 6), nn.Dropout(0.1), mlp(6, 2)), (5,)),
    "dropout inside attention": Entry(
        lambda: Program(
            lambda m, x: m.f(x, x, x)[0][:, 0],
            f=nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
        ),
        (3, 4),
    ),
    "functional dropout": mixing(lambda h: F.dropout(h, 0.3)),
    "batch norm in training": Entry(
        lambda: nn.Sequential(mlp(5, 6), nn.BatchNorm1d(6), mlp(6, 2)), (5,)
    ),
    "batch norm without statistics": Entry(
        lambda: nn.Sequential(
            mlp(5, 6), nn.BatchNorm1d(6, track_running_stats=False), mlp(6, 2)
        ).eval(),
        (5,),
    ),
    "embedding scaled by frequency in the batch": Entry(
        lambda: Program(
            lambda m, x: m.embed(x).tanh().sum(1), embed=nn.Embedding(3, 4, scale_grad_by_freq=True)
        ),
        Whole(3, (5,)),
    ),
    "noise": mixing(lambda h: h * (1 + 0.1 * torch.rand_like(h))),
    "mean of the batch taken off": Entry(
        lambda: Program(lambda m, x: m.net(x - x.mean(0)), net=mlp(5, 6, 3)), (5,)
    ),
    "mean of the outputs taken off": mixing(lambda y: y - y.mean(0)),
    "softmax over the batch": mixing(lambda y: torch.softmax(y, 0)),
    "samples in another order": mixing(lambda y: y.roll(1, 0)),
    "similarities within the batch": mixing(lambda y: (y @ y.T).sum(1)),
    "attention over samples": Entry(
        lambda: Program(
            lambda m, x: m.f(x, x, x, need_weights=False)[0].mean(1), f=nn.MultiheadAttention(4, 2)
        ),
        (3, 4),
    ),
    "recurrence over samples": Entry(
        lambda: Program(lambda m, x: (x.cumsum(0).flip(0) * m.p).tanh(), p=parameter(5)), (5,)
    ),
}
