"""BackPACK: `BatchGrad`, one backward pass an output, rows contracted block by block."""

# The peers live in an environment of their own.
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ntk_peers.blocks import gram_from_rows
from benchmarks.ntk_peers.cases import Case


def prepare(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """Rows are `param.grad_batch` after the backward pass of an output summed over samples."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Its hooks return views.
    # The converter makes modules of sums in the forward pass; sequences need none.
    net = extend(net, use_converter=case.kind == "resnet18")
    params: list[Any] = list(net.parameters())

    def rows(block: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        made: list[list[Tensor]] = []
        y = net(block)
        for c in outputs:
            more = c != outputs[-1]
            with backpack(BatchGrad(), retain_graph=more):
                y[:, c].sum().backward(retain_graph=more)
            missing = [name for name, p in net.named_parameters() if not hasattr(p, "grad_batch")]
            if missing:
                raise NotImplementedError(f"BatchGrad gave nothing for {', '.join(missing[:2])}, …")
            made.append([p.grad_batch.flatten(1) for p in params])
            for p in params:
                del p.grad_batch
                p.grad = None
        return [torch.stack(of_one, dim=1) for of_one in zip(*made, strict=True)]

    return lambda: gram_from_rows(rows, x, case.classes, case.output, **config)
