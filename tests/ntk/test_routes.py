"""Which models rules suffice for. A wrong rule is found out and costs time, never the kernel."""

import pytest
import torch

from ntkscale import ntk
from tests.ntk.zoo import MODELS, draw

GENERIC = {
    "bilinear",
    "bilinear in one input",
    "complex filter in Fourier space",
    "complex layer",
    "distances to centres",
    "embedding bag, max",
    "embedding bag, mean",
    "embedding bag, weighted",
    "entries of a parameter by the input",
    "function of its own",
    "largest entries",
    "LSTM, two layers, both ways",
    "outputs without a parameter",
    "parameters chosen by a mask",
    "rows of a parameter by the input",
    "scatter by the input",
    "stacked members",
    "steps by the sample",
    "three experts, hard routing",
    "writes in place",
}
"""Models with a parameter that takes the generic route, some of them only for some inputs."""


@pytest.mark.parametrize("name", sorted(set(MODELS) - GENERIC))
def test_rules_cover_every_parameter(name: str) -> None:
    seed = int(torch.randint(2**31, ()))
    print(f"seed {seed}")
    refused: list[ValueError] = []
    for more in range(3):
        model, x, _ = draw(name, seed + more)
        try:
            ntk.gram(model, x, method="structured")
            return
        except ValueError as error:
            # Where ReLUs let nothing through, no probe tells which axis is the samples'.
            refused.append(error)
    raise refused[-1]
