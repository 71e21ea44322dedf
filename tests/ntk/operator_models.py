"""Small models for the operator: one for each way of being differentiated, or of resisting it."""

import itertools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Tied(nn.Module):
    """One matrix in, its transpose out."""

    def __init__(self):
        super().__init__()
        self.into = nn.Parameter(torch.randn(7, 5))

    def forward(self, x):
        return torch.tanh(x @ self.into.T) @ self.into


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8, sparse=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """No forward-mode rule in float32."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class Named(nn.Module):
    """Two inputs, a dict out, a complex parameter, and one that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)
        self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.unused = nn.Parameter(torch.randn(3))

    def forward(self, left, right):
        h = self.left(left) * torch.tanh(self.right(right))
        return {"hidden": h, "logits": (h * self.phase).abs()}


class Checkpointed(nn.Module):
    """Runs a part again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        inner = lambda h: torch.tanh(self.inner(h))  # noqa: E731
        return self.outer(checkpoint(inner, x, use_reentrant=False))


class Stuck(torch.autograd.Function):
    """A gradient that cannot be differentiated again, and no forward-mode rule."""

    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad_outputs[0]


class Opaque(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return Stuck.apply(self.linear(x))


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, bias=False),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).eval()


MODELS = {
    "mlp": (lambda: mlp(5, 9, 3), lambda n: torch.randn(n, 5)),
    "cnn": (cnn, lambda n: torch.randn(n, 2, 10, 10)),
    "attention": (lambda: Attention().eval(), lambda n: torch.randint(0, 11, (n, 6))),
    "tied": (Tied, lambda n: torch.randn(n, 5)),
    "checkpointed": (Checkpointed, lambda n: torch.randn(n, 5)),
    "lstm": (Recurrent, lambda n: torch.randn(n, 4, 4)),
    "tuple": (lambda: nn.Bilinear(3, 2, 4), lambda n: (torch.randn(n, 3), torch.randn(n, 2))),
}
