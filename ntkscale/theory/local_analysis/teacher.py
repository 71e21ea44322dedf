"""The teacher: neurons of given directions, no two of them close, and what theory asks of it.

f*(x) = sum_i a_i* phi(w_i*.x) with unit w_i*, any two of them (up to sign) at least an angle apart,
and H = sum_i a_i* w_i* w_i*^T of full rank on their span S* (Zhou & Ge 2024, section D.2 of the
specification).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.tail import Tail

TRIES = 20_000
"""Sets of directions that are drawn before it is given up."""

CLOSE = 20.0
"""Degrees below which directions count as too close; the theorem has some polynomial of 1 / angle
in its threshold, with no constant to compare with."""


@dataclass(frozen=True)
class Teacher:
    """Directions and weights, float64.

    Attributes:
        directions: (k, d), rows of length one.
        weights: (k,), a*.
    """

    directions: Float[Tensor, "k d"]
    weights: Float[Tensor, "k"]

    @property
    def cosines(self) -> Float[Tensor, "k k"]:
        """Of all pairs of directions."""
        return (self.directions @ self.directions.T).clamp(-1, 1)

    @property
    def least_angle(self) -> float:
        """Smallest angle of two directions up to sign, in degrees; 90 for a single one."""
        cosines = self.cosines.abs()
        cosines.fill_diagonal_(0.0)
        return math.degrees(math.acos(float(cosines.max())))

    @property
    def basis(self) -> Float[Tensor, "d r"]:
        """Orthonormal basis of the span S* of the directions, the first one along w_1*."""
        u, singular, _ = torch.linalg.svd(self.directions.T, full_matrices=False)
        span = u[:, singular > 1e-10 * singular[0]]
        first = self.directions[0]
        rest = span - first[:, None] * (first @ span)
        left, kept, _ = torch.linalg.svd(rest, full_matrices=False)
        return torch.cat((first[:, None], left[:, kept > 1e-8]), 1)

    @property
    def condition(self) -> float:
        """kappa: largest over smallest |eigenvalue| of H on S*; infinite where H is singular."""
        own = self.directions @ self.basis
        values = torch.linalg.eigvalsh(own.T @ (self.weights[:, None] * own)).abs()
        least = float(values.min())
        return float(values.max()) / least if least > 1e-12 else math.inf


def draw_teacher(
    dimension: int, count: int, least_angle: float, seed: int, *, span: int = 0
) -> Teacher:
    """Random directions with weights 1, drawn again until all are far enough apart.

    Args:
        dimension: d.
        count: number of neurons.
        least_angle: of two directions up to sign, in degrees, from 0 to below 90.
        seed: of the draw.
        span: dimension of the subspace they lie in; 0: as many as fit, min(count, d).

    Raises:
        ValueError: a number out of range, or no such set was found.
    """
    span = span or min(count, dimension)
    if not (count >= 1 and 1 <= span <= min(dimension, count) and 0 <= least_angle < 90):
        raise ValueError(
            f"a teacher of {count} neurons in {span} of {dimension} dimensions, {least_angle:g} "
            "degrees apart, cannot be: take 1 <= span <= min(count, dimension) and an angle below "
            "90."
        )
    generator = torch.Generator().manual_seed(seed)
    bound = math.cos(math.radians(least_angle))
    frame = torch.linalg.qr(
        torch.randn(dimension, span, generator=generator, dtype=torch.float64)
    ).Q
    for _ in range(TRIES):
        draw = torch.randn(count, span, generator=generator, dtype=torch.float64)
        directions = draw / draw.norm(dim=1, keepdim=True)
        cosines = (directions @ directions.T).abs().fill_diagonal_(0.0)
        if float(cosines.max()) <= bound:
            return Teacher(directions @ frame.T, torch.ones(count, dtype=torch.float64))
    raise ValueError(
        f"no {count} directions in {span} dimensions were found {least_angle:g} degrees apart: "
        "take fewer, or a smaller angle."
    )


def violated(teacher: Teacher, phi: Tail, width: int) -> list[str]:
    """What the theorem asks for and this teacher, nonlinearity or student does not give.

    Args:
        teacher: to be learned.
        phi: tail of the nonlinearity.
        width: neurons m of the student.

    Returns:
        Sentences, none if all is well.
    """
    said, count = [], len(teacher.weights)
    if teacher.least_angle < CLOSE:
        said.append(
            f"teacher directions come as close as {teacher.least_angle:.1f} degrees (under "
            f"{CLOSE:g}): the loss at which the local phase starts is too high to tell them "
            "apart."
        )
    if teacher.condition > 1e6:
        said.append(
            "H = sum a* w* w*^T is not of full rank on the teacher's subspace: one step does not "
            "find all of it."
        )
    if width < 4 * count:
        said.append(
            f"{width} neurons for {count} of the teacher: the theorem needs many for each (at "
            "least 4 here), or a teacher neuron may find none near it."
        )
    if phi.second == 0:
        said.append(
            f"{phi.name} has no second Hermite coefficient: one step from a symmetric start does "
            "not see H, only what is of higher order, which samples drown sooner."
        )
    if phi.name == "square":
        said.append(
            "square only has a second Hermite coefficient: the function is x^T H x, which does not "
            "determine the directions, so none can be captured unless they are orthogonal."
        )
    gram = phi.kappa(teacher.cosines)
    if float(torch.linalg.eigvalsh(gram).min()) <= 1e-10:
        said.append("the teacher's neurons are linearly dependent: its weights are not unique.")
    return said
