"""The reference: float64, a few samples, plain autograd one output at a time."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.ntk_peers import answers, torch_models
from benchmarks.ntk_peers.cases import Case


def block(case: Case, device: str = "cpu") -> np.ndarray:
    """J J^T on the block's samples, traced or full."""
    net, x = torch_models.make(case)
    net, x = net.double().to(device), x[answers.block_samples(case)].double().to(device)
    params = list(net.parameters())
    m, c = len(x), case.classes
    rows = [torch.empty(m, c, p.numel(), dtype=p.dtype, device=device) for p in params]
    for i in range(m):
        y = net(x[i : i + 1])[0]
        for k in range(c):
            gradients = torch.autograd.grad(y[k], params, retain_graph=k < c - 1)
            for row, gradient in zip(rows, gradients, strict=True):
                row[i, k] = gradient.flatten()
    total = torch.zeros(m, c, m, c, dtype=x.dtype, device=device)
    for row in rows:
        flat = row.flatten(0, 1)
        total += (flat @ flat.T).view(m, c, m, c)
    total = total.transpose(1, 2)
    if case.output == "trace":
        total = total.diagonal(dim1=2, dim2=3).sum(-1)
    return total.cpu().numpy()


def write(case: Case, stored: Path, answer: Path) -> None:
    """Weights and inputs for all workers, and the reference block."""
    net, x = torch_models.make(case)
    np.savez(stored, **torch_models.arrays(net, x))  # pyright: ignore[reportArgumentType]
    answers.store({"block": block(case)}, answer)
