"""The largest eigenvalues of a symmetric matrix that is known by its products alone.

Block Lanczos with full reorthogonalisation. Products are all that costs, so the rest is done the
careful way: basis and images are kept in float64, the projected matrix in full, and residuals are
computed from the images, which needs no further product. What an inexact product puts into an image
is then part of the residual.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ntkscale.ntk.spectrum.eigen import fix_signs
from ntkscale.ntk.spectrum.krylov import Matmat, Space, multiplied

MISSED = 1.25
"""A second look is for eigenvalues that are missed and exceed the k-th by this factor."""

SEEN = 100
"""How far such an eigenvector outgrows the rest of a random vector before a look is over."""

LONGEST = 12
"""Block products of a look at most."""


@dataclass(frozen=True)
class EigenPairs:
    """The k largest eigenvalues, largest first, and what is known about their error.

    An eigenvalue of the matrix lies within `residuals[i] * values[0]` of `values[i]`; away from its
    neighbours it lies much closer, at the residual's square over the gap.

    Attributes:
        values: eigenvalues.
        vectors: unit eigenvectors in the columns; the entry of largest modulus is positive.
        residuals: |K u - lambda u| / |lambda_1|.
        own_residuals: |K u - lambda u| / |lambda|; infinite where a zero eigenvalue has a residual.
        converged: whether `own_residuals` is within the tolerance, or the eigenvalue and its
            residual are zero to the products' rounding.
        iterations: block products.
        restarts: how often the basis was cut down to stay within memory.
        products: products with single vectors.
        passes: VJPs over all samples that these took, and as many JVPs; 0 for a plain matrix.
    """

    values: Float[Tensor, "k"]
    vectors: Float[Tensor, "n k"]
    residuals: Float[Tensor, "k"]
    own_residuals: Float[Tensor, "k"]
    converged: Bool[Tensor, "k"]
    iterations: int
    restarts: int
    products: int
    passes: int = 0


def largest_eigenvalues(
    matmat: Matmat,
    n: int,
    k: int,
    *,
    tolerance: float = 1e-4,
    block: int = 2,
    most: int | None = None,
    memory: int = 1 << 30,
    precision: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> EigenPairs:
    """The k largest eigenvalues and eigenvectors of a positive semi-definite matrix.

    A block of b vectors sees at most b copies of a repeated eigenvalue, so a search that has
    converged is followed by a short one from fresh random vectors, and by a wider one if that finds
    anything. This takes about 3 b products where eigenvalues fall off, up to 12 b where they do
    not, and makes it unlikely, not impossible, that an eigenvalue above the k-th is missed.

    Args:
        matmat: the product with a block of columns.
        n: size of the matrix.
        k: how many eigenpairs.
        tolerance: largest residual |K u - lambda u| of a pair relative to its own eigenvalue.
            Relative to lambda_1 it would say nothing: residuals of 1e-4 lambda_1 are compatible
            with small eigenvalues that are wrong by all of their size.
        block: vectors multiplied together.
        most: stop after about so many products, converged or not; None is 20 k + 500.
        memory: budget in bytes for basis and images, 16 n bytes a vector in float64. It is exceeded
            where it holds fewer than k + 8 block vectors, and by the vectors of the second look. A
            smaller basis means restarts, which cost a few products.
        precision: what the products are accurate to. Eigenvalues below a hundred of its roundings
            of lambda_1 count as zero.
        device: where the matrix lives.
        dtype: what the iteration runs in.
        seed: of the random vectors; the global random state is not used.
        progress: called with the number of pairs that have converged, and k.

    Returns:
        Eigenpairs in `dtype`; see :class:`EigenPairs`. Equal calls give equal bits.

    Cost: products. Measured on the kernel of a ReLU network on 10,000 samples, where lambda_50 is
    lambda_1 / 4577, for k = 50 at 1e-4, all included: 132 with block = 1, 150 with 2, 176 with 4,
    224 with 8 (LOBPCG was not there after 1,150). A network differentiates two vectors together for
    0.84 of the price and four for 0.75, so two is the default. Beside the products, about 10 n m^2
    multiply-adds for m of them.

    Source: Golub and Underwood 1977, "The block Lanczos method for computing eigenvalues"; restarts
    as Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems".

    Raises:
        ValueError: an argument out of range, or a product that is not finite.
    """
    most = 20 * k + 500 if most is None else most
    _check(n, k, block, tolerance, most)
    capacity = min(n, max(memory // (2 * n * dtype.itemsize), k + 8 * block))
    space = Space(n, device, dtype, seed)
    search = _Search(space, matmat, k, tolerance, precision, capacity)
    x = space.directions(space.random(block))
    due, looks = k, 0
    while True:
        x = search.filled(search.step(x), block)
        over = x.shape[0] == 0 or search.products >= most
        if search.products < due and not over:
            continue
        found = search.pairs(x)
        if progress is not None:
            progress(int(found.done[:k].sum()), k)
        if over:
            return search.result(found)
        if found.complete(k) and not (looks and found.rising(k)):
            x, looks, before = search.second_look(x, block, found), looks + 1, found
            found = search.pairs(x)
            new = found.exceeds(before, k, tolerance) or found.rising(k)
            if (found.complete(k) and not new) or x.shape[0] == 0:
                return search.result(found)
        # Looking costs what a small product costs; for a large basis it is done less often.
        due = search.products + max(1, (space.size - 300) // 20)


@dataclass(frozen=True)
class _Found:
    """Ritz pairs, largest first.

    Attributes:
        values: Ritz values.
        coefficients: Ritz vectors in the basis, in the columns.
        open: norm of what the matrix takes each vector to outside the basis.
        done: further products would not change the pair by more than the tolerance.
        zero: eigenvalues up to here are rounding.
    """

    values: Float[Tensor, "m"]
    coefficients: Float[Tensor, "m m"]
    open: Float[Tensor, "m"]
    done: Bool[Tensor, "m"]
    zero: float

    def complete(self, k: int) -> bool:
        return bool(self.done[:k].all())

    def exceeds(self, before: "_Found", k: int, tolerance: float) -> bool:
        """Whether one of the first k is a new one: refining an old one moves it by less."""
        least = before.values[:k] * (1 + tolerance) + self.zero
        return bool((self.values[:k] > least).any())

    def rising(self, k: int) -> bool:
        """Whether a pair behind the first k may yet turn out to belong among them."""
        reach = (self.values + self.open)[k:][~self.done[k:]]
        return bool((reach > max(float(self.values[k - 1]), self.zero)).any())


class _Search:
    """The iteration's state: the space, and what has been spent."""

    def __init__(
        self,
        space: Space,
        matmat: Matmat,
        k: int,
        tolerance: float,
        precision: torch.dtype,
        capacity: int,
    ):
        self.space, self.matmat, self.k, self.tolerance = space, matmat, k, tolerance
        self.rounding = 100 * torch.finfo(precision).eps
        self.capacity = capacity
        self.scale = 0.0
        self.products = self.iterations = self.restarts = 0

    def step(self, x: Float[Tensor, "b n"], *, restart: bool = True) -> Float[Tensor, "d n"]:
        """Multiply directions, take them in, and return those that their images point to."""
        if restart and self.space.size + x.shape[0] > self.capacity:
            values, coefficients = self.space.ritz()
            keep = self.k + (self.capacity - self.k) // 2
            self.space.compress(values[:keep], coefficients[:, :keep])
            self.restarts += 1
        images = multiplied(self.matmat, x.T).T
        self.products += x.shape[0]
        self.iterations += 1
        self.space.add(x, images)
        self.scale = max(self.scale, float(torch.linalg.vector_norm(images, dim=1).max()))
        return self.space.directions(images, scale=self.scale)

    def filled(self, x: Float[Tensor, "d n"], block: int) -> Float[Tensor, "b n"]:
        """Random directions beside those there are, up to a block of them; none in a full space."""
        if x.shape[0] >= block:
            return x
        # The vectors so far are closed under the matrix: its other eigenvectors need new ones.
        fresh = self.space.random(block - x.shape[0])
        return torch.cat([x, self.space.directions(fresh, beside=x)])

    def second_look(self, held: Float[Tensor, "h n"], block: int, found: _Found) -> Tensor:
        """Block products of fresh random vectors from outside the space.

        A random vector sees whatever eigenvectors the space has missed. Their part of it outgrows
        the rest as the Chebyshev polynomials do, which says when the look is over.

        Args:
            held: directions that the first search would take next.
            block: how many random vectors.
            found: what the first search has found.

        Returns:
            What is left of the held directions, and those that the new search would take next.
        """
        x = self.space.directions(self.space.random(block))
        first, steps = self.space.size, 0
        reach = MISSED * max(float(found.values[self.k - 1]), found.zero)
        while x.shape[0] and steps < LONGEST:
            x, steps = self.step(x, restart=False), steps + 1
            rest = self.space.largest_since(first)
            if rest <= 0 or rest > reach:
                break
            growth = math.acosh(max(1 + 1e-9, 2 * reach / rest - 1))
            if steps * growth >= math.log(2 * math.sqrt(SEEN * (self.space.n - first))):
                break
        held = self.space.directions(held)
        return self.filled(torch.cat([held, self.space.directions(x, beside=held)]), block)

    def pairs(self, pending: Float[Tensor, "p n"]) -> _Found:
        """Rayleigh-Ritz; `pending` holds everything that images have outside the space."""
        values, coefficients = self.space.ritz()
        opened = self.space.leaving(coefficients, pending)
        zero = self.rounding * float(values[0].abs())
        # A small Ritz value is a zero eigenvalue only once nothing larger is left outside.
        exhausted = bool((opened <= zero).all())
        done = opened <= self.tolerance * values
        done = torch.where(values > zero, done, torch.full_like(done, exhausted))
        return _Found(values, coefficients, opened, done, zero)

    def result(self, found: _Found) -> EigenPairs:
        k, space = self.k, self.space
        values, coefficients = found.values[:k], found.coefficients[:, :k]
        vectors = coefficients.T @ space.basis
        gaps = coefficients.T @ space.images - values[:, None] * vectors
        norms = torch.linalg.vector_norm(gaps, dim=1)
        first = float(values[0].abs())
        own = torch.where(norms > 0, norms / values.abs(), 0.0)
        flat = (values.abs() <= found.zero) & (norms <= found.zero)
        return EigenPairs(
            values=values,
            vectors=fix_signs(vectors.T.contiguous()),
            residuals=norms / first if first > 0 else norms,
            own_residuals=own,
            converged=(own <= self.tolerance) | flat,
            iterations=self.iterations,
            restarts=self.restarts,
            products=self.products,
        )


def _check(n: int, k: int, block: int, tolerance: float, most: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; a matrix of size {n} has between 1 and {n} eigenpairs.")
    if block < 1:
        raise ValueError(f"block is {block}; multiply at least one vector at a time.")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}; give a residual between 0 and 1.")
    if most < k:
        raise ValueError(f"most is {most} products; {k} eigenpairs need at least as many.")
