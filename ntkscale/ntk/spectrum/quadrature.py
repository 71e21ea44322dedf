"""Gauss quadratures of what given vectors see of a symmetric matrix's spectrum, by Lanczos."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.spectrum.krylov import Matmat, multiplied

BREAKDOWN = 1e-12
"""A Lanczos vector this small relative to the matrix is rounding: the start vector saw no more."""


def quadrature(
    matmat: Matmat,
    start: Float[Tensor, "n p"],
    taken: Float[Tensor, "n k"],
    steps: int,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Float[Tensor, "p m"], Float[Tensor, "p m"]]:
    """Nodes and weights for which sum_j w_j f(node_j) = u . f(K) u, u the unit start vector.

    Exact for polynomials f of degree up to 2 steps - 1.

    Args:
        matmat: the product with a block of columns.
        start: the vectors, of any length but zero.
        taken: orthonormal vectors that are projected out of the matrix and of the start vectors.
        steps: nodes m of each; at most n - k.
        progress: called with the products done and their total.

    Returns:
        Nodes, decreasing, and weights, which sum to one for each vector.

    Cost: `p steps` products, memory n p steps, 4 n p steps^2 multiply-adds: every vector is
    orthogonalised against all before it, since rounding would otherwise repeat large nodes.

    Source: Golub and Welsch 1969, "Calculation of Gauss quadrature rules".

    Raises:
        ValueError: a product that is not finite.
    """
    n, probes = start.shape
    basis = start.new_empty(probes, steps, n)
    diagonal, beside = start.new_zeros(probes, steps), start.new_zeros(probes, steps)
    generator = torch.Generator().manual_seed(n)
    size = start.new_zeros(probes)

    def outside(v: Tensor, step: int) -> Tensor:
        done = basis[:, :step]
        for _ in range(2):
            v = v - taken @ (taken.T @ v)
            v = v - ((v.T[:, None] @ done.mT) @ done)[:, 0].T
        return v

    v = _unit(outside(start, 0))
    for step in range(steps):
        basis[:, step] = v.T
        image = multiplied(matmat, v)
        diagonal[:, step] = (v * image).sum(0)
        size = torch.maximum(size, torch.linalg.vector_norm(image, dim=0))
        if progress is not None:
            progress((step + 1) * probes, steps * probes)
        if step + 1 == steps:
            break
        v = outside(image, step + 1)
        norms = torch.linalg.vector_norm(v, dim=0)
        over = norms <= BREAKDOWN * size
        beside[:, step] = torch.where(over, 0, norms)
        if bool(over.any()):
            # A vector without weight keeps this recursion in step with the others.
            fresh = torch.randn(n, probes, generator=generator, dtype=torch.float64).to(v)
            v = torch.where(over, outside(fresh, step + 1), v)
        v = _unit(outside(_unit(v), step + 1))
    corner = torch.diag_embed(beside[:, :-1], 1)
    nodes, vectors = torch.linalg.eigh(torch.diag_embed(diagonal) + corner + corner.mT)
    return nodes.flip(1), vectors[:, 0].square().flip(1)


def _unit(v: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    return v / torch.linalg.vector_norm(v, dim=0)
