"""A public number of the project as the error budget sees it: one computation, varied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Scale = Literal["largest", "each", "absolute"]


@dataclass(frozen=True)
class Setting:
    """How a quantity is computed. Inputs and weights are representable in float32 in every one.

    Attributes:
        dtype: of network and inputs.
        device: where they are.
        memory: budget in bytes of what takes one; None: the default.
    """

    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    memory: int | None = None

    def put(self, values: Tensor) -> Tensor:
        """Values of float32 in this setting's dtype, on its device."""
        return values.to(device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Quantity:
    """What is computed, and what its variations promise; None: there is no such variation.

    Attributes:
        name: in words.
        compute: arrays by name, in any floating dtype.
        scale: deviations are relative to the "largest" entry of an array, to "each" entry, or
            "absolute".
        single: bound of float32 against float64.
        memory: bound of small budgets against the default, in float32.
        threads: bound of two threads against one, in float32 (theory: float64 always).
        device: bound of a GPU against the processor, in float32.
    """

    name: str
    compute: Callable[[Setting], Mapping[str, Tensor | ArrayLike]]
    scale: Scale
    single: float | None
    memory: float | None
    threads: float
    device: float | None

    def arrays(self, setting: Setting) -> dict[str, np.ndarray]:
        """The numbers in float64."""
        return {
            name: value.detach().cpu().double().numpy()
            if isinstance(value, Tensor)
            else np.asarray(value, dtype=np.float64)
            for name, value in self.compute(setting).items()
        }

    def deviation(self, found: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray]) -> float:
        """Largest deviation over all arrays, each on its own scale; nan if one is not finite."""
        worst = 0.0
        for name, right in exact.items():
            gap = np.abs(found[name] - right)
            if self.scale == "largest":
                gap = gap / max(float(np.abs(right).max()), 1e-300)
            elif self.scale == "each":
                gap = gap / np.maximum(np.abs(right), 1e-300)
            # np.maximum, unlike max, keeps nan.
            worst = float(np.maximum(worst, gap.max()))
        return worst


def same_bits(found: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Whether all arrays are equal, bit for bit."""
    return all(found[name].tobytes() == right.tobytes() for name, right in other.items())
