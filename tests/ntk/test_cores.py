"""Pieces over cores: each once, failures passed on, threads as they were; kernels to the bit."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ntkscale.ntk import cores
from ntkscale.ntk.cores import over_cores
from ntkscale.ntk.forward import as_function
from ntkscale.ntk.structured import Structured

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_piece_once_on_at_most_so_many_cores(threads):
    done, used = [], set()

    def work(pieces: Iterator[int]) -> None:
        for piece in pieces:
            done.append(piece)
            used.add((threading.get_ident(), torch.get_num_threads()))
            torch.mm(torch.ones(300, 300), torch.ones(300, 300))

    over_cores(range(200), work, CPU)
    assert sorted(done) == list(range(200))
    assert len(used) <= threads
    assert {own for _, own in used} == {1}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("error", [RuntimeError("memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["asking", "helping"])
def test_a_failure_ends_all_and_is_raised_here(threads, error, place):
    if place == "helping" and threads == 1:
        pytest.skip("no helper with one thread")
    here, failed, seen = threading.get_ident(), threading.Event(), []

    def work(pieces: Iterator[int]) -> None:
        for piece in pieces:
            seen.append(piece)
            if (threading.get_ident() == here) == (place == "asking"):
                failed.set()
                raise error
            failed.wait(10)

    with pytest.raises(type(error)):
        over_cores(range(1000), work, CPU)
    assert len(seen) < 1000
    assert torch.get_num_threads() == threads


def test_more_cores_than_pieces_may_run_share_the_operations(monkeypatch):
    monkeypatch.setattr(cores, "MOST", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    own = set()
    try:
        over_cores(range(50), lambda p: [own.add(torch.get_num_threads()) for _ in p], CPU)
    finally:
        torch.set_num_threads(before)
    assert own == {2}


@pytest.mark.parametrize("kind", ["trace", "diagonal", "full"])
@pytest.mark.parametrize("model", ["dense", "convolutional"])
def test_gram_matrices_have_the_same_bits_on_one_core_and_on_three(kind, model):
    seed = int(torch.randint(2**31, ()))
    print(f"seed {seed}")
    torch.manual_seed(seed)
    if model == "dense":
        net = nn.Sequential(nn.Linear(20, 300), nn.ReLU(), nn.Linear(300, 7), nn.Tanh())
        x, outputs = torch.randn(700, 20), 7
    else:
        net = nn.Sequential(nn.Conv2d(2, 40, 3), nn.ReLU(), nn.Flatten(), nn.Linear(160, 2))
        x, outputs = torch.randn(60, 2, 4, 4), 2
    forward = as_function(net, params=None, select=None, attached=False)
    structured = Structured.of(forward, x, len(x), range(outputs), kind)
    assert structured is not None
    chunk = structured.capture(x)
    squares = {"trace": 1, "diagonal": outputs, "full": outputs**2}[kind]
    before, found = torch.get_num_threads(), []
    for count in (1, 3):
        k = torch.zeros(squares, len(x), len(x))
        torch.set_num_threads(count)
        try:
            structured.contract(chunk, chunk, dict.fromkeys(structured.names, k), lambda _: None)
        finally:
            torch.set_num_threads(before)
        found.append(k)
    assert torch.equal(*found)
    # A tile left out is 1e-3 of all; of tens of millions of entries one may cancel.
    assert (found[0] == 0).double().mean() < 1e-5
