"""Functions f(x) = sum_j K(x, x_j) alpha_j that a kernel learns, with their gradient in x."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

Kernel = Callable[..., Tensor]
"""(x1, x2=None) -> (n1, n2), differentiable in x1; or (n1 C, n2 C) for C outputs, sample-major."""

Pull = Callable[[Tensor], Tensor]
"""From a cotangent of the outputs (n, C) to sum_c cotangent_ic df_c(x_i) / dx_i, shaped like x."""


class Expansion(Protocol):
    """What predictors return and attacks take."""

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """Outputs, differentiable in x where x asks for it."""
        ...

    def pullback(self, x: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n C"], Pull]:
        """Outputs, and what takes a cotangent of them (n, C) to a gradient in x.

        Both are without a graph; a closed form keeps its own dtype.
        """
        ...

    def jacobian(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C ..."]:
        """Gradient of every output in x, without a graph."""
        ...

    def own(self, x: Float[Tensor, "n C ..."]) -> Float[Tensor, "n C"]:
        """f_c(x_ic): every output at inputs of its own."""
        ...


class AutogradExpansion:
    """The expansion of any kernel that torch can differentiate in its first argument.

    Args:
        kernel: (x1, x2) -> (n1, n2).
        points: x_j, (P, ...).
        alpha: (P, C).
        pairs: evaluated at once, with their autograd graph; at least one.

    Cost: the kernel once for outputs, once more with its derivative for each gradient.
    """

    def __init__(
        self, kernel: Kernel, points: Tensor, alpha: Float[Tensor, "P C"], *, pairs: int = 2**17
    ) -> None:
        self._kernel, self._points, self._alpha, self._pairs = kernel, points, alpha, pairs

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        if torch.is_grad_enabled() and x.requires_grad:
            return self._kernel(x, self._points) @ self._alpha
        with torch.no_grad():
            return torch.cat([self._sum(x[rows]) for rows in self._rows(len(x))])

    def pullback(self, x: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n C"], Pull]:
        """See `Expansion`."""
        x = x.detach()

        def pull(cotangent: Tensor) -> Tensor:
            gradient = torch.zeros_like(x)
            for rows in self._rows(len(x)):
                mixed = cotangent[rows].to(self._alpha) @ self._alpha.mT
                for columns in self._columns():
                    with torch.enable_grad():
                        moved = x[rows].requires_grad_()
                        kernel = self._kernel(moved, self._points[columns])
                        (found,) = torch.autograd.grad(
                            kernel, moved, mixed[:, columns].to(kernel), materialize_grads=True
                        )
                    gradient[rows] += found
            return gradient

        return self(x), pull

    def jacobian(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C ..."]:
        """See `Expansion`; one gradient an output."""
        outputs, pull = self.pullback(x)
        unit = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        return torch.stack([pull(row.expand_as(outputs)) for row in unit], dim=1)

    def own(self, x: Float[Tensor, "n C ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`; all outputs at all inputs, of which one in C is kept."""
        n, c = x.shape[:2]
        every = self(x.flatten(0, 1)).reshape(n, c, c)
        return every.diagonal(dim1=1, dim2=2)

    def _sum(self, x: Tensor) -> Tensor:
        return sum(
            (self._kernel(x, self._points[c]).to(self._alpha) @ self._alpha[c])
            for c in self._columns()
        )  # pyright: ignore[reportReturnType]

    def _rows(self, n: int) -> Iterator[slice]:
        step = max(1, self._pairs // len(self._points))
        return (slice(start, start + step) for start in range(0, n, step))

    def _columns(self) -> Iterator[slice]:
        step = min(self._pairs, len(self._points))
        count = len(self._points)
        return (slice(start, start + step) for start in range(0, count, step))


class Stacked:
    """Several functions of one output each as one function of several."""

    def __init__(self, parts: Sequence[Expansion]) -> None:
        self._parts = parts

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        return torch.cat([part(x) for part in self._parts], dim=1)

    def pullback(self, x: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n C"], Pull]:
        """See `Expansion`."""
        pairs = [part.pullback(x) for part in self._parts]

        def pull(cotangent: Tensor) -> Tensor:
            columns = cotangent.split(1, dim=1)
            gradients = (pull(c) for (_, pull), c in zip(pairs, columns, strict=True))
            return torch.stack(list(gradients)).sum(0)

        return torch.cat([outputs for outputs, _ in pairs], dim=1), pull

    def jacobian(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C ..."]:
        """See `Expansion`."""
        return torch.cat([part.jacobian(x) for part in self._parts], dim=1)

    def own(self, x: Float[Tensor, "n C ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        return torch.cat([part(x[:, c]) for c, part in enumerate(self._parts)], dim=1)
