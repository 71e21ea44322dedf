"""The dual certificate: eta(w) = -(2 / lambda) E (f - y) phi_(>=2)(w.x) on the sphere (D.4).

Student and lambda are optimal exactly if |eta| <= 1 everywhere and eta = sign(a_j) at every neuron.
Where |eta| stays away from 1 between the teacher's directions, no mass can be.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.local_analysis.population import Population

GRID = 20_000
"""Directions of the teacher's subspace that are looked at."""

STARTS, ASCENT = 400, 300
"""Random directions of the whole space from which |eta| is climbed, and steps."""


@dataclass(frozen=True)
class Certificate:
    """eta over the sphere.

    Attributes:
        largest: max |eta| found, over grid, climbs and neurons.
        on_grid: on the grid of the teacher's subspace.
        climbed: from starts in the whole space.
        support: mean of eta sign(a_j) over the neurons, weighted by their mass: 1 at the optimum;
            lambda * mass * (1 - support) is what complementarity leaves open.
    """

    largest: float
    on_grid: float
    climbed: float
    support: float


def dual(
    population: Population,
    a: Float[Tensor, "m"],
    W: Float[Tensor, "m d"],
    lam: float,
    w: Float[Tensor, "n d"],
) -> Float[Tensor, "n"]:
    """eta at unit directions w."""
    return -2 / lam * population.residual(a, W, w)


def great_circle(
    population: Population, first: int, second: int, count: int = 721
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n d"]]:
    """Degrees from one teacher direction through another all the way round, and directions.

    Raises:
        ValueError: a teacher of a single direction.
    """
    own = population.teacher.directions
    if len(own) < 2:
        raise ValueError("a great circle needs two teacher directions; this teacher has one.")
    aside = own[second] - (own[first] @ own[second]) * own[first]
    aside = aside / aside.norm()
    turn = torch.linspace(0, 2 * math.pi, count, dtype=own.dtype, device=own.device)
    return torch.rad2deg(turn), turn.cos()[:, None] * own[first] + turn.sin()[:, None] * aside


def certify(
    population: Population,
    a: Float[Tensor, "m"],
    W: Float[Tensor, "m d"],
    lam: float,
    seed: int = 0,
) -> Certificate:
    """The largest |eta| on the sphere.

    Over a grid of the teacher's subspace (on which eta only depends if all mass is there: it is
    evenly spread in three dimensions, random beyond) and by projected ascent from random
    directions of the whole space, every neuron and every teacher direction.

    Args:
        population: exact loss.
        a: read-out at the end of a phase.
        W: its directions.
        lam: lambda of the phase, above 0.
        seed: of the random directions.
    """
    teacher = population.teacher
    generator = torch.Generator().manual_seed(seed)
    masses = a.abs() * W.norm(dim=-1)
    seen = masses > 1e-12 * masses.sum()  # the others change eta by less than that
    a, W, masses = a[seen], W[seen], masses[seen]
    neurons = W / W.norm(dim=-1, keepdim=True)

    def look(w: Tensor) -> Tensor:
        return torch.cat([dual(population, a, W, lam, part) for part in w.split(2048)])

    grid = _sphere(teacher.basis.shape[1], generator).to(W) @ teacher.basis.T
    on_grid = float(look(grid).abs().max())
    random = torch.randn(STARTS, W.shape[1], generator=generator, dtype=W.dtype).to(W.device)
    starts = torch.cat((random / random.norm(dim=1, keepdim=True), neurons, teacher.directions))
    climbed = float(_climb(population, a, W, lam, starts))
    support = float((look(neurons) * a.sign() * masses).sum() / masses.sum())
    return Certificate(max(on_grid, climbed), on_grid, climbed, support)


def _climb(population: Population, a: Tensor, W: Tensor, lam: float, w: Tensor) -> Tensor:
    """max |eta| after projected ascent: each step is as long as it still improves."""
    length = w.new_full((len(w), 1), 0.3)
    with torch.enable_grad():
        w = w.detach().requires_grad_()
        height = dual(population, a, W, lam, w).abs()
        for _ in range(ASCENT):
            (slope,) = torch.autograd.grad(height.sum(), w)
            along = slope - (slope * w).sum(1, keepdim=True) * w
            along = along / along.norm(dim=1, keepdim=True).clamp_min(1e-30)
            tried = (w + length * along).detach()
            tried = (tried / tried.norm(dim=1, keepdim=True)).requires_grad_()
            reached = dual(population, a, W, lam, tried).abs()
            better = (reached > height)[:, None]
            length = torch.where(better, 1.2 * length, 0.5 * length)
            w = torch.where(better, tried, w).detach().requires_grad_()
            height = dual(population, a, W, lam, w).abs()
            if float(length.max()) < 1e-9:
                break
    return height.max().detach()


def _sphere(dimension: int, generator: torch.Generator) -> Float[Tensor, "n r"]:
    if dimension == 1:
        return torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    if dimension == 2:
        turn = torch.linspace(0, 2 * math.pi, GRID, dtype=torch.float64)
        return torch.stack((turn.cos(), turn.sin()), 1)
    if dimension == 3:  # Fibonacci's spiral
        index = torch.arange(GRID, dtype=torch.float64) + 0.5
        height, turn = 1 - 2 * index / GRID, math.pi * (1 + math.sqrt(5)) * index
        radius = (1 - height.square()).sqrt()
        return torch.stack((radius * turn.cos(), radius * turn.sin(), height), 1)
    draw = torch.randn(GRID, dimension, generator=generator, dtype=torch.float64)
    return draw / draw.norm(dim=1, keepdim=True)
