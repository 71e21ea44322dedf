"""Models of tokens and sequences: embeddings, attention, recurrence."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.ntk.program import SAMPLES, Entry, Mask, Program, Whole, parameter
from tests.ntk.zoo_dense import mlp


def attention(*, batch_first: bool, weights: bool = False, **options) -> Program:
    """Self-attention on (n, T, 8); with samples second it is turned around, and back."""

    def forward(m, x):
        x = x if batch_first else x.transpose(0, 1)
        h = x + m.attend(x, x, x, need_weights=weights)[0]
        return m.head(h.mean(1 if batch_first else 0))

    return Program(
        forward,
        attend=nn.MultiheadAttention(8, 2, batch_first=batch_first, **options),
        head=mlp(8, 6, 3),
    )


def cross_attention() -> Program:
    def forward(m, x, context, mask):
        h, _ = m.attend(x, context, context, key_padding_mask=mask)
        return m.head(h[:, 0])

    return Program(
        forward,
        attend=nn.MultiheadAttention(6, 3, kdim=4, vdim=4, batch_first=True),
        head=nn.Linear(6, 2),
    )


class TransformerBlock(nn.Module):
    """Token and position embeddings, a class token, causal attention, an MLP, a norm, a head."""

    def __init__(self, tokens: int = 5, width: int = 8):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.position = nn.Parameter(torch.randn(tokens + 1, width))
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = mlp(width, 12, width, act=nn.GELU)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        h = torch.cat([self.embed(x), self.cls.expand(len(x), -1, -1)], 1) + self.position
        mask = nn.Transformer.generate_square_subsequent_mask(h.shape[1], dtype=h.dtype)
        a = self.norm1(h)
        h = h + self.attend(a, a, a, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return self.head((h + self.mlp(self.norm2(h)))[:, -1])


def fused_attention(*, causal: bool) -> Program:
    def forward(m, x):
        q, k, v = (h.unflatten(-1, (2, 3)).transpose(1, 2) for h in m.qkv(m.norm(x)).chunk(3, -1))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return m.out(h.transpose(1, 2).flatten(2)).tanh().mean(1)

    return Program(forward, norm=nn.LayerNorm(6), qkv=nn.Linear(6, 18), out=nn.Linear(6, 2))


def softmax_attention() -> Program:
    def forward(m, x):
        q, k, v = m.q(x), m.k(x), m.v(x)
        scores = q @ k.transpose(1, 2) / 2 + m.bias[m.distance]
        return (torch.softmax(scores, -1) @ v).mean(1)

    steps = torch.arange(4)
    return Program(
        forward,
        q=nn.Linear(5, 4),
        k=nn.Linear(5, 4, bias=False),
        v=nn.Linear(5, 3),
        bias=parameter(7),
        distance=steps[:, None] - steps + 3,
    )


def linear_attention() -> Program:
    def forward(m, x):
        q, k, v = F.elu(m.q(x)) + 1, F.elu(m.k(x)) + 1, m.v(x)
        state = torch.einsum("ntd,nte->ntde", k, v).cumsum(1)
        y = torch.einsum("ntd,ntde->nte", q, state)
        return (y / torch.einsum("ntd,ntd->nt", q, k.cumsum(1))[..., None]).flatten(1)

    return Program(forward, q=nn.Linear(4, 3), k=nn.Linear(4, 3), v=nn.Linear(4, 2))


def language_model() -> Program:
    """The embedding is the read-out too, transposed."""

    def forward(m, x):
        return torch.tanh(m.mix(m.embed(x)).mean(1)) @ m.embed.weight.T

    return Program(forward, embed=nn.Embedding(7, 5), mix=nn.Linear(5, 5))


def by_hand() -> Program:
    def forward(m, x):
        h = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            h = torch.tanh(m.into(x[:, t]) + m.over(h))
        return m.head(h)

    return Program(
        forward, into=nn.Linear(3, 5), over=nn.Linear(5, 5, bias=False), head=nn.Linear(5, 2)
    )


def by_hand_positions_first() -> Program:
    def forward(m, x):
        states = [m.start.expand(len(x), -1)]
        for step in x.transpose(0, 1):
            states.append(torch.tanh(m.cell(torch.cat([step, states[-1]], 1))))
        return m.head(torch.stack(states)).mean(0)

    return Program(forward, start=parameter(4), cell=nn.Linear(7, 4), head=nn.Linear(4, 2))


def recurrent(rnn: nn.Module) -> Program:
    return Program(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=rnn, head=nn.LazyLinear(2))


def seen(model: nn.Module, *shape: int) -> nn.Module:
    model(torch.randn(2, *shape))
    return model


def positions_first(rnn: nn.Module, width: int) -> Program:
    return Program(
        lambda m, x: m.head(m.rnn(x.transpose(0, 1))[0][-1]), rnn=rnn, head=nn.Linear(width, 2)
    )


def cell(kind: type[nn.Module]) -> Program:
    def forward(m, x):
        state = None
        for t in range(x.shape[1]):
            state = m.cell(x[:, t], state)
        return m.head(state[0] if isinstance(state, tuple) else state)

    return Program(forward, cell=kind(3, 4), head=nn.Linear(4, 2))


def embedded(embedding: nn.Module, width: int) -> Program:
    return Program(
        lambda m, x: m.head(m.embed(x).tanh().mean(1)), embed=embedding, head=mlp(width, 4, 2)
    )


def encoder_layer(*, eval: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 10, dropout=0.0, batch_first=True, norm_first=eval)
    model = Program(lambda m, x: m.head(m.layer(x)[:, 0]), layer=layer, head=nn.Linear(8, 2))
    return model.eval() if eval else model


def decoder_layer() -> Program:
    layer = nn.TransformerDecoderLayer(6, 2, 7, dropout=0.0, batch_first=False)

    def forward(m, x, memory):
        return m.layer(x.transpose(0, 1), memory.transpose(0, 1))[-1]

    return Program(forward, layer=layer)


def filtered() -> Program:
    """A learned complex filter in Fourier space."""

    def forward(m, x):
        return m.head(torch.tanh(torch.fft.irfft(torch.fft.rfft(x) * m.filter, n=8)))

    return Program(forward, filter=parameter(5, dtype=torch.complex64), head=nn.Linear(8, 2))


def state_space() -> Program:
    """A diagonal linear recurrence, run as a convolution with a kernel of its parameters."""

    def forward(m, x):
        length = x.shape[1]
        powers = torch.sigmoid(m.decay)[:, None] ** torch.arange(length, device=x.device)
        kernel = (m.c[:, None] * powers).sum(0)
        y = F.conv1d(F.pad(x[:, None], (length - 1, 0)), kernel.flip(0)[None, None])
        return m.head(torch.tanh(y[:, 0]))

    return Program(forward, decay=parameter(3), c=parameter(3), head=nn.Linear(6, 2))


SEQUENCES: dict[str, Entry] = {
    "attention, batch first": Entry(lambda: attention(batch_first=True), (5, 8)),
    "attention, batch second": Entry(lambda: attention(batch_first=False), (5, 8)),
    "attention, batch first, as many tokens as samples": Entry(
        lambda: attention(batch_first=True), (SAMPLES, 8)
    ),
    "attention, batch second, as many tokens as samples": Entry(
        lambda: attention(batch_first=False), (SAMPLES, 8)
    ),
    "attention that returns its weights": Entry(
        lambda: attention(batch_first=True, weights=True), (4, 8)
    ),
    "attention with bias_kv and a zero": Entry(
        lambda: attention(batch_first=False, add_bias_kv=True, add_zero_attn=True), (3, 8)
    ),
    "attention in eval": Entry(lambda: attention(batch_first=True).eval(), (4, 8)),
    "cross-attention with a mask": Entry(
        cross_attention, {"x": (2, 6), "context": (4, 4), "mask": Mask((4,))}
    ),
    "transformer block": Entry(TransformerBlock, Whole(11, (5,))),
    "transformer encoder layer": Entry(lambda: encoder_layer(eval=False), (4, 8)),
    "transformer encoder layer in eval": Entry(lambda: encoder_layer(eval=True), (SAMPLES, 8)),
    "transformer decoder layer": Entry(decoder_layer, [(2, 6), (SAMPLES, 6)]),
    "scaled dot product": Entry(lambda: fused_attention(causal=False), (4, 6)),
    "causal scaled dot product": Entry(lambda: fused_attention(causal=True), (SAMPLES, 6)),
    "softmax attention by hand": Entry(softmax_attention, (4, 5)),
    "linear attention": Entry(linear_attention, (3, 4)),
    "embedding": Entry(lambda: embedded(nn.Embedding(9, 5), 5), Whole(9, (4,))),
    "embedding of one token": Entry(
        lambda: nn.Sequential(nn.Embedding(4, 5), mlp(5, 6, 2)), Whole(4)
    ),
    "embedding with padding": Entry(
        lambda: embedded(nn.Embedding(4, 5, padding_idx=1), 5), Whole(4, (6,))
    ),
    "embedding, sparse gradient": Entry(
        lambda: embedded(nn.Embedding(9, 3, sparse=True), 3), Whole(9, (4,))
    ),
    "embedding with rare padding": Entry(
        lambda: embedded(nn.Embedding(9, 4, padding_idx=-1), 4), Whole(9, (3,))
    ),
    "embedding bag, mean": Entry(
        lambda: nn.Sequential(nn.EmbeddingBag(9, 5), mlp(5, 4, 2)), Whole(9, (4,))
    ),
    "embedding bag, max": Entry(
        lambda: nn.Sequential(nn.EmbeddingBag(9, 5, mode="max"), mlp(5, 4, 2)), Whole(9, (4,))
    ),
    "embedding bag, weighted": Entry(
        lambda: Program(
            lambda m, x, weight: m.head(m.bag(x, per_sample_weights=weight).tanh()),
            bag=nn.EmbeddingBag(9, 5, mode="sum"),
            head=mlp(5, 2),
        ),
        [Whole(9, (4,)), (4,)],
    ),
    "tied embedding": Entry(language_model, Whole(7, (3,))),
    "recurrence by hand": Entry(by_hand, (4, 3)),
    "recurrence by hand, positions first": Entry(by_hand_positions_first, (SAMPLES, 3)),
    "RNN": Entry(
        lambda: seen(recurrent(nn.RNN(3, 4, nonlinearity="relu", batch_first=True)), 4, 3), (4, 3)
    ),
    "LSTM": Entry(lambda: seen(recurrent(nn.LSTM(3, 4, batch_first=True)), 4, 3), (4, 3)),
    "LSTM, two layers, both ways": Entry(
        lambda: seen(
            recurrent(nn.LSTM(3, 3, num_layers=2, bidirectional=True, batch_first=True)), 4, 3
        ),
        (3, 3),
    ),
    "LSTM, positions first": Entry(lambda: positions_first(nn.LSTM(3, 4), 4), (SAMPLES, 3)),
    "GRU": Entry(lambda: seen(recurrent(nn.GRU(3, 4, batch_first=True)), 4, 3), (4, 3)),
    "GRU cell": Entry(lambda: cell(nn.GRUCell), (3, 3)),
    "LSTM cell": Entry(lambda: cell(nn.LSTMCell), (3, 3)),
    "complex filter in Fourier space": Entry(filtered, (8,)),
    "state space as a convolution": Entry(state_space, (6,)),
}
