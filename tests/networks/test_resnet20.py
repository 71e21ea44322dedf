"""The residual network with batch norm: sizes, shortcuts, initialisation."""

import pytest
import torch
from torch import nn

from ntkscale import ntk
from ntkscale.networks import ResNet20


def test_it_has_twenty_layers_and_the_papers_parameters() -> None:
    network = ResNet20(3, 10)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 20
    # He et al. 2016, table 6: 0.27 million.
    assert sum(p.numel() for p in network.parameters()) == 269_722
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_shortcuts_take_every_second_pixel_and_pad_channels() -> None:
    network = ResNet20(1, 2, width=3, blocks=1, dtype=torch.float64).eval()
    second = network.blocks[1]
    for norm in second.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.zeros_(norm.weight)  # the branch is silent
    h = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    out = second(h)
    torch.testing.assert_close(out[:, :3], h[:, :, ::2, ::2])
    assert not bool(out[:, 3:].any())


def test_initialisation_is_hes_and_depends_on_the_seed_alone() -> None:
    one, same, other = (ResNet20(3, 10, width=32, seed=s) for s in (4, 4, 5))
    torch.manual_seed(0)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)
    weight = next(m for m in one.blocks.modules() if isinstance(m, nn.Conv2d)).weight
    expected = (2 / (9 * 32)) ** 0.5
    assert float(weight.detach().std()) == pytest.approx(expected, rel=0.05)


def test_its_kernel_in_evaluation_mode_is_that_of_autograd() -> None:
    network = ResNet20(2, 3, width=2, blocks=1, dtype=torch.float64)
    network(torch.randn(16, 2, 8, 8, dtype=torch.float64))  # statistics of its own
    network.eval()
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    rows = []
    for c in range(3):
        for i in range(3):
            gradients = torch.autograd.grad(network(x)[i, c], list(network.parameters()))
            rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows).view(3, 3, -1)
    expected = torch.einsum("cip,cjp->ij", jacobian, jacobian)
    torch.testing.assert_close(ntk.gram(network, x), expected, rtol=1e-10, atol=1e-10)


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a positive whole number"):
        ResNet20(3, 10, width=0)
