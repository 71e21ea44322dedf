"""Networks of finite width in the mean-field parameterization, trained by autograd step by step."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass
class History:
    """Outputs (T, All, C), and kernels over (T All) and (T All C), as the theory orders them."""

    outputs: Tensor
    phi: list[Tensor]
    g: list[Tensor]


def train_network(
    x: Tensor,
    y: Tensor,
    phi: Callable[[Tensor], Tensor],
    *,
    depth: int,
    width: int,
    gamma0: float,
    learning_rate: float,
    steps: int,
    momentum: float = 0.0,
    cross_entropy: bool = False,
    seed: int = 0,
) -> History:
    """Gradient descent on the first len(y) of the inputs x, targets y (P, C); outputs centred."""
    generator = torch.Generator().manual_seed(seed)
    num_outputs = y.shape[1]
    sizes = [x.shape[1], *[width] * depth, num_outputs]
    weights = [
        torch.randn(out, fan, generator=generator, dtype=torch.float64).requires_grad_()
        for fan, out in pairwise(sizes)
    ]
    optimiser = torch.optim.SGD(weights, lr=learning_rate * gamma0**2 * width, momentum=momentum)
    outputs, start = [], None
    phis: list[list[Tensor]] = [[] for _ in range(depth)]
    gs: list[list[Tensor]] = [[] for _ in range(depth)]
    for _ in range(steps + 1):
        a, hidden = x, []
        for layer in range(depth):
            h = a @ weights[layer].T / a.shape[1] ** 0.5
            hidden.append(h)
            a = phi(h)
            phis[layer].append(a.detach() / width**0.5)
        f = a @ weights[-1].T / (gamma0 * width)
        for output in range(num_outputs):
            slopes = torch.autograd.grad(f[:, output].sum(), hidden, retain_graph=True)
            for layer, slope in enumerate(slopes):
                gs[layer].append(slope * gamma0 * width**0.5)
        start = f.detach() if start is None else start
        f = f - start
        outputs.append(f.detach())
        if cross_entropy:
            loss = -(y * torch.log_softmax(f[: len(y)], 1)).sum(1).mean()
        else:
            loss = (f[: len(y)] - y).square().sum(1).mean() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    points = len(x)
    fields = [torch.cat(layer) for layer in phis]
    signals = [
        torch.stack(layer).view(steps + 1, num_outputs, points, width).transpose(1, 2).flatten(0, 2)
        for layer in gs
    ]
    return History(torch.stack(outputs), [a @ a.T for a in fields], [g @ g.T for g in signals])
