"""Modules drawn at random out of a grammar of layers, layouts, heads and inputs.

`python -m tests.ntk.random_modules SEED` tells the story of one.
"""

import sys
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.ntk.program import Program, Spec, Whole
from tests.ntk.random_layers import FEATURES_LAST, POINTWISE, Flow, Layer, draw, linear_to
from tests.ntk.random_weights import Source, matrix, vector
from tests.ntk.zoo import sample
from tests.reference.ntk import cast


def module(seed: int, layers: int | None = None) -> tuple[nn.Module, Any, Any, list[str]]:
    """A float64 module, two sets of inputs, and the names of its layers.

    `layers` keeps that many of the layers that the seed draws, before the head.
    """
    torch.manual_seed(seed)
    n1, n2 = (int(n) for n in torch.randint(3, 8, (2,)))
    source = Source(seed, n1)
    opening, spec, flow = start(source)
    steps: list[nn.Module] = []
    most = source.rng.randint(1, 6)
    for _ in range(most if layers is None else min(layers, most)):
        if flow.layout in FEATURES_LAST and source.chance(0.6):
            steps.append(draw(source, flow, POINTWISE))
        else:
            steps.append(draw(source, flow, BY_LAYOUT[flow.layout]))
    steps.append(head(source, flow))
    model = Program(
        lambda m, *a, **k: m.body(m.opening(*a, **k)), opening=opening, body=nn.Sequential(*steps)
    )
    for p in list(model.parameters())[1:]:
        if source.chance(0.05):
            p.requires_grad_(False)
    if source.chance(0.5):
        model.eval()
    x1, x2 = (cast(sample(spec, n, n1), torch.float64) for n in (n1, n2))
    return cast(model, torch.float64), x1, x2, flow.story


def start(source: Source) -> tuple[nn.Module, Spec, Flow]:
    """A first layer, what it takes, and what it lets flow."""
    d, e, t = source.size(), source.size(), source.size()
    kinds = ["vectors", "tokens", "whole numbers", "images"]
    kind = source.rng.choice([*kinds, *kinds, "pair", "names"])
    match kind:
        case "vectors":
            flow = Flow("vectors", d)
            return nn.Linear(e, d), (e,), flow
        case "tokens":
            return nn.Linear(e, d), (t, e), Flow("tokens", d, t)
        case "whole numbers":
            padding = 0 if source.chance(0.3) else None
            embed = nn.Embedding(6, d, padding_idx=padding)
            source.pool += embed.parameters()
            return embed, Whole(6, (t,)), Flow("tokens", d, t, story=[f"embedding, {padding=}"])
        case "images":
            return nn.Conv2d(2, d, 2), (2, 5, 5), Flow("images", d, size=(4, 4))
        case "pair":
            first = Program(
                lambda m, x, z: torch.tanh(m.f(x)) * m.g(z), f=nn.Linear(e, d), g=nn.Linear(2, d)
            )
            return first, [(e,), (2,)], Flow("vectors", d)
    first = Program(
        lambda m, *, x, token: torch.tanh(m.f(x)) + m.embed(token)[:, None],
        f=nn.Linear(e, d),
        embed=nn.Embedding(4, d),
    )
    return first, {"x": (t, e), "token": Whole(4)}, Flow("tokens", d, t)


def to_columns(source: Source, flow: Flow) -> nn.Module:
    flow.layout = "columns"
    return Program(lambda m, h: h.T)


def from_columns(source: Source, flow: Flow) -> nn.Module:
    """Samples last: a matrix from the left, a vector across, and back."""
    rows = source.size()
    w, v = matrix(source, rows, flow.d), vector(source, rows)
    flow.layout, flow.d = "vectors", rows
    return Program(lambda m, h: (torch.tanh(m.w() @ h) + m.v()[:, None]).T, w=w, v=v)


def group_norm(source: Source, flow: Flow) -> nn.Module:
    """Never over one number alone, which torch refuses for single samples."""
    most = flow.d if flow.layout == "images" else max(flow.d // 2, 1)
    groups = source.rng.choice([g for g in range(1, most + 1) if flow.d % g == 0])
    if flow.d == groups and flow.layout == "vectors":
        return nn.PReLU()
    return nn.GroupNorm(groups, flow.d, eps=0.1)


def batch_norm(source: Source, flow: Flow) -> nn.Module:
    """With statistics of its own, also while the rest of the module trains."""
    layer = nn.BatchNorm1d(flow.d) if flow.layout == "vectors" else nn.BatchNorm2d(flow.d)
    assert layer.running_mean is not None
    layer.running_mean.normal_(std=0.3)
    return Program(
        lambda m, h: F.batch_norm(
            h, m.f.running_mean, m.f.running_var, m.f.weight, m.f.bias, False, 0.0, 0.1
        ),
        f=layer,
    )


def as_tokens(source: Source, flow: Flow) -> nn.Module:
    flow.layout, flow.length, flow.d = "tokens", flow.d, 1
    return nn.Unflatten(1, (-1, 1))


def positions(source: Source, flow: Flow) -> nn.Module:
    first = flow.layout == "tokens first"
    p = matrix(source, flow.length, flow.d)
    return Program(lambda m, h: h + (m.p()[:, None] if first else m.p()), p=p)


def class_token(source: Source, flow: Flow) -> nn.Module:
    axis, p = int(flow.layout == "tokens"), vector(source, flow.d)
    flow.length += 1

    def forward(m, h):
        shape = list(h.shape)
        shape[axis] = 1
        return torch.cat([m.p().expand(shape), h], axis)

    return Program(forward, p=p)


def attention(source: Source, flow: Flow) -> nn.Module:
    heads = source.rng.choice([k for k in (1, 2, 3) if flow.d % k == 0])
    layer = nn.MultiheadAttention(flow.d, heads, batch_first=flow.layout == "tokens")
    weights = source.chance(0.5)
    return Program(lambda m, h: h + m.f(h, torch.tanh(h), h, need_weights=weights)[0], f=layer)


def fused_attention(source: Source, flow: Flow) -> nn.Module:
    """Positions are those of the second axis but one, so samples must lie first."""
    causal, first = source.chance(0.5), flow.layout == "tokens first"
    q, k = (matrix(source, 3, flow.d) for _ in range(2))

    def forward(m, h):
        h = h.transpose(0, 1) if first else h
        h = F.scaled_dot_product_attention(h @ m.q().T, h @ m.k().T, h, is_causal=causal)
        return h.transpose(0, 1) if first else h

    return Program(forward, q=q, k=k)


def mix_positions(source: Source, flow: Flow) -> nn.Module:
    """A matrix over positions: from the left, by einsum, or by a linear layer."""
    length, first = source.size(), flow.layout == "tokens first"
    w = matrix(source, length, flow.length)
    flow.length = length
    forms = (
        [
            lambda m, h: torch.einsum("st,tnd->snd", m.w(), h),
            lambda m, h: (m.w() @ h.flatten(1)).unflatten(1, h.shape[1:]),
            lambda m, h: torch.tensordot(m.w(), h, dims=1),
        ]
        if first
        else [
            lambda m, h: m.w() @ h,
            lambda m, h: torch.einsum("st,ntd->nsd", m.w(), h),
            lambda m, h: F.linear(h.mT, m.w()).mT,
            lambda m, h: torch.bmm(m.w().expand(len(h), -1, -1), h),
            lambda m, h: F.conv1d(h, m.w()[..., None]),
        ]
    )
    return Program(source.rng.choice(forms), w=w)


def convolution(source: Source, flow: Flow) -> nn.Module:
    first = flow.layout == "tokens first"
    layer = nn.Conv1d(flow.d, flow.d, 3, padding=1, groups=source.rng.choice([1, flow.d]))
    order = (1, 2, 0) if first else (0, 2, 1)
    back = (2, 0, 1) if first else (0, 2, 1)
    return Program(lambda m, h: m.f(h.permute(order)).permute(back), f=layer)


def recurrence(source: Source, flow: Flow) -> nn.Module:
    axis = int(flow.layout == "tokens")
    w = matrix(source, flow.d, flow.d)

    def forward(m, h):
        states = [torch.zeros_like(h.select(axis, 0))]
        for step in h.unbind(axis):
            states.append(torch.tanh(step + states[-1] @ m.w()))
        return torch.stack(states[1:], axis)

    return Program(forward, w=w)


def swap(source: Source, flow: Flow) -> nn.Module:
    flow.layout = "tokens" if flow.layout == "tokens first" else "tokens first"
    contiguous = source.chance(0.5)
    return Program(lambda m, h: h.transpose(0, 1).contiguous() if contiguous else h.transpose(0, 1))


def merge(source: Source, flow: Flow) -> nn.Module:
    flow.layout = "merged" if flow.layout == "tokens" else "merged first"
    return nn.Flatten(0, 1)


def take_apart(source: Source, flow: Flow) -> nn.Module:
    shape = (-1, flow.length) if flow.layout == "merged" else (flow.length, -1)
    flow.layout = "tokens" if flow.layout == "merged" else "tokens first"
    return Program(lambda m, h: h.unflatten(0, shape))


def pool(source: Source, flow: Flow) -> nn.Module:
    """From tokens to vectors."""
    axis, t = int(flow.layout == "tokens"), source.rng.randrange(flow.length)
    p = vector(source, flow.length)
    flow.layout = "vectors"
    forms = [
        lambda m, h: h.mean(axis),
        lambda m, h: h.select(axis, t),
        lambda m, h: h.amax(axis),
        lambda m, h: torch.softmax(m.p(), 0) @ h.movedim(axis, -2),
        lambda m, h: (h * torch.softmax(h.sum(-1, keepdim=True), axis)).sum(axis),
    ]
    return Program(source.rng.choice(forms), p=p)


def flatten(source: Source, flow: Flow) -> nn.Module:
    first = flow.layout == "tokens first"
    flow.layout, flow.d = "vectors", flow.d * flow.length
    return Program(lambda m, h: (h.transpose(0, 1) if first else h).flatten(1))


def convolve(source: Source, flow: Flow) -> nn.Module:
    groups = source.rng.choice([g for g in (1, 1, flow.d) if flow.d % g == 0])
    d = groups * source.rng.choice([1, 1 + (flow.d < 4)]) if groups > 1 else source.size()
    layer = nn.Conv2d(
        flow.d, d, 3, padding=1, groups=groups, bias=source.chance(0.5),
        padding_mode=source.rng.choice(["zeros", "circular", "reflect"]),
    )  # fmt: skip
    flow.d = d
    return layer


def convolve_transposed(source: Source, flow: Flow) -> nn.Module:
    d = source.size()
    w = matrix(source, flow.d, 9 * d)
    flow.d = d
    return Program(
        lambda m, h: F.conv_transpose2d(h, m.w().reshape(-1, d, 3, 3), padding=1) / 3, w=w
    )


def over_channels(source: Source, flow: Flow) -> nn.Module:
    layer = linear_to(source, flow, source.size())
    return Program(lambda m, h: m.f(h.permute(0, 2, 3, 1)).movedim(-1, 1), f=layer)


def pool_images(source: Source, flow: Flow) -> nn.Module:
    flow.layout = "vectors"
    kinds = [lambda m, h: h.mean((2, 3)), lambda m, h: h.flatten(2).amax(2)]
    return Program(source.rng.choice(kinds))


def images_as_tokens(source: Source, flow: Flow) -> nn.Module:
    flow.layout, flow.length = "tokens", flow.size[0] * flow.size[1] // 4
    return Program(lambda m, h: F.avg_pool2d(torch.tanh(h), 2).flatten(2).transpose(1, 2))


def squash_images(source: Source, flow: Flow) -> nn.Module:
    return source.rng.choice([nn.ReLU(), nn.Tanh(), nn.PReLU(flow.d)])


TOKENS: dict[str, Layer] = {
    "positions": positions,
    "class token": class_token,
    "attention": attention,
    "fused attention": fused_attention,
    "mix positions": mix_positions,
    "convolution": convolution,
    "recurrence": recurrence,
    "swap": swap,
    "merge": merge,
    "pool": pool,
    "flatten": flatten,
}
TAKE_APART: dict[str, Layer] = {"take apart": take_apart}
BY_LAYOUT: dict[str, dict[str, Layer]] = {
    "vectors": {
        "to columns": to_columns,
        "group norm": group_norm,
        "batch norm": batch_norm,
        "as tokens": as_tokens,
    },
    "columns": {"from columns": from_columns},
    "tokens": TOKENS,
    "tokens first": TOKENS,
    "merged": TAKE_APART,
    "merged first": TAKE_APART,
    "images": {
        "convolve": convolve,
        "convolve transposed": convolve_transposed,
        "over channels": over_channels,
        "group norm": group_norm,
        "batch norm": batch_norm,
        "squash": squash_images,
        "pool images": pool_images,
        "images as tokens": images_as_tokens,
    },
}
TO_VECTORS: dict[str, dict[str, Layer]] = {
    "columns": {"from columns": from_columns},
    "tokens": {"pool": pool, "flatten": flatten},
    "tokens first": {"pool": pool, "flatten": flatten},
    "merged": TAKE_APART,
    "merged first": TAKE_APART,
    "images": {"pool images": pool_images},
}


def head(source: Source, flow: Flow) -> nn.Module:
    """Layers to vectors, and to outputs of one, two or three axes."""
    steps: list[nn.Module] = []
    while flow.layout != "vectors":
        name = source.rng.choice(list(TO_VECTORS[flow.layout]))
        flow.story.append(name)
        steps.append(TO_VECTORS[flow.layout][name](source, flow))
    shape = source.rng.choice([(), (1,), (3,), (2, 2)])
    last = linear_to(source, flow, int(torch.Size(shape).numel()))
    flow.story.append(f"outputs {shape}")
    return nn.Sequential(*steps, last, Program(lambda m, h: h.reshape(-1, *shape)))


if __name__ == "__main__":
    made, x1, _, story = module(int(sys.argv[1]))
    print(made, x1, " - ".join(story), sep="\n")
