"""`gram` against a float64 loop of autograd, on every model of the zoo.

Errors are counted relative to the largest entry of the reference kernel: 1e-10 in float64, 2e-5 in
float32. Seeds are fresh in every run; `pytest` prints the one that failed, and
`ZOO_SEED=<seed> pytest ...` brings it back.
"""

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkscale import ntk

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ntk import zoo
from tests.reference.ntk import cast, count, each, jacobian_rows, joined, of_output

FRESH = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
SEED = int(os.environ.get("ZOO_SEED", FRESH))
RELATIVE = {torch.float64: 1e-10, torch.float32: 2e-5}


@dataclass(frozen=True)
class Drawn:
    """A model, two sets of inputs, and the gradients of all their outputs."""

    model: nn.Module
    x1: Any
    x2: Any

    @cached_property
    def rows(self) -> dict[str, Tensor]:
        return jacobian_rows(self.model, joined(self.x1, self.x2))

    def by_parameter(self, second: bool, output: str | int = "trace") -> dict[str, Tensor]:
        n = count(self.x1)
        return {
            name: of_output(
                torch.einsum("acw,bdw->abcd", r[:n], r[n:] if second else r[:n]), output
            )
            for name, r in self.rows.items()
        }

    def kernel(self, second: bool, output: str | int) -> Tensor:
        return torch.stack(list(self.by_parameter(second, output).values())).sum(0)

    @property
    def outputs(self) -> int:
        return next(iter(self.rows.values())).shape[1]


def assert_near(got: Tensor, want: Tensor, relative: float, scale: Tensor | None = None) -> None:
    assert got.shape == want.shape
    error = (got.detach().double() - want).abs().max()
    largest = want.abs().max() if scale is None else scale
    assert error <= relative * largest, f"{float(error / largest):.1e} of the largest entry"
    assert not got.requires_grad, "the kernel holds an autograd graph"


@pytest.fixture(scope="module", params=zoo.MODELS)
def case(request) -> Drawn:
    """In module scope: the tests of one model follow each other, and share its reference."""
    return Drawn(*zoo.draw(request.param, SEED))


@pytest.fixture(autouse=True)
def seed_is_printed():
    print(f"ZOO_SEED={SEED}")


@pytest.mark.parametrize("dtype", RELATIVE, ids=["float64", "float32"])
@pytest.mark.parametrize("second", [False, True], ids=["x1", "x1 and x2"])
def test_every_output_agrees_with_autograd(case, second, dtype):
    model, x1 = cast(case.model, dtype), cast(case.x1, dtype)
    x2 = cast(case.x2, dtype) if second else None
    outputs = ["trace", "diagonal", "full", SEED % case.outputs]
    if dtype == torch.float32:  # Half of them on each side: this takes most of the time.
        outputs = outputs[::2] if second else outputs[1::2]
    for output in outputs:
        want = case.kernel(second, output)
        got = ntk.gram(model, x1, x2, output=output)
        # One output may be a hundred times smaller than the others, and rounded as they are.
        scale = case.kernel(second, "full").abs().max() if isinstance(output, int) else None
        assert got.dtype == dtype
        assert_near(got, want, RELATIVE[dtype], scale)
        if not second and got.ndim == 2:
            assert torch.equal(got, got.T)


@pytest.mark.parametrize("second", [False, True], ids=["x1", "x1 and x2"])
def test_kernel_of_each_parameter(case, second):
    got = ntk.gram_by_parameter(case.model, case.x1, case.x2 if second else None)
    want = case.by_parameter(second)
    assert list(got) == list(want)
    scale = case.kernel(second, "trace").abs().max()
    for name, kernel in want.items():
        # A parameter's kernel may be small beside the others', or nothing at all.
        own = kernel.abs().max()
        assert_near(got[name], kernel, 1e-10, own if own > 1e-3 * scale else scale)


def test_some_parameters_alone(case):
    kernels = case.by_parameter(True)
    names = [name for i, name in enumerate(kernels) if (SEED + i) % 2] or list(kernels)
    scale = torch.stack(list(kernels.values())).sum(0).abs().max()
    for chosen in (names, names[:1]):
        want = torch.stack([kernels[name] for name in chosen]).sum(0)
        got = ntk.gram(case.model, case.x1, case.x2, params=chosen)
        assert_near(got, want, 1e-10, scale)


def test_one_sample_and_no_memory_to_spare(case):
    one = each(lambda t: t[:1], case.x1)
    got = ntk.gram(case.model, one, case.x2, output="full", memory=1)
    assert_near(got, case.kernel(True, "full")[:1], 1e-10)


def test_model_is_left_as_it_was(case):
    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    flags = [(m.training, len(m._forward_hooks)) for m in case.model.modules()]
    trainable = [p.requires_grad for p in case.model.parameters()]
    torch.manual_seed(SEED)
    state = torch.get_rng_state()
    ntk.gram(case.model, case.x1, case.x2)
    assert torch.equal(state, torch.get_rng_state())
    assert flags == [(m.training, len(m._forward_hooks)) for m in case.model.modules()]
    assert trainable == [p.requires_grad for p in case.model.parameters()]
    assert all(p.grad is None for p in case.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())


@pytest.mark.parametrize("dtype", RELATIVE, ids=["float64", "float32"])
@pytest.mark.parametrize("name", zoo.REFUSED)
def test_forwards_without_a_kernel_are_refused(name, dtype):
    model, x1, x2 = zoo.draw(name, SEED, dtype)
    for second in (None, x2):
        with pytest.raises(ValueError, match=r"\bbatch\b|\brandom\b") as caught:
            ntk.gram(model, x1, second)
        assert "\n" not in str(caught.value)
