"""The kernel as a linear operator: what can be asked of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntkscale.ntk.forward import Choice
from ntkscale.ntk.inputs import count, rows
from ntkscale.ntk.kernel import Output, gram
from ntkscale.ntk.products import Products, accumulator
from ntkscale.ntk.spectrum.density import SpectralDensity, spectral_density
from ntkscale.ntk.spectrum.hutchpp import estimate_trace
from ntkscale.ntk.spectrum.interval import Estimate
from ntkscale.ntk.spectrum.lanczos import EigenPairs, largest_eigenvalues

OperatorOutput = Literal["trace", "full"] | int | Callable[[Any], Tensor]
Progress = Callable[[int, int], object]

DIAGONAL_BLOCK = 64
"""Samples whose kernel is computed to read its diagonal."""


class KernelOperator:
    """The symmetric positive semi-definite kernel K = J J^T of one model on one set of inputs.

    Made by `ntk.operator`. `K @ v` takes a vector (N,) or a block (N, k), a numpy array or a
    tensor, and returns the same kind in the operator's dtype. Equal calls give equal bits; the
    columns of a block differ from single products by rounding.

    The model's values are copied, so that training may go on. Its training flags are not: leave
    the model in evaluation mode while the operator is in use.
    """

    # numpy would otherwise take the operator for an object to broadcast over.
    __array_ufunc__ = None

    def __init__(
        self,
        linear: Products,
        model: tuple[nn.Module, dict[str, Tensor]],
        output: OperatorOutput,
        params: Choice | None,
        memory: int,
    ):
        self._linear, self._model = linear, model
        self._output: OperatorOutput = output
        self._params, self._memory = params, memory
        dtype = torch.float32
        for p in linear.passes.forward.chosen.values():
            dtype = torch.promote_types(dtype, p.dtype.to_real())
        self.dtype: torch.dtype = dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(N, N): N is the number of samples n, or n C where outputs are kept apart."""
        return self._linear.length, self._linear.length

    @property
    def device(self) -> torch.device:
        """Where the model is, and results are."""
        return self._linear.passes.forward.device

    @property
    def passes_each(self) -> int:
        """VJPs over all samples that one product with a vector takes, and as many JVPs."""
        return self._linear.passes_each

    @overload
    def __matmul__(self, v: Tensor) -> Tensor: ...

    @overload
    def __matmul__(self, v: np.ndarray) -> np.ndarray: ...

    def __matmul__(self, v: Tensor | np.ndarray) -> Tensor | np.ndarray:
        given = v
        v = torch.from_numpy(np.array(given)) if isinstance(given, np.ndarray) else given
        if not isinstance(v, Tensor) or v.ndim not in (1, 2) or v.shape[0] != self.shape[0]:
            what = tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__
            raise ValueError(
                f"the operator is {self.shape[0]} x {self.shape[0]} and cannot multiply {what}; "
                f"pass a vector ({self.shape[0]},) or a block ({self.shape[0]}, k)."
            )
        if v.is_complex():
            raise ValueError("the vectors are complex; multiply real and imaginary part by itself.")
        block = v[:, None] if v.ndim == 1 else v
        result = self._linear.times(block).to(self.dtype).view(v.shape)
        return result.numpy(force=True) if isinstance(given, np.ndarray) else result

    def diagonal(self, *, progress: Progress | None = None) -> Float[Tensor, "N"]:
        """The diagonal, exactly: squared norms of the samples' gradients.

        They are summed over outputs unless those are kept apart. Costs C backward passes over all
        samples, about as much as one product that sums over outputs.

        Args:
            progress: called with the samples done and their number.
        """
        n, parts = count(self._linear.x), []
        output: Output = "diagonal" if self._output == "full" else self._output
        for first in range(0, n, DIAGONAL_BLOCK):
            part = rows(self._linear.x, slice(first, first + DIAGONAL_BLOCK))
            block = gram(self._model, part, output=output, params=self._params, memory=self._memory)
            entries = block.diagonal(dim1=0, dim2=1)
            parts.append(entries.movedim(0, -1).reshape(-1))
            if progress is not None:
                progress(min(first + DIAGONAL_BLOCK, n), n)
        return torch.cat(parts)

    def trace(
        self,
        *,
        exact: bool = False,
        products: int = 30,
        level: float = 0.95,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Estimate:
        """The trace by Hutch++ with an interval, or exactly, as the sum of the diagonal.

        The exact one costs about as much as one product that sums over outputs, so it is the better
        choice unless there are many outputs. Arguments and source at `estimate_trace`.
        """
        if exact:
            value = float(self.diagonal(progress=progress).double().sum())
            return Estimate(
                value, (value, value), level, products=0, passes=len(self._linear.outputs)
            )
        found = estimate_trace(
            self._linear.times,
            self.shape[0],
            products=products,
            level=level,
            device=self.device,
            dtype=accumulator(self.device),
            seed=seed,
            progress=progress,
        )
        return replace(found, passes=found.products * self.passes_each)

    def top_eigenvalues(
        self,
        k: int,
        *,
        tolerance: float = 1e-4,
        block: int = 2,
        most: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> EigenPairs:
        """The k largest eigenvalues and eigenvectors with their residuals.

        Arguments, cost and source at `largest_eigenvalues`. The operator's memory budget also
        bounds its basis. Values and vectors are float64 wherever the device has it.

        Raises:
            ValueError: k is below 1 or above the operator's size.
        """
        found = largest_eigenvalues(
            self._linear.times,
            self.shape[0],
            k,
            tolerance=tolerance,
            block=block,
            most=most,
            memory=self._memory,
            precision=self._precision,
            device=self.device,
            dtype=accumulator(self.device),
            seed=seed,
            progress=progress,
        )
        return replace(found, passes=found.products * self.passes_each)

    def density(
        self,
        *,
        probes: int = 8,
        steps: int = 64,
        known: EigenPairs | None = None,
        points: int = 128,
        width: float = 0.3,
        level: float = 0.95,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> SpectralDensity:
        """How many eigenvalues lie above each level, with intervals, and their density.

        Arguments, cost and source at `spectral_density`; `known` is what :meth:`top_eigenvalues`
        returned.
        """
        found = spectral_density(
            self._linear.times,
            self.shape[0],
            probes=probes,
            steps=steps,
            known=known,
            points=points,
            width=width,
            level=level,
            precision=self._precision,
            device=self.device,
            dtype=accumulator(self.device),
            seed=seed,
            progress=progress,
        )
        return replace(found, passes=found.products * self.passes_each)

    def to_dense(self) -> Float[Tensor, "N N"]:
        """The matrix itself, by :func:`gram`, which is cheaper than N products."""
        x = self._linear.x
        dense = gram(self._model, x, output=self._output, params=self._params, memory=self._memory)
        if self._output != "full":
            return dense
        return dense.permute(0, 2, 1, 3).reshape(self.shape)

    @property
    def _precision(self) -> torch.dtype:
        """What products are accurate to: the coarsest of the model's precisions."""
        chosen = self._linear.passes.forward.chosen.values()
        return max((p.dtype.to_real() for p in chosen), key=lambda dtype: torch.finfo(dtype).eps)
