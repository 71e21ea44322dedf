"""`torch.func` as in PyTorch's tutorial "Neural Tangent Kernels": both of its ways."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

from benchmarks.ntk_peers.blocks import gram_from_rows
from benchmarks.ntk_peers.cases import Case


def prepare_contraction(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """The Jacobian of every sample by `vmap(jacrev)`, contracted parameter by parameter."""
    params = {name: p.detach() for name, p in net.named_parameters()}

    def forward(params: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(net, params, (sample.unsqueeze(0),)).squeeze(0)

    def rows(block: Tensor, outputs: Sequence[int]) -> list[Tensor]:
        if len(outputs) == case.classes:
            jacobian = vmap(jacrev(forward), (None, 0))(params, block)
            return [j.flatten(2) for j in jacobian.values()]
        (c,) = outputs
        gradient = vmap(grad(lambda p, s: forward(p, s)[c]), (None, 0))(params, block)
        return [g.flatten(1).unsqueeze(1) for g in gradient.values()]

    return lambda: gram_from_rows(rows, x, case.classes, case.output, **config)


def prepare_products(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """The tutorial's `empirical_ntk_ntk_vps`, block by block of its upper half."""
    params = {name: p.detach() for name, p in net.named_parameters()}
    size = config["samples"]

    def forward(params: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(net, params, (sample.unsqueeze(0),)).squeeze(0)

    def pair(x1: Tensor, x2: Tensor) -> Tensor:
        output, pull_back, *_ = vjp(lambda p: forward(p, x1), params)

        def slice_along(vector: Tensor) -> Tensor:
            return jvp(lambda p: forward(p, x2), (params,), pull_back(vector))[1]

        return vmap(slice_along)(torch.eye(len(output), dtype=output.dtype, device=output.device))

    block = vmap(vmap(pair, (None, 0)), (0, None))

    def kernel() -> Tensor:
        n, c = len(x), case.classes
        tail = (c, c) if case.output == "full" else ()
        whole = x.new_zeros(n, n, *tail)
        for first in range(0, n, size):
            for start in range(0, first + 1, size):
                part = block(x[first : first + size], x[start : start + size])
                if case.output == "trace":
                    part = torch.einsum("NMKK->NM", part)
                whole[first : first + size, start : start + size] = part
                across = part.transpose(0, 1)
                whole[start : start + size, first : first + size] = (
                    across.transpose(2, 3) if case.output == "full" else across
                )
        return whole

    return kernel
