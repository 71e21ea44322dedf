"""Models made of dense layers and norms."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from ntkscale import networks
from tests.ntk.program import SAMPLES, Entry, Program, parameter


def mlp(*sizes: int, act: type[nn.Module] = nn.Tanh, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), act()]
    return nn.Sequential(*layers[:-1])


def batch_norm_eval() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.BatchNorm1d(6, affine=False), mlp(6, 2)
    ).eval()


def in_place() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 6), nn.SiLU(inplace=True), mlp(6, 3)
    )


def soft_experts() -> Program:
    def forward(m, x):
        gate = torch.softmax(m.gate(x), -1)
        return sum(gate[:, i : i + 1] * expert(x) for i, expert in enumerate((m.one, m.two)))

    return Program(forward, gate=nn.Linear(5, 2), one=mlp(5, 6, 3), two=mlp(5, 4, 3))


def hard_experts() -> Program:
    """Every expert sees the samples that chose it, however many those are."""

    def forward(m, x):
        score, choice = torch.softmax(m.gate(x), -1).max(-1)
        y = x.new_zeros(len(x), 2)
        for i, expert in enumerate(m.experts):
            index = (choice == i).nonzero()[:, 0]
            if len(index):
                y = y.index_add(0, index, expert(x[index]))
        return y * score[:, None]

    experts = nn.ModuleList(mlp(5, 4, 2) for _ in range(3))
    return Program(forward, gate=nn.Linear(5, 3), experts=experts)


def shared_trunk() -> Program:
    def forward(m, a, b):
        u, v = m.trunk(a), m.trunk(b)
        return m.head(torch.cat([u * v, (u - v).abs()], -1))

    return Program(forward, trunk=mlp(5, 6, 4), head=nn.Linear(8, 2))


def stacked_siamese() -> Program:
    """Both halves of a pair go through the trunk at once, side by side along the sample axis."""

    def forward(m, x):
        u, v = m.trunk(torch.cat([x[:, 0], x[:, 1]])).chunk(2)
        return m.head(u * v)

    return Program(forward, trunk=mlp(4, 6, 3), head=nn.Linear(3, 2))


def named_inputs() -> Program:
    def forward(m, *, left, right):
        return m.head(torch.tanh(m.left(left) + m.right(right).sum(1)))

    return Program(forward, left=nn.Linear(4, 6), right=nn.Linear(3, 6), head=nn.Linear(6, 2))


def learned_waves() -> Program:
    def forward(m, x):
        phase = 2 * x @ m.frequency
        return m.head(torch.cat([phase.sin(), phase.cos()], -1))

    return Program(forward, frequency=parameter(3, 5), head=nn.Linear(10, 2))


def einsum(pattern: str, *shape: int, second: str | None = None) -> Program:
    """One layer by einsum, a nonlinearity, and a sum to three outputs."""

    def forward(m, x):
        h = torch.tanh(torch.einsum(pattern, x, m.w))
        return m.head(h.flatten(1))

    return Program(forward, w=parameter(*shape), head=nn.LazyLinear(3))


def ready(model: nn.Module, *shape: int) -> nn.Module:
    """The module once its lazy layers know their sizes."""
    model(torch.randn(2, *shape))
    return model


DENSE: dict[str, Entry] = {
    "mlp": Entry(lambda: mlp(5, 9, 7, 3, act=nn.ReLU), (5,)),
    "mlp, one output": Entry(lambda: mlp(4, 8, 1), (4,)),
    "mlp, output without an axis": Entry(
        lambda: Program(lambda m, x: m.net(x)[:, 0], net=mlp(4, 8, 1)), (4,)
    ),
    "linear alone": Entry(lambda: nn.Linear(4, 3), (4,)),
    "more outputs than width": Entry(lambda: mlp(3, 2, 9), (3,)),
    "deep without biases": Entry(lambda: mlp(6, 5, 5, 5, 5, 2, act=nn.GELU, bias=False), (6,)),
    "images flattened": Entry(lambda: nn.Sequential(nn.Flatten(), mlp(12, 6, 2)), (3, 2, 2)),
    "ReLU in place": Entry(in_place, (5,)),
    "module called twice": Entry(
        lambda: Program(
            lambda m, x: m.out(torch.tanh(m.f(torch.tanh(m.f(x))))),
            f=nn.Linear(5, 5),
            out=nn.Linear(5, 2),
        ),
        (5,),
    ),
    "module called on unequal shapes": Entry(
        lambda: Program(lambda m, x: m.f(x[:, 0]) + m.f(x).tanh().mean(1), f=nn.Linear(4, 3)),
        (5, 4),
    ),
    "siamese, two inputs": Entry(shared_trunk, [(5,), (5,)]),
    "siamese, stacked": Entry(stacked_siamese, (2, 4)),
    "inputs by name": Entry(named_inputs, {"left": (4,), "right": (2, 3)}),
    "linear over a sequence": Entry(
        lambda: Program(lambda m, x: m.net(x).mean(1), net=mlp(4, 6, 3)), (6, 4)
    ),
    "linear over a sequence as long as the batch": Entry(
        lambda: Program(lambda m, x: m.net(x)[:, 0], net=mlp(4, 6, 3)), (SAMPLES, 4)
    ),
    "linear over two axes, outputs kept": Entry(lambda: mlp(3, 4, 2), (2, 2, 3)),
    "samples and positions merged": Entry(
        lambda: Program(lambda m, x: m.net(x.reshape(-1, 4)).reshape(len(x), -1), net=mlp(4, 5, 2)),
        (3, 4),
    ),
    "positions first": Entry(
        lambda: Program(lambda m, x: m.net(x.transpose(0, 1)).tanh().mean(0), net=mlp(4, 5, 2)),
        (SAMPLES, 4),
    ),
    "outputs (n, 2, 3)": Entry(
        lambda: Program(
            lambda m, x: torch.stack([m.one(m.trunk(x)), m.two(m.trunk(x))], 1),
            trunk=mlp(5, 6, 6),
            one=nn.Linear(6, 3),
            two=nn.Linear(6, 3),
        ),
        (5,),
    ),
    "bilinear": Entry(
        lambda: Program(lambda m, a, b: m.f(a, b).tanh(), f=nn.Bilinear(3, 4, 2)), [(3,), (4,)]
    ),
    "bilinear in one input": Entry(
        lambda: Program(lambda m, x: m.f(x, m.g(x)), f=nn.Bilinear(3, 3, 2), g=mlp(3, 4, 3)), (3,)
    ),
    "PReLU": Entry(lambda: nn.Sequential(nn.Linear(4, 6), nn.PReLU(), mlp(6, 2)), (4,)),
    "PReLU by channel": Entry(lambda: nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), mlp(6, 2)), (4,)),
    "gated linear unit": Entry(lambda: nn.Sequential(nn.Linear(4, 10), nn.GLU(), mlp(5, 3)), (4,)),
    "layer norm": Entry(
        lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)), (5,)
    ),
    "layer norm over two axes": Entry(
        lambda: nn.Sequential(nn.LayerNorm([3, 4]), nn.Flatten(), mlp(12, 4, 2)), (3, 4)
    ),
    "layer norm over a sequence": Entry(
        lambda: Program(
            lambda m, x: m.head(m.norm(m.f(x))).mean(1),
            f=nn.Linear(4, 6),
            norm=nn.LayerNorm(6),
            head=mlp(6, 4, 2),
        ),
        (SAMPLES, 4),
    ),
    "layer norm without bias": Entry(
        lambda: nn.Sequential(mlp(5, 8), nn.LayerNorm(8, bias=False), mlp(8, 2)), (5,)
    ),
    "RMS norm": Entry(
        lambda: nn.Sequential(nn.Linear(5, 8), nn.RMSNorm(8), nn.Tanh(), nn.Linear(8, 2)), (5,)
    ),
    "batch norm in eval": Entry(batch_norm_eval, (5,)),
    "two experts, soft gate": Entry(soft_experts, (5,)),
    "three experts, hard routing": Entry(hard_experts, (5,)),
    "residual blocks": Entry(
        lambda: Program(
            lambda m, x: m.out(m.b(m.a(x) + x) + m.a(x) + x),
            a=mlp(5, 7, 5),
            b=mlp(5, 4, 5),
            out=nn.Linear(5, 2),
        ),
        (5,),
    ),
    "learned Fourier features": Entry(learned_waves, (3,)),
    "einsum nd,kd->nk": Entry(lambda: ready(einsum("nd,kd->nk", 6, 4), 4), (4,)),
    "einsum ntd,dk->ntk": Entry(lambda: ready(einsum("ntd,dk->ntk", 4, 5), 3, 4), (3, 4)),
    "einsum ntd,ts->nsd": Entry(lambda: ready(einsum("ntd,ts->nsd", 3, 5), 3, 4), (3, 4)),
    "einsum nhd,hdk->nhk": Entry(lambda: ready(einsum("nhd,hdk->nhk", 3, 4, 2), 3, 4), (3, 4)),
    "einsum ntd,tdk->nk": Entry(lambda: ready(einsum("ntd,tdk->nk", 3, 4, 5), 3, 4), (3, 4)),
    "einsum nd,d->nd": Entry(lambda: ready(einsum("nd,d->nd", 4), 4), (4,)),
    "einsum of three": Entry(
        lambda: Program(
            lambda m, x: torch.einsum("ni,ijk,nj->nk", x, m.w, m.net(x)),
            w=parameter(4, 3, 2),
            net=mlp(4, 3),
        ),
        (4,),
    ),
    "MLP of ntkscale": Entry(
        lambda: networks.MLP(4, 2, width=8, depth=2, bias=True, centered=True, gamma0=0.7), (4,)
    ),
    "three-layer MLP of ntkscale": Entry(
        lambda: networks.MLP(4, 1, width=6, depth=3, activation="relu2"), (2, 2)
    ),
    "softmax outputs": Entry(
        lambda: Program(lambda m, x: F.log_softmax(m.net(x), -1), net=mlp(4, 6, 3)), (4,)
    ),
}
