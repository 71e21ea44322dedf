"""How much of a student's mass lies along the teacher's directions (D.6)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.tail import Tail
from ntkscale.theory.local_analysis.teacher import Teacher

FAR = (5.0, 10.0, 20.0)
"""Degrees beyond which mass counts as far."""

LEAST = 1e-3
"""Of the teacher's mean mass: neurons below count for no largest angle."""


@dataclass(frozen=True)
class Features:
    """What one student has learned of the teacher.

    Attributes:
        mass: sum_j |a_j| |w_j|.
        far: share of it farther than each of `FAR` from the nearest teacher direction.
        weighted_angle: sum_j mass_j theta_j / sum mass, degrees.
        largest_angle: of neurons above `LEAST` of the teacher's mean mass, degrees; nan: none.
        group_error: max_i |sum_(j nearest i) a_j s_j w_j - a_i* w_i*|.
        capture: mass-weighted mean of |P w^_j|^2, P on the teacher's subspace.
        rows_capture: the same with all neurons alike.
    """

    mass: float
    far: tuple[float, ...]
    weighted_angle: float
    largest_angle: float
    group_error: float
    capture: float
    rows_capture: float


def angles(
    W: Float[Tensor, "m d"], teacher: Teacher, phi: Tail
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
    """Degrees to the nearest teacher direction, and which it is.

    Up to sign where the tail is even or odd, so that w and -w are the same neuron.
    """
    units = W / W.norm(dim=-1, keepdim=True)
    cosines = (units @ teacher.directions.T).clamp(-1, 1)
    closeness, nearest = (cosines.abs() if phi.symmetry else cosines).max(-1)
    # The sine of small angles, exact where the arccosine has lost half its digits.
    own = teacher.directions[nearest]
    signs = torch.where((units * own).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    chord = (units - (signs if phi.symmetry else 1.0) * own).norm(dim=-1)
    small = 2 * torch.asin((chord / 2).clamp(max=1))
    return torch.rad2deg(torch.where(closeness > 0.9, small, torch.acos(closeness))), nearest


def measure(
    a: Float[Tensor, "m"], W: Float[Tensor, "m d"], teacher: Teacher, phi: Tail
) -> Features:
    """All measures of one student."""
    masses = a.abs() * W.norm(dim=-1)
    total = masses.sum()
    theta, nearest = angles(W, teacher, phi)
    heavy = masses > LEAST * teacher.weights.abs().mean()
    pointing = W
    if phi.symmetry == 1:  # w and -w are one neuron; where the tail is odd, a changes sign with w
        signs = torch.where((W * teacher.directions[nearest]).sum(-1) < 0, -1.0, 1.0)
        pointing = W * signs[:, None]
    groups = torch.zeros_like(teacher.directions)
    groups.index_add_(0, nearest, a[:, None] * pointing)
    wanted = teacher.weights[:, None] * teacher.directions
    inside = (W @ teacher.basis).square().sum(-1) / W.square().sum(-1)
    return Features(
        mass=float(total),
        far=tuple(float(masses[theta > degrees].sum() / total) for degrees in FAR),
        weighted_angle=float((masses * theta).sum() / total),
        largest_angle=float(theta[heavy].max()) if bool(heavy.any()) else float("nan"),
        group_error=float((groups - wanted).norm(dim=1).max()),
        capture=float((masses * inside).sum() / total),
        rows_capture=float(inside.mean()),
    )
