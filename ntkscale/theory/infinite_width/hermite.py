"""Gaussian expectations of any nonlinearity, by its Hermite series (Mehler's formula).

With a_n(s) = E phi(s z) he_n(z), he_n the normalised Hermite polynomials, z ~ N(0, 1),

    E phi(u) phi(v) = sum_n a_n(s_u) a_n(s_v) rho^n,    rho = E uv / (s_u s_v),

a polynomial in rho: smooth where two inputs meet, which two-dimensional quadrature is not. The same
holds for phi'. What the series leaves out is at most sum_(n>K) a_n^2 = E phi^2 - sum_(n<=K) a_n^2,
for every pair by Cauchy and Schwarz, so its error is known. Poles of phi at distance d of the real
line make a_n fall as exp(-d sqrt(2 n) / s): see the README for how many terms tanh takes.

A kink makes them fall as a power of n. A jump j of phi' at zero is that of j relu, whose series is
known in closed form: what the truncated series lacks of j^2 E relu relu is added exactly, and what
remains is left out by the smoother psi = phi - j relu alone (leaky ReLU: nothing).
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.infinite_width.arc_cosine import arc_cosine

MOST_TERMS = 1024
_ENOUGH = 1e-14
_ROUNDING = 1e-15
_PANELS, _PANEL, _ORDER = 26, 0.5, 32  # a side; exp(-13^2 / 4) < 1e-18
_AT_ONCE = 2**12  # variances at once: each takes 1,664 nodes


class HermiteSeries:
    """Expectations of phi phi and phi' phi' by series, of at most 1,024 terms.

    The a_n are integrals by Gauss-Legendre on panels that end at zero, exact to rounding for
    functions smooth on either side of it.

    Args:
        phi: the nonlinearity.
    """

    def __init__(self, phi: Activation) -> None:
        self._functions = (phi.function, phi.first)
        self._jump = sum(jump for position, jump in phi.kinks if position == 0)
        unit, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(_ORDER))
        edges = torch.arange(_PANELS, dtype=torch.float64)[:, None] * _PANEL
        right = (edges + _PANEL * (unit + 1) / 2).flatten()
        weights = (_PANEL / 2 * weights).repeat(_PANELS)
        self._nodes = torch.cat((-right.flip(0), right))
        self._lengths = torch.cat((weights.flip(0), weights)) / math.sqrt(2 * math.pi)
        # An odd or even function has every other coefficient zero: these are left out.
        self._parities = [_parity(function, self._nodes) for function in self._functions]

    def table(self, variance: Float[Tensor, "..."]) -> tuple[Float[Tensor, "k ..."], float]:
        """What `pair` needs to know of each sample, and the relative error of the series.

        The first row is the variance, then follow the coefficients of phi and as many of phi'.
        """
        terms = self._terms(variance)
        basis = self._basis(terms, variance.device)
        parts, errors = [], [_ROUNDING]
        for some in variance.flatten().split(_AT_ONCE):
            rows = [some[None]]
            for order, (start, step) in enumerate(self._parities):
                values, weights = self._values(order, some)
                rows.append(basis[start::step] @ values.mT)
                with torch.no_grad():
                    errors.append(self._left_out(order, values, weights, basis, some))
            parts.append(torch.cat(rows))
        return torch.cat(parts, dim=1).unflatten(1, variance.shape), max(errors)

    def _left_out(
        self, order: int, values: Tensor, weights: Tensor, basis: Tensor, variance: Tensor
    ) -> float:
        """The largest relative error of E phi phi (order 0) or E phi' phi' (order 1)."""
        moment = (values.square() @ weights).clamp_min(1e-300)
        kink = self._kink(order, variance)
        smooth = values - kink
        squares = smooth.square() @ weights
        left = squares - (basis @ smooth.mT).square().sum(0)
        # Below rounding the difference says nothing, and `_terms` has seen to it.
        left = torch.where(left > _ROUNDING * squares, left, 0.0)
        if self._jump:
            # psi psi' + j psi relu' + j relu psi' for psi = phi - j relu.
            of_kink = kink.square() @ weights - (basis @ kink.mT).square().sum(0)
            left = left + 2 * (left * of_kink.clamp_min(0)).sqrt()
        return float((left / moment).max())

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
        if self._jump:
            terms = (split - 1) * step
            of_value, of_slope = _beyond(rho, terms)
            scale = self._jump**2 * positive.to(rho.dtype)
            geometric = torch.where(positive, product, 1.0).sqrt()
            value = value + scale * geometric * of_value
            slope = slope + scale * of_slope
        return value, slope

    def single(
        self, variance: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """E phi(u)^2 and E phi'(u)^2, by quadrature."""
        moments = []
        for order in range(2):
            parts = []
            for some in variance.flatten().split(_AT_ONCE):
                values, weights = self._values(order, some)
                parts.append(values.square() @ weights)
            moments.append(torch.cat(parts).reshape(variance.shape))
        return moments[0], moments[1]

    def _deviation(self, variance: Tensor) -> Tensor:
        positive = variance > 0
        return torch.where(positive, variance, 1.0).sqrt() * positive

    def _values(self, order: int, variance: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
        """phi(s z) or phi'(s z) (n, Q) at the nodes, and the weights (Q,) of an expectation."""
        nodes = self._nodes.to(variance.device)
        weights = torch.exp(-nodes.square() / 2) * self._lengths.to(variance.device)
        return self._functions[order](self._deviation(variance)[:, None] * nodes), weights

    def _kink(self, order: int, variance: Float[Tensor, "n"]) -> Tensor:
        """j relu(s z) or its derivative (n, Q) at the nodes."""
        nodes = self._nodes.to(variance.device)
        if order:
            return self._jump * ((nodes > 0) & (variance > 0)[:, None]).to(nodes.dtype)
        return self._jump * self._deviation(variance)[:, None] * nodes.clamp_min(0)

    def _basis(self, terms: int, device: torch.device) -> Float[Tensor, "terms Q"]:
        """he_n(z) times the weights."""
        z = self._nodes.to(device)
        # Half of the Gaussian goes into the recursion, which then neither overflows nor underflows
        # where it matters.
        half = torch.exp(-z.square() / 4)
        rows = [half, z * half]
        for n in range(1, terms - 1):
            rows.append((z * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
        return torch.stack(rows[:terms]) * half * self._lengths.to(device)

    def _terms(self, variance: Tensor) -> int:
        """An even number of terms that suffices at the smallest and the largest variance."""
        with torch.no_grad():
            ends = torch.stack((variance.min(), variance.max()))
            basis, needed = self._basis(MOST_TERMS, ends.device), 2
            # With a kink psi is multiplied by relu as well: its square must be smaller.
            enough = _ENOUGH**2 if self._jump else _ENOUGH
            for order in range(2):
                values, weights = self._values(order, ends)
                moment = (values.square() @ weights).clamp_min(1e-300)
                smooth = values - self._kink(order, ends)
                beyond = (smooth @ basis.T).square().flip(1).cumsum(1).flip(1)
                needed = max(needed, int((beyond > enough * moment[:, None]).sum(1).max()))
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


def _beyond(rho: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """E relu relu and E relu' relu' at unit variances, less the first terms of their series.

    J_0 / (2 pi) = 1/4 + arcsin(rho) / (2 pi) has coefficients binom(2m, m) / (4^m (2m + 1) 2 pi) at
    n = 2m + 1, and J_1 is its integral.
    """
    slopes = [0.25] + [0.0] * terms
    ratio = 1.0
    for n in range(1, terms + 1, 2):
        slopes[n] = ratio / (2 * math.pi * n)
        ratio *= n / (n + 1)
    values = [1 / (2 * math.pi)] + [slopes[n - 1] / n for n in range(1, terms)]
    ones = rho.new_ones(terms)
    first = _power_series(rho, rho.new_tensor(values[:terms]), ones, 0, 1)
    second = _power_series(rho, rho.new_tensor(slopes[:terms]), ones, 0, 1)
    value, slope = arc_cosine(rho, 1)
    return value / (2 * math.pi) - first, slope / (2 * math.pi) - second
