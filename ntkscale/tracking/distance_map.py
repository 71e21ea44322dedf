"""Kernel distances between all pairs of times, in one pass over the kernels."""

import torch
from jaxtyping import Float
from torch import Tensor

_CHUNK = 1 << 20  # entries converted to float64 at a time


class DistanceMap:
    """S(K_s, K_t) = 1 - <K_s, K_t> / (|K_s| |K_t|) for all times s, t (Fort et al. 2020, fig. 4).

    Kernels are added as they come and never asked for again. Of each its upper triangle is kept in
    float32, with unit norm: 2 n^2 bytes a time (of a full kernel of C outputs 2 (n C)^2). Distances
    are half the squared distance of unit vectors, summed in float64, so that rounding enters as its
    square and lazy kernels' small ones are resolved, down to some 1e-14.

    Attributes:
        count: kernels added.
    """

    def __init__(self) -> None:
        self._units: list[Tensor] = []
        self._rows: list[list[float]] = []

    @property
    def count(self) -> int:
        """Number of kernels added."""
        return len(self._units)

    def add(self, kernel: Float[Tensor, "n n"] | Float[Tensor, "n n C C"]) -> list[float]:
        """Take in the next kernel; returns its distances to all earlier ones.

        Args:
            kernel: symmetric, traced over outputs or full as of ``ntk.gram(..., output="full")``.

        Raises:
            ValueError: of another shape than the earlier ones, zero, or not finite.

        Cost: n^2 / 2 additions for each earlier kernel.
        """
        unit = _unit(kernel)
        if self._units and unit.shape != self._units[0].shape:
            raise ValueError(
                f"a kernel of shape {tuple(kernel.shape)} cannot be compared with the earlier "
                "ones; measure all of them on one probe set."
            )
        row = [_half_square(unit, earlier) for earlier in self._units]
        self._units.append(unit)
        self._rows.append(row)
        return row

    def distances(self) -> Float[Tensor, "T T"]:
        """The whole map, symmetric, zero on the diagonal, float64."""
        full = torch.zeros(self.count, self.count, dtype=torch.float64)
        for t, row in enumerate(self._rows):
            full[t, :t] = torch.tensor(row, dtype=torch.float64)
        return full + full.T


def _unit(kernel: Tensor) -> Float[Tensor, "m"]:
    if kernel.ndim == 4:
        rows, columns, outputs, _ = kernel.shape
        kernel = kernel.permute(0, 2, 1, 3).reshape(rows * outputs, columns * outputs)
    n = len(kernel)
    if kernel.ndim != 2 or kernel.shape != (n, n):
        raise ValueError(f"a kernel is (n, n) or (n, n, C, C), got {tuple(kernel.shape)}.")
    row, column = torch.triu_indices(n, n, device=kernel.device)
    # Entries off the diagonal count twice in |K|^2.
    weight = torch.where(row == column, 1.0, 2.0**0.5)
    triangle = kernel.detach()[row, column].double() * weight
    norm = float(triangle.norm())
    if not 0 < norm < float("inf"):
        raise ValueError("a kernel is zero or not finite; look for a network that diverged.")
    return (triangle / norm).float().cpu()


def _half_square(one: Tensor, other: Tensor) -> float:
    total = 0.0
    for a, b in zip(one.split(_CHUNK), other.split(_CHUNK), strict=True):
        total += float((a.double() - b.double()).square().sum())
    return total / 2
