"""Layers drawn at random, for tensors whose samples lie first, second, merged with another axis, or
last.

Each takes what flows and the source of choices, changes the flow's description, and returns the
layer. All of them act on every sample alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from tests.ntk.program import Program
from tests.ntk.random_weights import Source, matrix, vector


@dataclass
class Flow:
    """What flows between two layers.

    Attributes:
        layout: "vectors" (n, d), "tokens" (n, T, d), "tokens first" (T, n, d), "merged" (n T, d),
            "merged first" (T n, d), "columns" (d, n), "images" (n, d, *T).
        d: features.
        length: T.
        size: height and width of images.
        story: names of the layers so far.
    """

    layout: str
    d: int
    length: int = 1
    size: tuple[int, int] = (1, 1)
    story: list[str] = field(default_factory=list)


Layer = Callable[[Source, Flow], nn.Module]

FEATURES_LAST = ("vectors", "tokens", "tokens first", "merged", "merged first")


def linear(source: Source, flow: Flow) -> nn.Module:
    layer = nn.Linear(flow.d, source.size(), bias=source.chance(0.7))
    source.pool += layer.parameters()
    flow.d = layer.out_features
    return layer


def linear_to(source: Source, flow: Flow, d: int) -> nn.Module:
    w, b = matrix(source, d, flow.d), vector(source, d)
    flow.d = d
    return Program(lambda m, h: F.linear(h, m.w(), m.b()), w=w, b=b)


def made_linear(source: Source, flow: Flow) -> nn.Module:
    """The same product, written in one of many ways."""
    w, d = matrix(source, source.size(), flow.d), flow.d
    flow.d = len(w())
    forms = [
        lambda m, h: F.linear(h, m.w()),
        lambda m, h: h @ m.w().T,
        lambda m, h: torch.einsum("...d,kd->...k", h, m.w()),
        lambda m, h: torch.einsum("kd,...d->...k", m.w(), h),
        lambda m, h: (m.w() @ h.mT).mT,
        lambda m, h: torch.inner(h, m.w()),
        lambda m, h: (h[..., None, :] * m.w()).sum(-1),
        lambda m, h: torch.matmul(m.w(), h[..., None])[..., 0],
        lambda m, h: torch.addmm(m.w()[:, 0], h.reshape(-1, d), m.w().T).reshape(*h.shape[:-1], -1),
        # Another operation by the parity of the batch.
        lambda m, h: h @ m.w().T if len(h) % 2 else F.linear(h, m.w()),
        lambda m, h: torch.stack([F.linear(one, m.w()) for one in h]),
        lambda m, h: torch.cat([h[:1] @ m.w().T, F.linear(h[1:], m.w())]),
        lambda m, h: F.linear(h.repeat_interleave(2, 0), m.w())[::2],
        lambda m, h: F.linear(torch.cat([h, h.sin()]), m.w())[len(h) :],
        lambda m, h: F.conv1d(h.reshape(-1, d, 1), m.w()[..., None]).reshape(*h.shape[:-1], -1),
    ]
    return Program(source.rng.choice(forms), w=w)


def repeated(source: Source, flow: Flow) -> nn.Module:
    """One linear layer, called several times, maybe on a parameter as long as the batch."""
    layer = nn.Linear(flow.d, flow.d)
    source.pool += layer.parameters()
    forms = [
        lambda m, h: m.f(torch.tanh(m.f(h))),
        lambda m, h: m.f(h) + m.f(h.flip(-1)),
        lambda m, h: m.f(h) * torch.sigmoid(m.f(0.5 * h)),
        lambda m, h: torch.tanh(m.f(h)) @ m.f.weight,
        lambda m, h: m.f(h) * m.f(m.p)[0],
        lambda m, h: torch.softmax(m.f(h) @ m.f(m.p).T, -1) @ m.p,
        lambda m, h: m.f(h[..., :1].expand_as(h)) + F.linear(h, m.f.weight.T, m.f.weight[0]),
    ]
    p = source.parameter(source.samples, flow.d)
    return Program(source.rng.choice(forms), f=layer, p=p)


def elementwise(source: Source, flow: Flow) -> nn.Module:
    a, b = vector(source, flow.d), vector(source, flow.d)
    forms = [
        lambda m, h: h * m.a() + m.b(),
        lambda m, h: (h - m.a()) / (1.5 + m.b() ** 2),
        lambda m, h: torch.where(h > 0, h * m.a(), h * m.b()),
        lambda m, h: torch.where((h.sum(-1) > 0)[..., None], h + m.a(), h * m.b()),
        lambda m, h: torch.addcmul(m.a(), h, m.b(), value=0.7),
        lambda m, h: torch.lerp(h, m.a().expand_as(h), torch.sigmoid(m.b())),
        lambda m, h: F.layer_norm(h, h.shape[-1:], m.a(), m.b(), 0.1),
        lambda m, h: h + (h * m.a()).sum(-1, keepdim=True) * m.b(),
    ]
    return Program(source.rng.choice(forms), a=a, b=b)


def in_place(source: Source, flow: Flow) -> nn.Module:
    layer, v = linear(source, flow), vector(source, flow.d)
    relu = source.chance(0.5)

    def forward(m, h):
        y = m.f(h)
        y.mul_(0.8)
        y[..., :1] *= 2
        y += m.v()
        return (F.relu(y, inplace=True) if relu else y.tanh_()) - 0.3

    return Program(forward, f=layer, v=v)


def norm(source: Source, flow: Flow) -> nn.Module:
    kinds = [nn.LayerNorm(flow.d, 0.1), nn.RMSNorm(flow.d, 0.1)]
    return source.rng.choice(kinds)


def activation(source: Source, flow: Flow) -> nn.Module:
    kinds = [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.SiLU(), nn.PReLU(), nn.Softmax(-1), nn.Softplus()]
    return source.rng.choice(kinds)


def bilinear(source: Source, flow: Flow) -> nn.Module:
    layer = nn.Bilinear(flow.d, flow.d, source.size())
    flow.d = layer.out_features
    return Program(lambda m, h: torch.tanh(m.f(h.contiguous(), torch.sin(h))), f=layer)


def rearranged(source: Source, flow: Flow) -> nn.Module:
    """Features taken apart and put together, with a parameter among them."""
    v = vector(source, flow.d)
    flow.d *= 2
    forms = [
        lambda m, h: torch.cat([h, h.roll(1, -1) * m.v()], -1),
        lambda m, h: torch.cat([m.v().expand_as(h), h], -1),
        lambda m, h: torch.stack([h * m.v(), h.flip(-1)], -1).flatten(-2),
    ]
    return Program(source.rng.choice(forms), v=v)


def residual(source: Source, flow: Flow) -> nn.Module:
    """Two layers beside a short cut."""
    d = flow.d
    inner = [draw(source, flow, POINTWISE) for _ in range(source.rng.choice([1, 2]))]
    branch = nn.Sequential(*inner, linear_to(source, flow, d))
    forms = [
        lambda m, h: h + m.f(h),
        lambda m, h: h * torch.sigmoid(m.f(h)),
        lambda m, h: h + 0.5 * m.f(torch.tanh(h + m.f(h))),
    ]
    return Program(source.rng.choice(forms), f=branch)


def steps_by_sample(source: Source, flow: Flow) -> nn.Module:
    layer = linear_to(source, flow, flow.d)

    def forward(m, h):
        left = 1 + (h[..., :1] > 0).long() + (h[..., :1] > 0.5).long()
        while (left > 0).any():
            h = torch.where(left > 0, torch.tanh(m.f(h)), h)
            left = left - 1
        return h

    return Program(forward, f=layer)


def routed(source: Source, flow: Flow) -> nn.Module:
    """Each row goes to the expert its first entry names, as many rows as there happen to be."""
    d, source_d = source.size(), flow.d
    one = linear_to(source, flow, d)
    flow.d = source_d
    two = linear_to(source, flow, d)

    def forward(m, h):
        first = h[..., 0] > 0
        y = h.new_zeros(*h.shape[:-1], d)
        y[first] = m.one(h[first])
        y[~first] = m.two(h[~first])
        return y

    return Program(forward, one=one, two=two)


POINTWISE: dict[str, Layer] = {
    "linear": linear,
    "made linear": made_linear,
    "made linear again": made_linear,
    "made linear once more": made_linear,
    "repeated": repeated,
    "elementwise": elementwise,
    "elementwise again": elementwise,
    "in place": in_place,
    "norm": norm,
    "activation": activation,
    "bilinear": bilinear,
    "rearranged": rearranged,
    "residual": residual,
    "steps by sample": steps_by_sample,
    "routed": routed,
}


def draw(source: Source, flow: Flow, layers: dict[str, Layer]) -> nn.Module:
    """One of the layers; features are kept few."""
    if flow.d > 10 and flow.layout in FEATURES_LAST:
        flow.story.append("fewer features")
        return linear_to(source, flow, source.size())
    name = source.rng.choice(list(layers))
    flow.story.append(name)
    return layers[name](source, flow)
