"""nngeometry: `GramMatrix` as it stands, and Grams of its dense `Jacobian`."""

# The peers live in an environment of their own.
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.ntk_peers.blocks import gram_from_rows
from benchmarks.ntk_peers.cases import Case


def prepare(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """The trace asks for the Gram of one output at a time: its full one has C^2 times the pairs."""
    from nngeometry.gram import GramMatrix
    from nngeometry.jacobian import Jacobian

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # Its hooks keep the layer's output.
    samples = config["samples"]

    def loader(block: Tensor) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(block), batch_size=min(samples, len(block)))

    def one(c: int) -> Callable[..., Tensor]:
        return lambda *batch: net(batch[0])[:, c : c + 1]

    def rows(block: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        function = None if len(outputs) == case.classes else one(outputs[0])
        dense = Jacobian(net, loader(block), function=function).to_torch()
        return [dense.transpose(0, 1)]

    def kernel() -> Tensor:
        if config["method"] == "jacobian":
            return gram_from_rows(
                rows, x, case.classes, case.output, samples=samples, outputs=config["outputs"]
            )
        if case.output == "full":
            return GramMatrix(net, loader(x)).to_torch().permute(1, 3, 0, 2)
        total = torch.zeros(len(x), len(x), device=x.device)
        for c in range(case.classes):
            total += GramMatrix(net, loader(x), function=one(c)).to_torch()[0, :, 0]
        return total

    return kernel
