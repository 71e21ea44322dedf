"""Fingerprints are equal exactly where what they stand for is."""

from itertools import combinations

import numpy as np
import pytest
import torch

from ntkscale.ntk.tiles import fingerprint


def test_different_parts_differ():
    x = torch.arange(6.0)
    parts = [
        (),
        ((),),
        ({},),
        (None,),
        ("None",),
        (1,),
        (True,),
        (1.0,),
        ("1",),
        (b"1",),
        (0.0,),
        (-0.0,),
        (1, 2),
        ((1, 2),),
        ((1,), 2),
        (12,),
        ("ab", "c"),
        ("a", "bc"),
        ({"a": 1, "b": 2},),
        ({"a": 2, "b": 1},),
        (["a", 1, "b", 2],),
        (x,),
        (x.double(),),
        (x.reshape(2, 3),),
        (x.reshape(3, 2),),
        (x.reshape(2, 3).T,),
        (x[:0],),
        (x[1],),
        (x.bfloat16(),),
        (x.to(torch.complex64),),
        (x.to(torch.complex64).imag,),
        (x.numpy(),),
        (x.int().numpy(),),
        (x > 2,),
    ]
    for a, b in combinations(parts, 2):
        assert fingerprint(*a) != fingerprint(*b), (a, b)


def test_equal_parts_agree():
    x = torch.randn(4, 6)
    layer = torch.nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(x)
    name = fingerprint(x)
    assert name == fingerprint(layer.weight) == fingerprint(x.T.contiguous().T)
    assert len(name) == 64 and name == fingerprint(x.clone())
    assert fingerprint(x.to_sparse().coalesce()) == name
    z = torch.randn(3, dtype=torch.complex128)
    assert fingerprint(z.conj()) == fingerprint(z.conj().resolve_conj()) != fingerprint(z)
    assert fingerprint({"b": x, "a": [1]}) == fingerprint({"a": (1,), "b": x})
    assert fingerprint(np.eye(3)) == fingerprint(np.asfortranarray(np.eye(3)))
    assert fingerprint(torch.tensor(float("nan"))) == fingerprint(torch.tensor(float("nan")))


@pytest.mark.parametrize("part", [object(), {1: 2}, {3}, np.array([None]), torch.float32, len])
def test_what_has_no_fingerprint(part):
    with pytest.raises(TypeError, match="has no fingerprint"):
        fingerprint("x", [part])
