"""Initial parameters: Gaussian, and ring-stratified for two-layer networks on the circle.

Everything is drawn on the CPU in float64 from a generator of its own, so that a seed means the same
numbers on every device and in every dtype, and no global generator is touched.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import qmc
from torch import Tensor


@dataclass(frozen=True)
class Weight:
    """Name, shape and initial standard deviation of one parameter."""

    name: str
    shape: tuple[int, ...]
    deviation: float


def gaussian(weights: Sequence[Weight], seed: int) -> dict[str, Tensor]:
    """Independent Gaussian entries of zero mean, float64, one stream in the order given."""
    generator = torch.Generator().manual_seed(seed)
    return {
        weight.name: weight.deviation
        * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        for weight in weights
    }


def signed(initial: dict[str, Tensor], layer: int, *, paired: bool) -> dict[str, Tensor]:
    """The same with read-outs of their sign alone, at their root mean square over draws.

    Args:
        initial: what `gaussian` gave a fully connected network.
        layer: number of its last hidden layer.
        paired: its neurons come twice, first all, then all once more with the opposite read-out, so
            that the output is zero for every input.

    Raises:
        ValueError: an odd number of neurons to pair.
    """
    readout = initial["readout"].sign()
    width = readout.shape[1]
    if not paired:
        return {**initial, "readout": readout}
    if width % 2:
        raise ValueError(f"paired neurons need an even width, got {width}: choose {width + 1}.")
    half = width // 2
    names = (f"hidden{layer}", f"bias{layer}")
    twice = {
        name: initial[name][:half].repeat(2, *[1] * (initial[name].ndim - 1))
        for name in names
        if name in initial
    }
    return {**initial, **twice, "readout": torch.cat((readout[:, :half], -readout[:, :half]), 1)}


def ring_count(width: int, angles: int) -> int:
    """Number of rings that `width` neurons make, width / (2 angles).

    Raises:
        ValueError: if that is not a positive whole number.
    """
    if angles < 1:
        raise ValueError(f"angles must be at least 1, got {angles}: 128 is the usual choice.")
    if width % (2 * angles):
        nearest = max(1, round(width / (2 * angles))) * 2 * angles
        raise ValueError(
            f"ring initialisation needs a width divisible by 2 * angles = {2 * angles}, "
            f"got {width}: choose {nearest}, or another number of angles."
        )
    return width // (2 * angles)


def ring(
    width: int, angles: int, seed: int
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, " N"], Float[Tensor, "1 N"]]:
    """Ring-stratified weights, biases and read-out of a two-layer network on the circle.

    The Gaussian measure over (w, w', b, a) is replaced by width / (2 angles) rings. On a ring the
    directions of (w, w') are `angles` equispaced ones behind a random offset; bias (normal), radius
    (chi with two degrees of freedom) and |a| (half-normal, mean square one) are one quantile
    triple of a scrambled Sobol sequence; every neuron comes twice, with read-outs +|a| and -|a|, so
    the output is zero at initialisation. The kernel is then circulant up to the finite number of
    angles, and only the rings' biases, radii and read-outs are left to fluctuate.

    The mean square of |a| is made one over the rings of this very draw, not only in distribution:
    the part of the kernel that the first layer contributes is proportional to it, and one large
    quantile among few rings would shift every eigenvalue at once.

    Returns:
        float64 weights, biases and read-out, ordered ring by ring, each ring's positive copies
        before its negative ones.

    Raises:
        ValueError: if width is not a multiple of 2 * angles.
    """
    rings = ring_count(width, angles)
    # A whole power of two is drawn and cut: the sequence is balanced only there.
    sobol = qmc.Sobol(d=3, scramble=True, rng=np.random.default_rng(seed))
    quantiles = sobol.random_base2(math.ceil(math.log2(rings)))[:rings]
    quantiles = np.clip(quantiles, 1e-9, 1 - 1e-9)
    bias = torch.from_numpy(ndtri(quantiles[:, 0]))
    radius = torch.from_numpy(np.sqrt(-2 * np.log1p(-quantiles[:, 1])))
    readout = torch.from_numpy(ndtri((1 + quantiles[:, 2]) / 2))
    readout = readout / readout.square().mean().sqrt()

    generator = torch.Generator().manual_seed(seed)
    offset = torch.rand(rings, 1, generator=generator, dtype=torch.float64)
    theta = (torch.arange(angles, dtype=torch.float64) + offset) * (2 * math.pi / angles)
    directions = torch.stack((theta.cos(), theta.sin()), dim=-1)  # (rings, angles, 2)

    weights = (radius[:, None, None] * directions).repeat(1, 2, 1).reshape(width, 2)
    signed = torch.stack((readout, -readout), dim=1)  # (rings, 2)
    return (
        weights,
        bias.repeat_interleave(2 * angles),
        signed.reshape(-1).repeat_interleave(angles)[None],
    )
