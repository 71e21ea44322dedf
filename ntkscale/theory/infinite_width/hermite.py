"""Gaussian expectations of any nonlinearity, by its Hermite series (Mehler's formula).

With a_n(s) = E phi(s z) he_n(z), he_n the normalised Hermite polynomials, z ~ N(0, 1),

    E phi(u) phi(v) = sum_n a_n(s_u) a_n(s_v) rho^n,    rho = E uv / (s_u s_v),

a polynomial in rho: smooth where two inputs meet, which two-dimensional quadrature is not. The same
holds for phi'. What the series leaves out is at most sum_(n>K) a_n^2 = E phi^2 - sum_(n<=K) a_n^2,
for every pair by Cauchy and Schwarz, so its error is known. Poles of phi at distance d of the real
line make a_n fall as exp(-d sqrt(2 n) / s): see the README for how many terms tanh takes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise

MOST_TERMS = 1024
_ENOUGH = 1e-14
_REACH = 13.0  # exp(-13^2 / 4) < 1e-18
_STEP = 1 / 64
_AT_ONCE = 2**12  # variances at once: each takes 1,664 nodes


class HermiteSeries:
    """Expectations of phi phi and phi' phi' by series, of at most 1,024 terms.

    The a_n are integrals by the midpoint rule, which converges geometrically for smooth phi and
    keeps a kink at zero between two nodes.

    Args:
        phi: the nonlinearity.
    """

    def __init__(self, phi: Activation) -> None:
        self._functions = (phi.function, phi.first)
        self._nodes = torch.arange(-_REACH + _STEP / 2, _REACH, _STEP, dtype=torch.float64)
        # An odd or even function has every other coefficient zero: these are left out.
        self._parities = [_parity(function, self._nodes) for function in self._functions]

    def table(self, variance: Float[Tensor, "..."]) -> tuple[Float[Tensor, "k ..."], float]:
        """What `pair` needs to know of each sample, and the relative error of the series.

        The first row is the variance, then follow the coefficients of phi and as many of phi'.
        """
        basis = self._basis(self._terms(variance), variance.device)
        parts, errors = [], [1e-15]  # below, the differences are rounding
        for some in variance.flatten().split(_AT_ONCE):
            rows = [some[None]]
            for function, (start, step) in zip(self._functions, self._parities, strict=True):
                values, weights = self._values(function, some)
                rows.append(basis[start::step] @ values.mT)
                with torch.no_grad():
                    moment = values.square() @ weights
                    left = moment - rows[-1].square().sum(0)
                    errors.append(float((left / moment.clamp_min(1e-300)).max()))
            parts.append(torch.cat(rows))
        return torch.cat(parts, dim=1).unflatten(1, variance.shape), max(errors)

    def pair(
        self,
        covariance: Float[Tensor, "..."],
        first: Float[Tensor, "k ..."],
        second: Float[Tensor, "k ..."],
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E phi(u) phi(v) and E phi'(u) phi'(v) from E uv and the tables of u and of v."""
        product = first[0] * second[0]
        positive = product > 0
        rho = covariance * torch.where(positive, product, 1.0).rsqrt() * positive
        (_, step), (_, other) = self._parities
        split = 1 + (len(first) - 1) * other // (step + other)
        ranges = (slice(1, split), slice(split, None))
        value, slope = (
            _power_series(rho, first[rows], second[rows], *parity)
            for rows, parity in zip(ranges, self._parities, strict=True)
        )
        return value, slope

    def single(
        self, variance: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E phi(u)^2 and E phi'(u)^2, by quadrature."""
        moments = []
        for function in self._functions:
            parts = []
            for some in variance.flatten().split(_AT_ONCE):
                values, weights = self._values(function, some)
                parts.append(values.square() @ weights)
            moments.append(torch.cat(parts).reshape(variance.shape))
        return moments[0], moments[1]

    def _values(self, function: Pointwise, variance: Tensor) -> tuple[Tensor, Tensor]:
        """phi(s z) (..., Q) at the nodes, and the weights (Q,) of an expectation."""
        nodes = self._nodes.to(variance.device)
        positive = variance > 0
        deviation = torch.where(positive, variance, 1.0).sqrt() * positive
        weights = torch.exp(-nodes.square() / 2) * (_STEP / math.sqrt(2 * math.pi))
        return function(deviation[..., None] * nodes), weights

    def _basis(self, terms: int, device: torch.device) -> Float[Tensor, "terms Q"]:
        """he_n(z) times the weights."""
        z = self._nodes.to(device)
        # Half of the Gaussian goes into the recursion, which then neither overflows nor underflows
        # where it matters.
        half = torch.exp(-z.square() / 4)
        rows = [half, z * half]
        for n in range(1, terms - 1):
            rows.append((z * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
        return torch.stack(rows[:terms]) * half * (_STEP / math.sqrt(2 * math.pi))

    def _terms(self, variance: Tensor) -> int:
        """An even number of terms that leaves 1e-14 at the smallest and the largest variance."""
        with torch.no_grad():
            ends = torch.stack((variance.min(), variance.max()))
            needed = 2
            for function in self._functions:
                values, weights = self._values(function, ends)
                squares = (values @ self._basis(MOST_TERMS, ends.device).T).square()
                moment = (values.square() * weights).sum(-1, keepdim=True).clamp_min(1e-300)
                beyond = squares.flip(1).cumsum(1).flip(1) / moment
                needed = max(needed, int((beyond > _ENOUGH).sum(1).max()))
        return min(needed + needed % 2, MOST_TERMS)


def _parity(function: Pointwise, nodes: Tensor) -> tuple[int, int]:
    """First coefficient that may differ from zero, and the step from one to the next."""
    with torch.no_grad():
        values, mirrored = function(nodes), function(-nodes)
    if torch.equal(values, -mirrored):
        return 1, 2
    return (0, 2) if torch.equal(values, mirrored) else (0, 1)


def _power_series(rho: Tensor, first: Tensor, second: Tensor, start: int, step: int) -> Tensor:
    """sum_n a_n b_n rho^n over n = start, start + step, ... by Horner's rule."""
    x = rho if step == 1 else rho.square()
    total = torch.zeros_like(rho)
    in_place = not any(part.requires_grad for part in (rho, first, second))
    for a, b in zip(first.flip(0), second.flip(0), strict=True):
        if in_place:
            total.mul_(x).addcmul_(a, b)
        else:
            total = torch.addcmul(total * x, a, b)
    return total * rho if start == 1 else total
