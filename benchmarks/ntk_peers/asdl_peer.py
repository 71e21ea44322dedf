"""ASDL (distributed as `asdfghjkl`): its kernels, in blocks by `asdl.batch`, and its gradients."""

# The peers live in an environment of their own.
# pyright: reportMissingImports=false

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ntk_peers.blocks import gram_from_rows
from benchmarks.ntk_peers.cases import Case


def prepare(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """One of ASDL's `empirical_..._ntk`; class-wise kernels are summed over the classes."""
    import asdl

    # What an operation skips is said in a warning alone, and the kernel is then not the kernel.
    warnings.filterwarnings("error", message=".*operation is not supported.*")
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Its hooks return views.
    method, samples = config["method"], config["samples"]

    def rows(block: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        made = [
            asdl.batch_gradient(net, lambda c=c: net(block)[:, c].sum().backward()) for c in outputs
        ]
        net.zero_grad()
        return [torch.stack(made, dim=1)]

    if method == "batch_gradient":
        return lambda: gram_from_rows(
            rows, x, case.classes, case.output, samples=samples, outputs="all"
        )
    function = getattr(asdl, f"empirical_{method}_ntk")

    def kernel() -> Tensor:
        if samples >= len(x):
            found = function(net, x)
        else:
            found = asdl.batch(function, net, x, batch_size=samples)
        if case.output == "trace":
            found = found.sum(-1)
        return found.detach()

    return kernel
