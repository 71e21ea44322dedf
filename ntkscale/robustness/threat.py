"""What an attacker may do: a ball around every input, within the range of valid inputs."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Threat:
    """All x' with |x' - x| <= eps and low <= x' <= high.

    Attributes:
        eps: radius of the ball, in the unit of the inputs; 0 allows the input alone.
        norm: ``"linf"``, the largest change of a pixel, or ``"l2"``, over all pixels of a sample.
        low, high: of valid inputs, such as pixels in [0, 1]; None: unbounded.

    Raises:
        ValueError: eps that is negative or not finite, an unknown norm, or low >= high.
    """

    eps: float
    norm: Norm = "linf"
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"eps is {self.eps}; pass a finite radius of 0 or more, as 8 / 255.")
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"unknown norm {self.norm!r}: choose 'linf' or 'l2'.")
        for name, end in (("low", self.low), ("high", self.high)):
            if end is not None and math.isnan(end):
                raise ValueError(f"{name} is nan; pass a number, or None for no bound.")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}; valid inputs lie between a lower and "
                "a higher number, such as 0 and 1."
            )

    def project(
        self, moved: Float[Tensor, "n ..."], start: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n ..."]:
        """Clip to the ball around `start`, then to the range; inside both nothing moves.

        The result is in both exactly: |result - start|, computed in the tensors' dtype, is at most
        eps, where plain rounding of start + eps may go beyond by one unit in the last place.

        Args:
            moved: finite.
            start: inside the range.
        """
        if self.eps == 0:
            return start.clone()
        return self._linf(moved, start) if self.norm == "linf" else self._l2(moved, start)

    def steepest(self, gradient: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Direction of length one in the norm that gains most: sign(g), or g / |g|_2 a sample.

        A sample whose gradient is zero or not finite has none, and gets zeros.
        """
        usable = gradient.flatten(1).isfinite().all(1)
        if not usable.all():
            gradient = torch.where(_like(usable, gradient), gradient, 0.0)
        return gradient.sign() if self.norm == "linf" else _unit(gradient)

    def draw(
        self,
        start: Float[Tensor, "n ..."],
        generator: torch.Generator,
        *,
        surface: bool = False,
    ) -> Float[Tensor, "n ..."]:
        """A point of every ball, uniform; or (`surface`) scaled until it is eps away.

        The numbers are drawn in float64 by a generator of the processor, so that devices and
        dtypes agree; then they are clipped like any step.
        """
        shape = start.shape
        if self.norm == "linf":
            offset = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
            if surface:
                offset /= _like(offset.flatten(1).abs().amax(1), offset)
        else:
            offset = _unit(torch.randn(shape, generator=generator, dtype=torch.float64))
            if not surface:
                radius = torch.rand(shape[0], generator=generator, dtype=torch.float64)
                offset *= _like(radius ** (1 / start[0].numel()), offset)
        return self.project(start + (self.eps * offset).to(start), start)

    def _radius(self, dtype: torch.dtype) -> float:
        """The largest number of the dtype that is not above eps."""
        nearest = torch.tensor(self.eps, dtype=dtype)
        if nearest.item() > self.eps:
            nearest = torch.nextafter(nearest, torch.zeros_like(nearest))
        return nearest.item()

    def _into_range(self, x: Tensor) -> Tensor:
        return x if self.low is None and self.high is None else x.clamp(self.low, self.high)

    def _linf(self, moved: Tensor, start: Tensor) -> Tensor:
        radius = self._radius(start.dtype)
        result = self._into_range(moved.clamp(start - radius, start + radius))
        # Rounded to the nearest, an end is at most one unit too far; the next number is not.
        over = (result - start).abs() > radius
        return torch.where(over, torch.nextafter(result, start), result)

    def _l2(self, moved: Tensor, start: Tensor) -> Tensor:
        radius = self._radius(start.dtype)
        result = self._into_range(moved)
        left = (_length(moved - start) > radius).nonzero()[:, 0]
        scale = torch.full(left.shape, radius, dtype=torch.float64, device=start.device)
        slack = torch.finfo(start.dtype).eps
        while len(left):
            origin = start[left]
            unit = _unit(moved[left] - origin)
            shorter = self._into_range(origin + _like(scale, unit).to(unit) * unit)
            result = result.index_copy(0, left, shorter)
            over = _length(shorter - origin) > radius
            # Ends: once the scale is zero, the result is the start.
            left, scale = left[over], scale[over] * max(0.0, 1 - slack)
            slack *= 2
        return result


def _like(per_sample: Tensor, x: Tensor) -> Tensor:
    """One number a sample, (n,), with axes to broadcast over those of x."""
    return per_sample.reshape(-1, *[1] * (x.ndim - 1))


def _unit(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """x / |x|_2, sample by sample; zero stays. Divided by the largest entry first: tiny ones."""
    largest = _like(x.flatten(1).abs().amax(1), x)
    scaled = x / torch.where(largest > 0, largest, 1.0)
    length = _like(torch.linalg.vector_norm(scaled.flatten(1), dim=1), x)
    return scaled / torch.where(length > 0, length, 1.0)


def _length(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n"]:
    """|x|_2 of every sample, the larger of what its dtype and float64 say."""
    flat = x.flatten(1)
    own = torch.linalg.vector_norm(flat, dim=1).double()
    return torch.maximum(own, torch.linalg.vector_norm(flat.double(), dim=1))
