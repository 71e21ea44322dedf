"""The rules are right by themselves.

Every kernel is held against autograd on two samples, and what is wrong there goes another way. A
wrong rule would therefore show in no kernel, only in its cost; here it does.
"""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.ntk.structured import Structured
from tests.ntk import zoo
from tests.ntk.program import Program, parameter

FRESH = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
SEED = int(os.environ.get("ZOO_SEED", FRESH))


@pytest.mark.parametrize("name", zoo.MODELS)
def test_the_check_against_autograd_finds_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"ZOO_SEED={SEED}")
    found = []
    check = Structured.mistaken

    def watched(self: Structured, *given: object) -> frozenset[str]:
        found.append(check(self, *given))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(Structured, "mistaken", watched)
    model, x1, _ = zoo.draw(name, SEED)
    ntk.gram(model, x1)
    assert not any(found)


def made(operation: Callable[[nn.Parameter, Tensor], Tensor], *shape: int) -> nn.Module:
    return Program(lambda m, x: operation(m.w, x).tanh().flatten(1), w=parameter(*shape))


OPERATIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "x @ w": (made(lambda w, x: x @ w, 4, 3), (4,)),
    "w @ x": (made(lambda w, x: (w @ x.T).T, 3, 4), (4,)),
    "x @ v": (made(lambda w, x: (x @ w)[:, None], 4), (4,)),
    "by group, on the right": (
        made(lambda w, x: torch.bmm(x.transpose(0, 1), w).transpose(0, 1), 2, 4, 3),
        (2, 4),
    ),
    "by group, on the left": (
        made(lambda w, x: torch.bmm(w, x.permute(1, 2, 0)).permute(2, 0, 1), 2, 3, 4),
        (2, 4),
    ),
    "w + x": (made(lambda w, x: w + x, 4), (4,)),
    "x - 2 w": (made(lambda w, x: torch.sub(x, w, alpha=2), 4), (4,)),
    "w - x": (made(lambda w, x: w - x, 4), (4,)),
    "w x": (made(lambda w, x: w * x, 4), (4,)),
    "x w": (made(lambda w, x: x * w, 4), (4,)),
    "w / x": (made(lambda w, x: w / (2 + x.square()), 4), (4,)),
    "x / w": (made(lambda w, x: x / w, 4), (4,)),
    "expanded": (made(lambda w, x: x.tanh() * w.expand(len(x), 4), 4), (4,)),
    "repeated": (made(lambda w, x: x.tanh() * w.repeat(len(x), 1), 4), (4,)),
    "linear": (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), (4,)),
    "convolution": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten()), (2, 5, 5)),
    "layer norm": (nn.Sequential(nn.LayerNorm(4), nn.Tanh()), (4,)),
    "group norm": (nn.Sequential(nn.GroupNorm(2, 4), nn.Tanh()), (4,)),
    "batch norm": (nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()).eval(), (4,)),
    "prelu": (nn.PReLU(4), (4,)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_common_operation_has_a_rule(name: str) -> None:
    model, shape = OPERATIONS[name]
    methods = {p.name: p.method for p in ntk.plan(model, torch.randn(6, *shape)).parameters}
    assert methods and "jacobian" not in methods.values(), methods


@pytest.mark.parametrize(
    "operation",
    [lambda w, z: w * z, lambda w, z: z * w, lambda w, z: w / z, lambda w, z: z / w],
    ids=["w z", "z w", "w / z", "z / w"],
)
def test_complex_operands_have_none(operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    def real(w: Tensor, x: Tensor) -> Tensor:
        return torch.view_as_real(operation(w, torch.complex(2 + x.square(), x)))

    found = ntk.plan(made(real, 4), torch.randn(6, 4))
    assert [p.method for p in found.parameters] == ["jacobian"]
