"""The networks in PyTorch, made of plain layers so that every peer has its best chance."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ntk_peers.cases import Case


class Attention(nn.Module):
    """Multi-head self-attention out of two linear layers; hooks reach both."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    """One pre-norm layer: attention, then an MLP."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Encoder on given token features; positions are fixed, since peers know no bare parameters."""

    def __init__(
        self,
        features: int,
        width: int,
        tokens: int,
        heads: int,
        hidden: int,
        blocks: int,
        classes: int,
    ):
        super().__init__()
        self.embedding = nn.Linear(features, width)
        angle = torch.arange(tokens)[:, None] / 1e4 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], dim=1))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, features) to (n, classes)."""
        x = self.blocks(self.embedding(x) + self.positions)
        return self.head(self.norm(x).mean(dim=1))


def _mlp(widths: list[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _cnn(channels: list[int], classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(channels):
        layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers[-1] = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1], classes))


def _resnet18(classes: int) -> nn.Module:
    # Imported here: only this workload needs torchvision.
    from torchvision.models import resnet18

    net = resnet18(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Statistics and scales that are no identity, so that leaving them out would show.
            for value in (module.running_var, module.weight):
                assert value is not None
                nn.init.uniform_(value, 0.7, 1.3)
            for value in (module.running_mean, module.bias):
                assert value is not None
                nn.init.uniform_(value, -0.1, 0.1)
    return net


BUILDERS = {"mlp": _mlp, "cnn": _cnn, "resnet18": _resnet18, "transformer": Transformer}


def make(case: Case) -> tuple[nn.Module, Tensor]:
    """The network in evaluation mode and its inputs, the same for the same case."""
    torch.manual_seed(0)
    net = BUILDERS[case.kind](**case.sizes).eval()
    return net, torch.randn(case.n, *case.sample, generator=torch.Generator().manual_seed(1))


def arrays(net: nn.Module, x: Tensor) -> dict[str, np.ndarray]:
    """Weights and inputs as arrays, for workers of every environment."""
    return {"inputs": x.numpy(), **{name: v.numpy() for name, v in net.state_dict().items()}}


def load(case: Case, stored: dict[str, np.ndarray], device: str) -> tuple[nn.Module, Tensor]:
    """The network and inputs that :func:`arrays` stored."""
    net, _ = make(case)
    state = {name: torch.from_numpy(v) for name, v in stored.items() if name != "inputs"}
    net.load_state_dict(state)
    return net.to(device), torch.from_numpy(stored["inputs"]).to(device)
