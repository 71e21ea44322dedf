"""`gram` of models in half or mixed precision, under autocast, and compiled."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkscale import ntk

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ntk import zoo
from tests.ntk.program import Program
from tests.reference.ntk import cast, kernel

FRESH = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
SEED = int(os.environ.get("ZOO_SEED", FRESH))
HALF = 3e-2
"""Of the largest entry. A number in bfloat16 is off by 2e-3, and there are several in a row."""
ROBUST = [
    "mlp, one output",
    "linear over a sequence as long as the batch",
    "samples and positions merged",
    "layer norm over a sequence",
    "module called twice",
    "cnn",
    "transformer block",
    "embedding",
    "matrix in, transpose out",
    "one-hot times a matrix",
]


def error(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    return float((got.double() - want).abs().max() / want.abs().max())


@pytest.fixture(autouse=True)
def seed_is_printed():
    print(f"ZOO_SEED={SEED}")


@pytest.mark.parametrize("name", ROBUST)
def test_bfloat16_model_gives_a_float32_kernel(name):
    model, x1, x2 = zoo.draw(name, SEED, torch.bfloat16)
    for second in (None, x2):
        for output in ("trace", "full"):
            got = ntk.gram(model, x1, second, output=output)
            assert got.dtype == torch.float32
            assert error(got, kernel(model, x1, second, output=output)) < HALF
    parts = ntk.gram_by_parameter(model, x1)
    assert all(k.dtype == torch.float32 for k in parts.values())


@pytest.mark.parametrize("name", ROBUST)
def test_under_autocast(name):
    model, x1, x2 = zoo.draw(name, SEED, torch.float32)
    want = kernel(model, x1, x2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ntk.gram(model, x1, x2)
    assert got.dtype == torch.float32
    assert error(got, want) < HALF


def test_autocast_inside_the_model():
    net = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.net(x).float()

    model, x = Program(forward, net=net), torch.randn(5, 5)
    got = ntk.gram(model, x)
    assert got.dtype == torch.float32
    assert error(got, kernel(net, x)) < HALF


def test_inputs_of_another_precision_where_the_model_takes_them():
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    model, x = Program(lambda m, x: m.net(x.double()), net=net), torch.randn(5, 4)
    got = ntk.gram(model, x)
    assert got.dtype == torch.float64
    assert error(got, kernel(net, x)) < 1e-10
    free = Program(
        lambda m, x: torch.tanh(x * m.p), p=nn.Parameter(torch.randn(4, dtype=torch.float64))
    )
    assert error(ntk.gram(free, x, output="full"), kernel(free, x, output="full")) < 1e-10


def test_inputs_of_another_precision_where_the_model_does_not_take_them():
    with pytest.raises(RuntimeError, match="dtype"):
        ntk.gram(nn.Linear(4, 2).double(), torch.randn(5, 4))


def test_layers_in_unequal_precisions():
    torch.manual_seed(SEED)
    first, second = nn.Linear(4, 6), nn.Linear(6, 2).double()
    model = Program(lambda m, x: m.b(torch.tanh(m.a(x)).double()), a=first, b=second)
    x1, x2 = torch.randn(5, 4), torch.randn(3, 4)

    # The reference runs in float64 alone, where `.double()` changes nothing.
    got = ntk.gram(model, x1, x2)
    assert got.dtype == torch.float64
    assert error(got, kernel(model, x1, x2)) < 2e-5


COMPILED = [
    "mlp",
    "samples and positions merged",
    "transformer block",
    "free parameters",
    "matrix in, transpose out",
    "siamese, two inputs",
    "inputs by name",
]


@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called before"])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_models(name, called):
    model, x1, x2 = zoo.draw(name, SEED)
    compiled: Any = torch.compile(model, backend="eager")
    if called:
        compiled(**x1) if isinstance(x1, dict) else compiled(
            *(x1 if isinstance(x1, tuple) else (x1,))
        )
    want = kernel(model, x1, x2, output="full")
    assert error(ntk.gram(compiled, x1, x2, output="full"), want) < 1e-10
    assert list(ntk.gram_by_parameter(compiled, x1)) == [n for n, _ in model.named_parameters()]


def test_model_with_a_compiled_part():
    torch.manual_seed(SEED)
    plain = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    first: Any = torch.compile(plain[0], backend="eager")
    model = nn.Sequential(first, *plain[1:])
    x = torch.randn(5, 4, dtype=torch.float64)
    for _ in range(2):
        assert error(ntk.gram(model, x), kernel(plain, x)) < 1e-10
        model(x)


def test_cast_keeps_complex_numbers():
    """The casts that these tests rest on."""
    model, x, _ = zoo.draw("complex filter in Fourier space", SEED, torch.float32)
    wide = cast(model, torch.float64)
    assert wide.get_parameter("filter").dtype == torch.complex128
    assert wide(x.double()).dtype == torch.float64
    assert torch.equal(
        wide.get_parameter("filter").imag.float(), model.get_parameter("filter").imag
    )


def test_switches_of_tensorfloat_are_off_for_the_kernel_and_come_back() -> None:
    seen = []
    cudnn: Any = torch.backends.cudnn

    class Looks(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            seen.append((cudnn.allow_tf32, torch.get_float32_matmul_precision()))
            return super().forward(input)

    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    torch.set_float32_matmul_precision("medium")
    try:
        ntk.gram(Looks(3, 2), torch.randn(4, 3))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen and set(seen) == {(False, "highest")}
    assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == before
