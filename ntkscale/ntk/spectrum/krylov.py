"""A growing space of orthonormal vectors, their images under a matrix, and the matrix within it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Matmat = Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]]
"""The product of a fixed symmetric matrix with the columns of a block."""

NEGLIGIBLE = 1e-14
"""Part of a new vector, relative to the matrix, that is rounding of the projections before it."""


def multiplied(matmat: Matmat, block: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """The product with a block, in the block's dtype.

    Raises:
        ValueError: it holds a number that is not finite.
    """
    images = matmat(block).to(block)
    if not bool(torch.isfinite(images).all()):
        raise ValueError(
            "a product with the matrix holds nan or infinity; look for a diverged network before "
            "asking for its spectrum."
        )
    return images


class Space:
    """Rayleigh-Ritz over every vector a symmetric matrix has been multiplied with.

    Vectors are rows. Nothing is assumed of how they came about: the projected matrix is formed in
    full, so inexact products, fresh random vectors and restarts need no special case. Holds
    2 n m numbers for m vectors.

    Attributes:
        size: number of vectors m.
    """

    def __init__(self, n: int, device: torch.device | str, dtype: torch.dtype, seed: int):
        self.n, self.size = n, 0
        self._basis = torch.empty(0, n, dtype=dtype, device=device)
        self._images = torch.empty(0, n, dtype=dtype, device=device)
        self._projected = torch.empty(0, 0, dtype=dtype, device=device)
        # Drawn on the processor: equal seeds give equal vectors on every device.
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def basis(self) -> Float[Tensor, "m n"]:
        """The vectors."""
        return self._basis[: self.size]

    @property
    def images(self) -> Float[Tensor, "m n"]:
        """The matrix times the vectors."""
        return self._images[: self.size]

    def random(self, count: int) -> Float[Tensor, "count n"]:
        """Vectors of a random direction, not yet orthogonal to anything."""
        drawn = torch.randn(count, self.n, generator=self._generator, dtype=torch.float64)
        return drawn.to(self._basis)

    def directions(
        self, candidates: Float[Tensor, "c n"], beside: Tensor | None = None, scale: float = 0.0
    ) -> Float[Tensor, "d n"]:
        """Orthonormal vectors for what the candidates have outside the space and outside `beside`.

        Parts up to rounding of `scale` are left out, so d may be less than c, down to none.
        """
        known = [self.basis] if beside is None else [self.basis, beside]
        room = self.n - sum(part.shape[0] for part in known)
        if min(room, candidates.shape[0]) <= 0:
            return candidates[:0]
        rest = _outside(candidates, known)
        _, sizes, vectors = torch.linalg.svd(rest, full_matrices=False)
        vectors = vectors[sizes > NEGLIGIBLE * max(scale, float(sizes[0]))][:room]
        # A direction that was a small part of its candidate has kept much of the space.
        vectors = _outside(vectors, known)
        return torch.linalg.qr(vectors.T)[0].T.contiguous()

    def add(self, vectors: Float[Tensor, "b n"], images: Float[Tensor, "b n"]) -> None:
        """Take in directions of this space, with the matrix's products."""
        first, last = self.size, self.size + vectors.shape[0]
        if last > self._basis.shape[0]:
            self._grow(max(64, last, min(2 * self.size, self.n)))
        self._basis[first:last], self._images[first:last] = vectors, images
        self.size = last
        corner = self.basis @ images.T
        self._projected[:last, first:last] = corner
        self._projected[first:last, :last] = corner.T
        # The matrix is symmetric; what its products are not is rounding.
        self._projected[first:last, first:last] = (corner[first:] + corner[first:].T) / 2

    def ritz(self) -> tuple[Float[Tensor, "m"], Float[Tensor, "m m"]]:
        """Ritz values, largest first, and the Ritz vectors' coefficients in the columns."""
        values, vectors = torch.linalg.eigh(self._projected[: self.size, : self.size])
        return values.flip(0), vectors.flip(1)

    def largest_since(self, first: int) -> float:
        """Largest Ritz value of the vectors from the `first` on, by themselves."""
        part = self._projected[first : self.size, first : self.size]
        return float(torch.linalg.eigvalsh(part)[-1])

    def leaving(
        self, coefficients: Float[Tensor, "m j"], pending: Float[Tensor, "p n"]
    ) -> Float[Tensor, "j"]:
        """Norm of what the matrix takes Ritz vectors to outside the space.

        `pending` are directions that hold all of it: those that the last images gave.
        """
        return torch.linalg.vector_norm((pending @ self.images.T) @ coefficients, dim=0)

    def compress(self, values: Float[Tensor, "j"], coefficients: Float[Tensor, "m j"]) -> None:
        """Keep the space of some Ritz vectors alone. Costs no product."""
        kept = coefficients.shape[1]
        basis, images = coefficients.T @ self.basis, coefficients.T @ self.images
        self._basis[:kept], self._images[:kept] = basis, images
        self._projected[:kept, :kept] = torch.diag(values)
        self.size = kept

    def _grow(self, capacity: int) -> None:
        for name, width in (("_basis", self.n), ("_images", self.n), ("_projected", capacity)):
            old: Tensor = getattr(self, name)
            new = old.new_empty(capacity, width)
            new[: old.shape[0], : old.shape[1]] = old
            setattr(self, name, new)


def _outside(vectors: Tensor, known: list[Tensor]) -> Tensor:
    # Twice is enough (Giraud, Langou, Rozloznik 2005).
    for _ in range(2):
        for basis in known:
            vectors = vectors - (vectors @ basis.T) @ basis
    return vectors
