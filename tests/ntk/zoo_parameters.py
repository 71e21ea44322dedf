"""Models with parameters outside of layers: free, tied, sliced, transformed, unused, frozen."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from tests.ntk.program import Entry, Program, Whole, parameter
from tests.ntk.zoo_dense import mlp


def shared_weight() -> Program:
    model: Any = Program(
        lambda m, x: m.b(torch.relu(m.a(x))) + m.c(x),
        a=nn.Linear(5, 5),
        b=nn.Linear(5, 5, bias=False),
        c=nn.Linear(5, 5),
    )
    model.b.weight = model.c.weight = model.a.weight
    model.c.bias = model.a.bias
    return model


def shared_kernel() -> Program:
    """One tensor is a convolution's kernel, and the matrix of a linear layer."""

    def forward(m, x):
        h = torch.tanh(F.conv1d(x, m.w)).mean(2)
        return h @ m.w.reshape(4, 6)

    return Program(forward, w=parameter(4, 2, 3, scale=0.5))


def normalised_weights() -> nn.Module:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(5, 6)),
        nn.Tanh(),
        parametrizations.weight_norm(nn.Linear(6, 3), dim=1),
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("original0"):  # The norm g, away from |v|, where it starts.
                p.mul_(1.7).add_(0.1 * torch.randn_like(p))
    return model


def spectral() -> nn.Module:
    first = parametrizations.spectral_norm(nn.Linear(5, 6))
    second = parametrizations.spectral_norm(nn.Conv1d(2, 3, 2))
    return nn.Sequential(first, nn.Tanh(), nn.Unflatten(1, (2, 3)), second, nn.Flatten()).eval()


def orthogonal() -> nn.Module:
    return nn.Sequential(
        parametrizations.orthogonal(nn.Linear(5, 5)),
        nn.Tanh(),
        parametrizations.orthogonal(nn.Linear(5, 3), orthogonal_map="cayley"),
    )


class Symmetric(nn.Module):
    def forward(self, w):
        return w.triu() + w.triu(1).mT


def symmetric() -> nn.Module:
    layer = nn.Linear(5, 5)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 2))


def low_rank(*, merged: bool) -> Program:
    """A frozen layer with a trained low-rank update; B starts at zero and has moved."""

    def forward(m, x):
        if merged:
            h = F.linear(x, m.base.weight + 0.5 * m.b @ m.a, m.base.bias)
        else:
            h = m.base(x) + 0.5 * (x @ m.a.T) @ m.b.T
        return m.head(torch.tanh(h))

    base = nn.Linear(5, 6).requires_grad_(False)
    b = nn.Parameter(torch.zeros(6, 2))
    return Program(forward, base=base, a=parameter(2, 5), b=b, head=nn.Linear(6, 2))


def sliced() -> Program:
    def forward(m, x):
        h = torch.tanh(F.linear(x, m.w[:4], m.b[:4]) + F.linear(x[:, :3], m.w[4:8, 1:4], m.b[4:]))
        return F.linear(h, m.w[::3, :4]) + m.b[2]

    return Program(forward, w=parameter(9, 5), b=parameter(8))


def free() -> Program:
    def forward(m, x):
        h = torch.tanh((x + m.shift) * m.scale / (2 + m.divide**2) - m.number)
        return m.out(h * torch.exp(m.number)) + m.shift[:2]

    return Program(
        forward,
        shift=parameter(5),
        scale=parameter(5),
        divide=parameter(1, 5),
        number=nn.Parameter(torch.tensor(0.3)),
        out=nn.Linear(5, 2),
    )


def made(make, *shapes: tuple[int, ...]) -> Program:
    """A layer whose weight `make` computes from parameters alone."""

    def forward(m, x):
        return m.head(torch.tanh(x @ make(*m.parts)))

    parts = nn.ParameterList(parameter(*shape) for shape in shapes)
    columns = make(*parts).shape[1]
    return Program(forward, parts=parts, head=nn.Linear(columns, 2))


def many_roles() -> Program:
    """Weight, bias, scale, norm and transpose, all of one parameter."""

    def forward(m, x):
        h = torch.tanh(F.linear(x, m.w, m.w[0])) * m.w[:, 1]
        h = F.layer_norm(h, (4,), m.w[1], m.w.mean(0))
        return torch.tanh(h @ m.w) @ m.w[:, :2] + m.w.sum()

    return Program(forward, w=parameter(4, 4))


def unused() -> Program:
    return Program(
        lambda m, x: torch.stack([(x * m.a).sum(1), x.sum(1), (x * m.a * m.b).sum(1)], 1),
        a=parameter(4),
        b=parameter(4),
        never=parameter(3, 2),
        layer=nn.Linear(4, 3),
    )


def some_outputs() -> Program:
    return Program(
        lambda m, x: torch.cat([m.one(x), torch.tanh(m.two(x))], 1),
        one=nn.Linear(4, 2),
        two=nn.Linear(4, 1),
    )


def zero_head() -> nn.Module:
    model = mlp(5, 6, 6, 2)
    head = model[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return model


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
    for name in ("0.bias", "2.weight", "4.weight"):
        model.get_parameter(name).requires_grad_(False)
    return model


def chosen_by_mask() -> Program:
    def forward(m, x):
        h = torch.where(x > 0, x * m.right, x * m.left)
        return torch.stack([h.sum(1), torch.where(x[:, 0] > 0, m.high, m.low)], 1)

    return Program(
        forward, left=parameter(4), right=parameter(4), high=parameter(1), low=parameter(1)
    )


def complex_layer() -> Program:
    def forward(m, x):
        z = torch.polar(torch.ones_like(x), x) @ m.w + m.b
        return m.head((z * z.conj()).real + z.imag)

    w, b = (parameter(*shape, dtype=torch.complex64) for shape in ((4, 5), (5,)))
    return Program(forward, w=w, b=b, head=nn.Linear(5, 2))


PARAMETERS: dict[str, Entry] = {
    "weight shared by three layers": Entry(shared_weight, (5,)),
    "kernel shared with a linear layer": Entry(shared_kernel, (2, 5)),
    "matrix in, transpose out": Entry(
        lambda: Program(lambda m, x: torch.tanh(x @ m.w.T) @ m.w, w=parameter(7, 5)), (5,)
    ),
    "one parameter in many roles": Entry(many_roles, (4,)),
    "free parameters": Entry(free, (5,)),
    "linear on slices": Entry(sliced, (5,)),
    "weight on the left": Entry(
        lambda: Program(
            lambda m, x: m.out(torch.tanh(m.w @ x.T).T), w=parameter(6, 4), out=nn.Linear(6, 2)
        ),
        (4,),
    ),
    "weights in groups on the left": Entry(
        lambda: Program(
            lambda m, x: torch.tanh(torch.bmm(m.w, x.T.expand(2, 4, len(x)))).permute(2, 0, 1),
            w=parameter(2, 3, 4),
        ),
        (4,),
    ),
    "weight on the left of tokens": Entry(
        lambda: Program(lambda m, x: torch.tanh(m.w @ x).mean(2), w=parameter(3, 4)), (4, 5)
    ),
    "addmm": Entry(
        lambda: Program(
            lambda m, x: torch.addmm(m.b, x.tanh(), m.w, beta=2, alpha=0.5),
            b=parameter(3),
            w=parameter(4, 3),
        ),
        (4,),
    ),
    "outer products": Entry(
        lambda: Program(
            lambda m, x: (x[:, :, None] * m.a * m.b[:, None]).tanh().sum(1),
            a=parameter(3),
            b=parameter(4),
        ),
        (4,),
    ),
    "weight norm": Entry(normalised_weights, (5,)),
    "spectral norm": Entry(spectral, (5,)),
    "orthogonal weights": Entry(orthogonal, (5,)),
    "symmetric weights": Entry(symmetric, (5,)),
    "low-rank update, merged": Entry(lambda: low_rank(merged=True), (5,)),
    "low-rank update, beside": Entry(lambda: low_rank(merged=False), (5,)),
    "softmax of a parameter": Entry(lambda: made(lambda w: torch.softmax(w, 0), (4, 5)), (4,)),
    "parameter by its norm": Entry(lambda: made(lambda w: w / w.norm(), (4, 5)), (4,)),
    "parameters side by side": Entry(
        lambda: made(lambda a, b: torch.cat([a, b.T, a[:, :1]], 1), (4, 2), (3, 4)), (4,)
    ),
    "parameter under a mask": Entry(lambda: made(lambda w: w.tril() * 2, (4, 4)), (4,)),
    "product of parameters": Entry(lambda: made(lambda a, b: a @ b, (4, 2), (2, 5)), (4,)),
    "Kronecker product": Entry(lambda: made(torch.kron, (2, 3), (2, 2)), (4,)),
    "parameter, chosen rows": Entry(
        lambda: made(lambda w: w[torch.tensor([0, 2, 2, 1])], (3, 5)), (4,)
    ),
    "matrix exponential": Entry(lambda: made(lambda w: torch.matrix_exp(w - w.T), (4, 4)), (4,)),
    "inverse of a parameter": Entry(
        lambda: made(lambda w: torch.linalg.inv(w @ w.T + torch.eye(4).to(w)), (4, 4)),
        (4,),
    ),
    "one-hot times a matrix": Entry(
        lambda: Program(
            lambda m, x: torch.tanh(F.one_hot(x, 5).to(m.w) @ m.w).sum(1), w=parameter(5, 3)
        ),
        Whole(5, (4,)),
    ),
    "rows of a parameter by the input": Entry(
        lambda: Program(
            lambda m, x: m.head(m.w[x[:, 0]] * m.w[x[:, 1]]), w=parameter(5, 3), head=mlp(3, 4, 2)
        ),
        Whole(5, (2,)),
    ),
    "entries of a parameter by the input": Entry(
        lambda: Program(
            lambda m, x: m.w[x[:, :1], x[:, 1:]] ** 2 + m.w[:, 1][x], w=parameter(5, 5)
        ),
        Whole(5, (2,)),
    ),
    "parameters chosen by a mask": Entry(chosen_by_mask, (4,)),
    "unused parameters": Entry(unused, (4,)),
    "parameters of some outputs alone": Entry(some_outputs, (4,)),
    "constant output": Entry(
        lambda: Program(lambda m, x: m.p.expand(len(x)), p=parameter(1)), (3,)
    ),
    "constant outputs beside others": Entry(
        lambda: Program(
            lambda m, x: torch.cat([m.p.expand(len(x), -1), m.f(x)], 1),
            p=parameter(2),
            f=nn.Linear(3, 2),
        ),
        (3,),
    ),
    "head of zeros": Entry(zero_head, (5,), keep=("4.weight", "4.bias")),
    "part frozen": Entry(frozen, (5,)),
    "layer called on parameters": Entry(
        lambda: Program(
            lambda m, x: m.norm(m.f(x)) @ m.norm(m.f(m.prototypes)).T,
            f=mlp(4, 6, 3),
            norm=nn.LayerNorm(3, 0.1),
            prototypes=parameter(5, 4),
        ),
        (4,),
    ),
    "outputs without a parameter": Entry(
        lambda: Program(lambda m, x: x.sin(), p=parameter(3)), (2,)
    ),
    "complex layer": Entry(complex_layer, (4,)),
}
