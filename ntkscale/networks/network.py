"""What every network here shares: its parameters, its richness, and centring."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntkscale.networks.parameterization import Scaling


class Network(nn.Module, ABC):
    """A network f(x) = [g(x; theta) - g(x; theta_0)] / (gamma0 N), or without g(x; theta_0).

    An architecture supplies `features`: preactivations and read-out sum g as a pure function of x
    and of a mapping of tensors, so that the same code evaluates trained and initial parameters. The
    initial ones are buffers named ``initial_*``: they move with the module, are saved with it and
    may differ between the members of a vmapped ensemble, and f stays differentiable in x.

    Attributes:
        gamma0: 0-d buffer, richness.
        readout_fan_in: N, number of features that the read-out sums.
        parameterization: its name.
    """

    gamma0: Tensor

    def __init__(
        self,
        initial: Mapping[str, Tensor],
        scales: Scaling,
        *,
        centered: bool,
        silent: bool = False,
        trained: Collection[str] | None = None,
        dtype: torch.dtype,
    ) -> None:
        """Register parameters and buffers.

        Args:
            initial: float64 initial parameters by name, in the order of `parameters()`.
            scales: from `parameterization.scaling`.
            centered: subtract the output at initialisation.
            silent: the initial output is zero for every x, so there is nothing to subtract.
            trained: names of the parameters that require gradients; None: all.
            dtype: of parameters and buffers.
        """
        super().__init__()
        self.readout_fan_in = scales.readout_fan_in
        self.parameterization = scales.name
        self.centered = centered
        self._divided = scales.explicit
        self._gamma_factor = math.sqrt(scales.readout_fan_in * scales.divided_fan_in)
        self._names = tuple(initial)
        self._subtracts = centered and not silent
        for name, value in initial.items():
            wanted = trained is None or name in trained
            self.register_parameter(name, nn.Parameter(value.to(dtype), requires_grad=wanted))
            if self._subtracts:
                self.register_buffer(f"initial_{name}", value.to(dtype, copy=True))
        self.register_buffer("gamma0", torch.tensor(scales.gamma0, dtype=dtype))

    @property
    def gamma(self) -> Float[Tensor, ""]:
        """Gamma = gamma0 sqrt(N), which makes gamma^2 df.df' O(1); standard parameterization: 1.

        In the full mean-field gamma0 sqrt(M N), M the fan-in of the trained layer.
        """
        return self.gamma0 * self._gamma_factor if self._divided else self.gamma0

    @abstractmethod
    def features(
        self, x: Float[Tensor, "n ..."], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n C"]]:
        """Preactivations by layer name, and the read-out sum before division by gamma0 N."""

    def sum_features(
        self, x: Float[Tensor, "n ..."], tensors: Mapping[str, Tensor]
    ) -> Float[Tensor, "n C"]:
        """The read-out sum alone; an architecture may find a faster way to it."""
        return self.features(x, tensors)[1]

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """Output of the network, in the dtype of its parameters; cost: two passes if centred."""
        output = self.sum_features(x, self._tensors(""))
        if self._subtracts:
            output = output - self.sum_features(x, self._tensors("initial_"))
        return output / (self.gamma0 * self.readout_fan_in) if self._divided else output

    def preactivations(self, x: Float[Tensor, "n ..."]) -> dict[str, Float[Tensor, "n ..."]]:
        """Input of every nonlinearity at the present parameters, by layer name, first to last."""
        return self.features(x, self._tensors(""))[0]

    def _tensors(self, prefix: str) -> dict[str, Tensor]:
        return {name: getattr(self, prefix + name) for name in self._names}


def positive(name: str, value: int) -> int:
    """Return `value`, or raise ValueError where a size is not a positive whole number."""
    if value != int(value) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value}.")
    return int(value)


def normalisation(
    normalised: bool | None, *, power: int | None, depth: int, explicit: bool
) -> bool:
    """Whether nonlinearities are scaled to c^2 E phi(g)^2 = 1.

    None stands for the default: on for ReLU^q with q > 1 and for three or more hidden layers. The
    standard parameterization has its scale in the weights instead.

    Raises:
        ValueError: if asked for in the standard parameterization.
    """
    if not explicit:
        if normalised:
            raise ValueError(
                "normalised=True contradicts the standard parameterization, whose weights carry "
                "the scale: leave it out, or use mean-field."
            )
        return False
    if normalised is None:
        return (power is not None and power > 1) or depth >= 3
    return normalised
