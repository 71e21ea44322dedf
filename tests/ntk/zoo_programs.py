"""Models whose forward is a program: loops, branches, derivatives, operations of their own."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tests.ntk.program import SAMPLES, Entry, Program, Whole, parameter
from tests.ntk.zoo_dense import mlp


def fixed_point() -> Program:
    def forward(m, x):
        z, u = torch.zeros_like(x), m.into(x)
        for _ in range(8):
            z = torch.tanh(0.5 * m.step(z) + u)
        return m.head(z)

    return Program(forward, into=nn.Linear(4, 4), step=nn.Linear(4, 4), head=nn.Linear(4, 2))


def halting() -> Program:
    """Each sample takes as many steps as it asks for, in a loop over samples."""

    def forward(m, x):
        rows = []
        for row in x:
            for _ in range(1 + int(row[0] > 0) + int(row[1] > 0)):
                row = torch.tanh(m.step(row))
            rows.append(m.head(row))
        return torch.stack(rows)

    return Program(forward, step=nn.Linear(4, 4), head=nn.Linear(4, 2))


def halting_by_mask() -> Program:
    """As many steps for all as the slowest sample asks for; the others stand still."""

    def forward(m, x):
        h, left = x, 1 + (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        while (left > 0).any():
            h = torch.where((left > 0)[:, None], torch.tanh(m.step(h)), h)
            left = left - 1
        return m.head(h)

    return Program(forward, step=nn.Linear(4, 4), head=nn.Linear(4, 2))


def weights_from_input() -> Program:
    def forward(m, x, z):
        w, b = m.make(z).split([12, 3], -1)
        h = torch.tanh(torch.einsum("nij,nj->ni", w.unflatten(1, (3, 4)), x) + b)
        return torch.bmm(h[:, None], m.make2(z).unflatten(1, (3, 2)))[:, 0]

    return Program(forward, make=mlp(2, 5, 15), make2=nn.Linear(2, 6))


class OldStyleScale(torch.autograd.Function):
    """In the old style, with a gradient that is not the derivative, for input and weight."""

    @staticmethod
    def forward(ctx, x, w):  # type: ignore[override]
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # type: ignore[override]
        (g,) = grads
        x, w = ctx.saved_tensors
        return 0.5 * g * w, 2 * (g * x).sum(0)


class Sign(torch.autograd.Function):
    """Straight through: sign forwards, identity backwards."""

    @staticmethod
    def forward(x):  # type: ignore[override]
        return x.sign()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        return grads[0]


def physics() -> Program:
    """Value and derivative with respect to the input of a network, as in a PINN."""

    def forward(m, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u = m.net(x)
            (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)
        return torch.cat([u, first, second[:, :1]], 1)

    return Program(forward, net=mlp(2, 6, 6, 1))


def per_sample_map() -> Program:
    return Program(
        lambda m, x: torch.func.vmap(lambda row: m.net(row[None])[0] * row.sum())(x),
        net=mlp(4, 5, 2),
    )


def hooked() -> nn.Module:
    model = mlp(4, 6, 2)
    model[0].register_forward_hook(lambda module, args, y: 2 * y + args[0].sum(-1, keepdim=True))
    model[2].register_forward_pre_hook(lambda module, args: (args[0].flip(-1),))
    return model


def writes_in_place() -> Program:
    def forward(m, x):
        y = x.new_zeros(len(x), 2, 3)
        y[:, 0] = torch.tanh(m.a(x))
        y[:, 1, :2] += m.b(x)
        y[:, 1].mul_(m.scale)
        return y.clamp_(min=-0.7)

    return Program(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 2), scale=parameter(3))


def graph() -> Program:
    """Messages along the edges of one graph, summed at their ends."""

    def forward(m, x):
        source, target = m.edges
        messages = torch.relu(m.message(torch.cat([x[:, source], x[:, target]], -1)))
        h = x.new_zeros(*x.shape[:2], 4).index_add(1, target, messages)
        return m.head(torch.cat([x, h], -1)).mean(1)

    edges = torch.tensor([[0, 1, 2, 3, 3, 1], [1, 2, 3, 0, 1, 1]])
    return Program(forward, message=nn.Linear(6, 4), head=nn.Linear(7, 2), edges=edges)


def largest() -> Program:
    def forward(m, x):
        h = m.f(x)
        values, index = h.topk(3, -1)
        return m.head(values * m.w[index]) + h.sort(-1).values[:, :2]

    return Program(forward, f=nn.Linear(4, 6), w=parameter(6), head=nn.Linear(3, 2))


def stopped() -> Program:
    def forward(m, x):
        h = torch.tanh(m.a(x))
        with torch.no_grad():
            still = m.a(x) * m.p
        return m.b(h * still + h.detach() * m.p)

    return Program(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2), p=parameter(4))


def ensemble() -> Program:
    """Members held as stacked weights, run side by side."""

    def forward(m, x):
        h = torch.tanh(torch.baddbmm(m.b1[:, None], x.expand(3, -1, -1), m.w1))
        return torch.bmm(h, m.w2).transpose(0, 1).flatten(1)

    return Program(forward, w1=parameter(3, 4, 5), b1=parameter(3, 5), w2=parameter(3, 5, 1))


def solved() -> Program:
    """The output solves a linear system made of parameters and of the sample."""

    def forward(m, x):
        a = m.w @ m.w.T + torch.diag_embed(1 + x**2)
        return torch.linalg.solve(a, m.f(x))[:, :2]

    return Program(forward, w=parameter(4, 4), f=nn.Linear(4, 4))


def batch_transposed() -> Program:
    """Samples are columns throughout, as many as there are features."""

    def forward(m, x):
        h = torch.tanh(m.w1 @ x.T + m.b[:, None])
        return (m.w2 @ h).T

    return Program(forward, w1=parameter(5, 4), b=parameter(5), w2=parameter(2, 5))


PROGRAMS: dict[str, Entry] = {
    "fixed point": Entry(fixed_point, (4,)),
    "steps by the sample": Entry(halting, (4,)),
    "steps by the sample, masked": Entry(halting_by_mask, (4,)),
    "weights made from the input": Entry(weights_from_input, [(4,), (2,)]),
    "function of its own": Entry(
        lambda: Program(
            lambda m, x: m.out(OldStyleScale.apply(m.f(x), m.w)).tanh(),
            f=nn.Linear(4, 5),
            w=parameter(5),
            out=nn.Linear(5, 2),
        ),
        (4,),
    ),
    "straight-through sign": Entry(
        lambda: Program(
            lambda m, x: m.out(Sign.apply(m.f(x)) * m.w),
            f=nn.Linear(4, 5),
            w=parameter(5),
            out=nn.Linear(5, 2),
        ),
        (4,),
    ),
    "checkpointed": Entry(
        lambda: Program(
            lambda m, x: m.out(checkpoint(m.f, x, use_reentrant=False)),
            f=mlp(4, 6, 5),
            out=mlp(5, 4, 2),
        ),
        (4,),
    ),
    "derivatives inside": Entry(physics, (2,)),
    "vmap inside": Entry(per_sample_map, (4,)),
    "forward hooks": Entry(hooked, (4,)),
    "writes in place": Entry(writes_in_place, (4,)),
    "graph network": Entry(graph, (4, 3)),
    "largest entries": Entry(largest, (4,)),
    "gradient stopped": Entry(stopped, (4,)),
    "stacked members": Entry(ensemble, (4,)),
    "linear system": Entry(solved, (4,)),
    "samples as columns": Entry(batch_transposed, (4,)),
    "distances to centres": Entry(
        lambda: Program(
            lambda m, x: m.out(torch.exp(-torch.cdist(x, m.c))),
            c=parameter(6, 4),
            out=nn.Linear(6, 2),
        ),
        (4,),
    ),
    "distances to centres by hand": Entry(
        lambda: Program(
            lambda m, x: torch.exp(-((x[:, None] - m.c) ** 2).sum(-1) * m.s.exp()),
            c=parameter(3, 4, scale=0.5),
            s=parameter(1),
        ),
        (4,),
    ),
    "distances within a sample": Entry(
        lambda: Program(
            lambda m, x: m.out(torch.cdist(m.f(x), m.f(x) + 1).flatten(1)),
            f=nn.Linear(4, 3),
            out=nn.Linear(9, 2),
        ),
        (3, 4),
    ),
    "pairs of positions": Entry(
        lambda: Program(
            lambda m, x: m.f(x[:, :, None] * x[:, None]).tanh().sum((1, 2)), f=nn.Linear(4, 2)
        ),
        (SAMPLES, 4),
    ),
    "cosine to a parameter": Entry(
        lambda: Program(
            lambda m, x: F.cosine_similarity(m.f(x)[:, None], m.c, dim=-1),
            f=nn.Linear(4, 5),
            c=parameter(3, 5),
        ),
        (4,),
    ),
    "scatter by the input": Entry(
        lambda: Program(
            lambda m, x: m.out(torch.zeros(len(x), 5).to(m.w).scatter_add(1, x, m.w[x])).tanh(),
            w=parameter(5),
            out=nn.Linear(5, 2),
        ),
        Whole(5, (4,)),
    ),
}
