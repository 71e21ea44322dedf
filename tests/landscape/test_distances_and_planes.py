"""Function distances by entries, planes by the SVD of the whole table."""

import math

import pytest
import torch

from ntkscale.landscape import disagreement, function_distance, principal_plane, trajectory
from ntkscale.networks import MLP
from tests.reference.landscape import plane_by_svd


def test_function_distance_and_disagreement():
    m, c = int(torch.randint(2, 9, ())), int(torch.randint(2, 6, ()))
    f, g = (torch.randn(m, c, dtype=torch.float64) for _ in range(2))
    total = straight = differing = 0.0
    for a, b in zip(f.tolist(), g.tolist(), strict=True):
        p, q = ([math.exp(v) for v in row] for row in (a, b))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += math.dist(p, q)
        straight += math.dist(a, b)
        differing += a.index(max(a)) != b.index(max(b))
    assert function_distance(f, g) == pytest.approx(total / m, rel=1e-12)
    assert function_distance(f, g, of="logits") == pytest.approx(straight / m, rel=1e-12)
    assert disagreement(f, g) == pytest.approx(differing / m)
    assert function_distance(f, f) == disagreement(f, f) == 0
    one = torch.tensor([[1.0], [-1.0]])
    assert disagreement(one, one.abs()) == 0.5
    sure = torch.tensor([[1e3, 0.0]])
    assert function_distance(sure, sure.flip(1)) == pytest.approx(math.sqrt(2))


def test_plane_of_a_table(monkeypatch):
    count, size = int(torch.randint(3, 12, ())), int(torch.randint(5, 300, ()))
    table = torch.randn(count, size, dtype=torch.float64).cumsum(0) + 1e3
    monkeypatch.setattr(trajectory, "_BLOCK", 17)
    found = principal_plane(table)
    coordinates, explained = plane_by_svd(table)
    signs = torch.sign((coordinates * found.coordinates).sum(0))
    torch.testing.assert_close(found.coordinates, coordinates * signs, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.explained, explained, rtol=1e-9, atol=1e-12)
    largest = found.coordinates.abs().argmax(0)
    assert (found.coordinates[largest, torch.arange(2)] > 0).all()


def test_plane_of_state_dicts():
    states = [MLP(3, 2, width=4, depth=2, seed=s).state_dict() for s in range(5)]
    names = ["hidden1", "hidden2", "readout"]
    table = torch.stack([torch.cat([s[n].flatten().double() for n in names]) for s in states])
    found = principal_plane(states, names=names)
    torch.testing.assert_close(found.coordinates, principal_plane(table).coordinates)
    assert not torch.allclose(principal_plane(states).coordinates, found.coordinates)
    line = torch.arange(4.0)[:, None] * torch.randn(1, 9)
    flat = principal_plane(line)
    assert flat.explained[0] == pytest.approx(1)
    assert flat.explained[1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: function_distance(torch.zeros(3, 1), torch.zeros(3, 1)), "of='logits'"),
        (lambda: function_distance(torch.zeros(3, 2), torch.zeros(3, 3)), "same inputs"),
        (lambda: function_distance(torch.eye(2), torch.eye(2), of="f"), "unknown"),  # type: ignore[arg-type]
        (lambda: disagreement(torch.zeros(3), torch.zeros(3)), "same inputs"),
        (lambda: principal_plane(torch.randn(2, 9)), "three or more"),
        (lambda: principal_plane(torch.randn(3, 9, 2)), "one row each"),
        (lambda: principal_plane(torch.ones(3, 9)), "all checkpoints are equal"),
        (lambda: principal_plane(torch.full((3, 9), torch.inf)), "nan or infinity"),
        (
            lambda: principal_plane([{"w": torch.randn(2)}, {"w": torch.randn(2)}, {}]),
            "checkpoint 2 has 'w' of shape None",
        ),
        (lambda: principal_plane([{"n": torch.tensor(1)}] * 3), "other names"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
