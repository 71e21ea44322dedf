"""`gram` against a float64 loop of autograd, on modules drawn at random.

Errors are relative to the largest entry of the reference kernel. Seeds are fresh in every run; one
that fails is printed, with the layers of the shortest module it fails on.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ntkscale import ntk

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ntk import random_modules
from tests.reference.ntk import count, jacobian_rows, joined, of_output

SEED = int(np.random.SeedSequence().generate_state(1)[0]) % 2**30
SMALLEST = 1e-6
"""Of a kernel that is nothing but rounding, nothing is asked beyond that it is as small."""


def complaint(seed: int, layers: int | None = None) -> str | None:
    """What is wrong with the kernels of the module that the seed draws, if anything is."""
    model, x1, x2, story = random_modules.module(seed, layers)
    rows = jacobian_rows(model, joined(x1, x2))
    n = count(x1)
    where = f"random_modules.module({seed}, {layers}): {' - '.join(story)}"

    def wanted(second: bool) -> dict[str, Tensor]:
        return {
            name: torch.einsum("acw,bdw->abcd", r[:n], r[n:] if second else r[:n])
            for name, r in rows.items()
        }

    def off(got: Tensor, want: Tensor, scale: float) -> bool:
        return not (got.shape == want.shape and (got - want).abs().max() <= 1e-10 * scale)

    outputs = ("full", "diagonal", "trace", 0)
    scale = SMALLEST
    try:
        for second, output in [(True, "full"), (False, outputs[seed % 4])]:
            full = torch.stack(list(wanted(second).values())).sum(0)
            scale = max(float(full.abs().max()), SMALLEST)
            got = ntk.gram(model, x1, x2 if second else None, output=output)
            if off(got, of_output(full, output), scale):
                return f"wrong kernel, output={output!r}, {second=}; {where}"
        parts = {name: of_output(full, "trace") for name, full in wanted(False).items()}
        apart = ntk.gram_by_parameter(model, x1)
        if list(apart) != list(parts):
            return f"other parameters; {where}"
        bad = [name for name in parts if off(apart[name], parts[name], scale)]
        return f"wrong kernels of {bad}; {where}" if bad else None
    except Exception as error:
        return f"{type(error).__name__}: {error}; {where}"


def shortest_complaint(seed: int) -> str | None:
    found = complaint(seed)
    if found is None:
        return None
    for layers in range(7):
        if shorter := complaint(seed, layers):
            return f"{shorter}\n(at first: {found})"
    return found


@pytest.mark.parametrize("number", range(60))
def test_a_random_module(number):
    found = shortest_complaint(SEED + number)
    assert not found, found


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(16))
def test_a_hundred_random_modules(hundred):
    seeds = range(SEED + 1000 + 100 * hundred, SEED + 1100 + 100 * hundred)
    found = [text for seed in seeds if (text := shortest_complaint(seed))]
    assert not found, f"{len(found)} of {len(seeds)}:\n" + "\n".join(found)
