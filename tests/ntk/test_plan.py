"""`plan` against what is done and against counts by hand, also where no number exists."""

import itertools
from typing import Literal

import pytest
import torch
from torch import nn

from ntkscale import ntk


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Halting(nn.Module):
    """A loop whose length the data decide: no rule is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = []
        for row in x:
            for _ in range(1 + int(row[0] > 0)):
                row = torch.tanh(self.step(row))
            rows.append(row)
        return self.head(torch.stack(rows))


def test_a_plain_network_counted_by_hand():
    found = ntk.plan(mlp(20, 30, 40, 5), torch.randn(64, 20))
    by_name = {p.name: p for p in found.parameters}
    assert [p.method for p in found.parameters] == ["gram matrices"] * 6
    assert by_name["2.weight"].multiply_adds == 64 * 64 / 2 * (30 + 5 * 40)
    assert by_name["2.bias"].multiply_adds == 0
    assert found.passes == 64 * (1 + 5) * (20 * 30 + 30 * 40 + 40 * 5)
    assert found.shape == (64, 64) and found.chunk == 64
    assert found.multiply_adds == found.passes + sum(p.multiply_adds for p in found.parameters)
    assert 0 < found.seconds < 1 and found.kernel == 4 * 64 * 64


@pytest.mark.parametrize("output", ["trace", "full"])
def test_without_numbers_the_same(output: Literal["trace", "full"]):
    for model, x in (
        (mlp(20, 30, 5), torch.randn(32, 20)),
        (Attention(), torch.randn(8, 7, 16)),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()), torch.randn(8, 3, 8, 8)),
    ):
        real = ntk.plan(model, x, output=output)
        meta = ntk.plan(model.to("meta"), x.to("meta"), output=output)
        assert meta.multiply_adds == pytest.approx(real.multiply_adds, rel=1e-9)
        assert [p.name for p in meta.parameters] == [p.name for p in real.parameters]
        assert meta.rate == 0 and real.rate > 0


def test_generic_parameters_are_named_and_the_rest_is_not_dragged_along():
    torch.manual_seed(0)
    found = ntk.plan(Halting(), torch.randn(6, 4))
    methods = {p.name: p.method for p in found.parameters}
    assert methods["step.weight"] == methods["step.bias"] == "jacobian"
    assert methods["head.weight"] == "gram matrices"


def test_a_small_budget_cuts_the_work():
    model, x = mlp(20, 30, 5), torch.randn(512, 20)
    small, large = (ntk.plan(model, x, memory=m) for m in (1 << 16, 1 << 30))
    assert small.chunk < large.chunk == 512
    assert small.memory <= 1 << 16 and small.passes > large.passes


def test_it_prints_a_table():
    text = str(ntk.plan(mlp(20, 30, 5), torch.randn(16, 20), torch.randn(8, 20)))
    for part in ("kernel of shape (16, 8)", "0.weight", "gram matrices", "total", "budget"):
        assert part in text


def test_a_model_that_needs_numbers_is_not_planned_without():
    with pytest.raises(ValueError, match="plan it on a real device") as caught:
        ntk.plan(Halting().to("meta"), torch.empty(4, 4, device="meta"))
    assert "\n" not in str(caught.value)
