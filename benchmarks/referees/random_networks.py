"""Random small networks in float64, as both sides of a comparison make them."""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.ntk_peers.cases import Case
from benchmarks.ntk_peers.torch_models import BUILDERS


def draw(kind: str, generator: np.random.Generator) -> Case:
    """An MLP of one to three hidden layers, or a CNN of two or three convolutions."""
    n, classes = int(generator.integers(3, 8)), int(generator.integers(1, 5))
    if kind == "mlp":
        hidden = [int(w) for w in generator.integers(4, 40, size=generator.integers(1, 4))]
        widths = [int(generator.integers(2, 12)), *hidden, classes]
        sizes, sample = {"widths": widths}, (widths[0],)
    else:
        channels = [int(c) for c in generator.integers(1, 8, size=generator.integers(3, 5))]
        side = int(generator.integers(8, 13))
        sizes, sample = {"channels": channels, "classes": classes}, (channels[0], side, side)
    return Case("referee", "", kind, sizes, sample, n, "full", classes)


def network(case: Case, seed: int) -> tuple[nn.Module, Tensor]:
    """The network and its inputs, float64; PyTorch's default initialisation."""
    torch.manual_seed(seed)
    net = BUILDERS[case.kind](**case.sizes).double().eval()
    return net, torch.randn(case.n, *case.sample, dtype=torch.float64)
