"""Distances between all times against their definition, pair by pair."""

import pytest
import torch

from ntkscale import ntk
from ntkscale.tracking import DistanceMap


def kernels(count: int, shape: tuple[int, ...], seed: int, change: float) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(*shape, 9, generator=generator, dtype=torch.float64)
    found = []
    for _ in range(count):
        factor = factor + change * torch.randn(factor.shape, generator=generator).double()
        if len(shape) == 1:
            found.append(factor @ factor.T)
        else:
            found.append(torch.einsum("ncp,mdp->nmcd", factor, factor))
    return found


@pytest.mark.parametrize("shape", [(7,), (4, 3)])
@pytest.mark.parametrize("change", [1.0, 1e-2])
def test_distances_are_those_of_all_pairs(shape: tuple[int, ...], change: float) -> None:
    own = kernels(5, shape, seed=len(shape), change=change)
    found = DistanceMap()
    rows = [found.add(kernel) for kernel in own]
    table = found.distances()
    assert found.count == 5 and [len(row) for row in rows] == [0, 1, 2, 3, 4]
    for s, first in enumerate(own):
        for t, second in enumerate(own):
            cosine = (first * second).sum() / (first.norm() * second.norm())
            assert float(table[s, t]) == pytest.approx(float(1 - cosine), rel=1e-4, abs=1e-13)
            if len(shape) == 1:
                same = float(ntk.kernel_distance(first, second))
                assert float(table[s, t]) == pytest.approx(same, rel=1e-4, abs=1e-13)


def test_small_distances_are_resolved() -> None:
    own = kernels(2, (20,), seed=3, change=1e-6)
    found = DistanceMap()
    for kernel in own:
        found.add(kernel)
    unit = [k / k.norm() for k in own]
    expected = float((unit[0] - unit[1]).square().sum()) / 2
    assert float(found.distances()[0, 1]) == pytest.approx(expected, abs=3e-14)
    assert expected < 1e-11


def test_what_is_refused() -> None:
    found = DistanceMap()
    found.add(torch.eye(3))
    with pytest.raises(ValueError, match="one probe set"):
        found.add(torch.eye(4))
    with pytest.raises(ValueError, match="zero or not finite"):
        found.add(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"\(n, n\) or \(n, n, C, C\)"):
        found.add(torch.ones(3, 2))
