"""Pieces of the engine whose failure shows in no kernel, since another route is right too."""

import pytest
import torch
from torch import nn

from ntkscale import ntk
from ntkscale.ntk.forward import as_function
from ntkscale.ntk.uses import find_uses
from ntkscale.ntk.waist import find_waist
from tests.ntk.program import Program
from tests.reference.ntk import jacobian_rows, of_output


@pytest.mark.parametrize("pooling", [nn.AvgPool2d(4), nn.MaxPool2d(4)], ids=["mean", "largest"])
def test_a_linear_head_knows_its_features_down_to_the_convolution(pooling: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), pooling, nn.Flatten(), nn.Linear(5, 3))
    uses = find_uses(
        as_function(model, params=None, select=None, attached=False), torch.randn(4, 2, 6, 6)
    )
    assert uses is not None
    found = find_waist(uses)
    assert found is not None
    torch.testing.assert_close(found.weight, model.get_parameter("4.weight").detach())
    (convolution,) = (i for i, name in enumerate(uses.graph.names) if "Convolution" in name)
    channels = torch.arange(5)[None, :, None, None].expand(1, 5, 4, 4)
    assert torch.equal(found.features[convolution], channels)


def test_differentiated_kernel_of_a_loop_that_leaves_a_parameter_out() -> None:
    # The data decide what is run, so that samples go one by one, and some never see `b`.
    model = Program(
        lambda m, x: torch.stack([m.b(r) if r[0] > 0 else m.a(r).tanh() for r in x]),
        a=nn.Linear(3, 2),
        b=nn.Linear(3, 2),
    ).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    x[:, 0] = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0])
    x.requires_grad_()
    k = ntk.gram(model, x, create_graph=True)
    rows = torch.cat(list(jacobian_rows(model, x.detach()).values()), 2)
    want = of_output(torch.einsum("acw,bdw->abcd", rows, rows), "trace")
    torch.testing.assert_close(k.detach(), want)
    (slope,) = torch.autograd.grad(k.sum(), x)
    assert slope.shape == x.shape and bool(slope.isfinite().all())
