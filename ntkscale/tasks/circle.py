"""The circle: power-law Fourier targets whose hardness is known in closed form.

A network with the nonlinearity ReLU^p has kernel eigenvalues lambda_k ~ k^(-2p) on the circle, so a
target of coefficients k^-q has alpha = 2p and beta = (2q - 1) / (2p).
"""

import math
from typing import Literal

import torch
from scipy.special import zeta

from ntkscale.tasks.task import Task


def circle_beta(q: float, power: int = 1) -> float:
    """beta of the target sum_k k^-q cos(k theta) for ReLU^power networks, (2q - 1) / (2 power)."""
    return (2 * q - 1) / (2 * power)


def circle_q(beta: float, power: int = 1) -> float:
    """The q whose target has that beta for ReLU^power networks: beta power + 1/2."""
    return beta * power + 0.5


def circle(
    *,
    q: float,
    points: int = 256,
    modes: int | None = None,
    phases: Literal["aligned", "random"] = "aligned",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Task:
    """y = sum_{k=1}^{modes} k^-q cos(k theta + phase_k) on equispaced points of the unit circle.

    The sum is the resolved part of an infinite one; what is cut off has the power
    sum_{k > modes} k^(-2q) / 2, which is the task's `tail`.

    Args:
        q: decay of the Fourier coefficients, above 1/2 (finite power).
        points: P; inputs are (cos theta, sin theta), theta = 2 pi j / P.
        modes: highest frequency, at most and by default P // 2 - 1: higher ones alias.
        phases: ``"aligned"``, all zero, or ``"random"``, uniform on [0, 2 pi).
        seed: of the random phases.
        dtype: of inputs and targets, which are computed in float64.

    Raises:
        ValueError: for q <= 1/2, fewer than four points, or modes outside 1 ... P // 2 - 1.
    """
    if not (math.isfinite(q) and q > 0.5):
        raise ValueError(
            f"q must be above 1/2, got {q}: at or below it the target's power is infinite."
        )
    if points < 4:
        raise ValueError(f"points must be at least 4, got {points}: fewer resolve no mode.")
    resolved = points // 2 - 1
    modes = resolved if modes is None else modes
    if not 1 <= modes <= resolved:
        raise ValueError(
            f"modes must be from 1 to points // 2 - 1 = {resolved}, got {modes}: "
            "choose fewer modes or more points."
        )
    if phases == "aligned":
        phase = torch.zeros(modes, dtype=torch.float64)
    elif phases == "random":
        generator = torch.Generator().manual_seed(seed)
        phase = 2 * math.pi * torch.rand(modes, generator=generator, dtype=torch.float64)
    else:
        raise ValueError(f"unknown phases {phases!r}: choose aligned or random.")

    k = torch.arange(1, modes + 1, dtype=torch.float64)
    coefficients = torch.zeros(points // 2 + 1, dtype=torch.complex128)
    coefficients[1 : modes + 1] = torch.polar(k**-q * points / 2, phase)
    targets = torch.fft.irfft(coefficients, n=points)

    theta = torch.arange(points, dtype=torch.float64) * (2 * math.pi / points)
    inputs = torch.stack((theta.cos(), theta.sin()), dim=-1)
    return Task(
        name=f"circle, q = {q:g}",
        inputs=inputs.to(dtype),
        targets=targets[:, None].to(dtype),
        tail=float(zeta(2 * q, modes + 1)) / 2,
    )
