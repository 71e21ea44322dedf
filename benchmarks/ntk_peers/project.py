"""The project: `ntk.gram` with its defaults, the memory budget apart."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from benchmarks.ntk_peers.cases import Case


def prepare(
    net: nn.Module, x: Tensor, case: Case, config: dict[str, Any], budget: int
) -> Callable[[], Tensor]:
    """The call that is timed."""
    from ntkscale import ntk

    return lambda: ntk.gram(net, x, output=case.output, memory=budget)
