"""Fully connected networks."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ntkscale.networks.activations import activation as named_activation
from ntkscale.networks.initialisation import Weight, gaussian, ring, ring_count
from ntkscale.networks.network import Network, normalisation, positive
from ntkscale.networks.parameterization import Parameterization, scaling

_BLOCK_BYTES = 2**18
_WHOLE_BYTES = 2**19
_SMALLEST_BLOCK = 128
_FEW_INPUTS = 64


class MLP(Network):
    """A fully connected network with `depth` hidden layers of `width` neurons.

    Mean-field: `h1 = W0 x / sqrt(D) + b0`, `h(l+1) = Wl c phi(hl) / sqrt(N) + bl`,
    `f = w . c phi(hL) / (gamma0 N)`, minus its value at initialisation if centred. Weights and
    biases are N(0, 1), the read-out has no bias.

    Parameters, in order: ``hidden1``, ``bias1``, ``hidden2``, ... ``readout``.

    Args:
        inputs: D; inputs of more than one axis a sample are flattened to it.
        outputs: C.
        width: N.
        depth: number of hidden layers L.
        activation: see `activations.activation`.
        bias: hidden layers have biases.
        gamma0: richness; lazy is small, rich is about one.
        parameterization: ``"mean-field"``, ``"ntk"`` or ``"standard"``.
        centered: subtract the output at initialisation.
        scale_input: False leaves out the 1/sqrt(D) of the first layer.
        normalised: scale phi to unit second moment; None: for ReLU^q with q > 1 and for depth >= 3.
        init: ``"ring"`` (one hidden layer on the circle, see `initialisation.ring`) needs inputs=2,
            outputs=1, depth=1, bias=True, scale_input=False and not the standard parameterization.
            It is zero at initialisation, so that centring costs nothing.
        angles: directions on a ring; width must be a multiple of 2 * angles.
        seed: of the initial parameters.
        dtype: of parameters and output.

    Raises:
        ValueError: for a size below one, an unknown name, or options that exclude each other.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int = 1,
        activation: str = "relu",
        bias: bool = False,
        gamma0: float = 1.0,
        parameterization: Parameterization = "mean-field",
        centered: bool = True,
        scale_input: bool = True,
        normalised: bool | None = None,
        init: Literal["gaussian", "ring"] = "gaussian",
        angles: int = 128,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        inputs, outputs = positive("inputs", inputs), positive("outputs", outputs)
        width, depth = positive("width", width), positive("depth", depth)
        phi = named_activation(activation)
        scales = scaling(parameterization, width, gamma0)

        fan_ins = [inputs] + [width] * (depth - 1)
        if init == "ring":
            _check_ring(inputs, outputs, depth, bias, scale_input, parameterization)
            ring_count(width, angles)
            hidden, offset, readout = ring(width, angles, seed)
            initial = {"hidden1": hidden, "bias1": offset, "readout": readout}
        elif init == "gaussian":
            weights: list[Weight] = []
            for layer, fan_in in enumerate(fan_ins, start=1):
                weights.append(Weight(f"hidden{layer}", (width, fan_in), scales.deviation(fan_in)))
                if bias:
                    weights.append(Weight(f"bias{layer}", (width,), scales.bias_deviation))
            weights.append(Weight("readout", (outputs, width), scales.readout_deviation))
            initial = gaussian(weights, seed)
        else:
            raise ValueError(f"unknown init {init!r}: choose gaussian or ring.")

        super().__init__(initial, scales, centered=centered, silent=init == "ring", dtype=dtype)
        self.inputs, self.outputs, self.width, self.depth = inputs, outputs, width, depth
        self.activation, self.bias, self.scale_input = phi, bias, scale_input
        self.normalised = normalisation(
            normalised, power=phi.power, depth=depth, explicit=scales.explicit
        )
        self._phi_scale = phi.scale if self.normalised else 1.0
        # Each factor meets the smaller operand: the inputs, the previous layer, the outputs.
        self._factors = [scales.multiplier(inputs) if scale_input else 1.0]
        self._factors += [self._phi_scale * scales.multiplier(width)] * (depth - 1)

    def extra_repr(self) -> str:
        """Sizes and choices, for `print(net)`."""
        return (
            f"{self.inputs} -> {self.depth} x {self.width} {self.activation.name} -> "
            f"{self.outputs}, {self.parameterization}, centered={self.centered}"
        )

    def features(
        self, x: Float[Tensor, "n ..."], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n C"]]:
        """Preactivations ``hidden1`` ... ``hiddenL``, each (n, N), and the read-out sum (n, C)."""
        preactivations = self._hidden(x, tensors, self.depth)
        last = self.activation(preactivations[f"hidden{self.depth}"])
        return preactivations, F.linear(last, tensors["readout"]) * self._phi_scale

    def sum_features(
        self, x: Float[Tensor, "n ..."], tensors: Mapping[str, Tensor]
    ) -> Float[Tensor, "n C"]:
        """The read-out sum, block by block of neurons where one (n, N) buffer outgrows the cache.

        With one hidden layer on few inputs the products are cheap and a step costs what its
        (n, N) buffers cost in memory traffic. So on the CPU, if such a buffer exceeds 512 KiB and
        D <= 64, hidden layer and read-out are computed over blocks of neurons whose buffer takes
        256 KiB (at least 128 neurons). The same sum in another order: equal to rounding.
        """
        if self.depth > 1 or self.inputs > _FEW_INPUTS or x.device.type != "cpu":
            return self.features(x, tensors)[1]
        row = x.shape[0] * x.element_size()
        if row * self.width <= _WHOLE_BYTES:
            return self.features(x, tensors)[1]
        block = max(_SMALLEST_BLOCK, _BLOCK_BYTES // row)
        x = self._flat(x)
        if self._factors[0] != 1.0:
            x = x * self._factors[0]
        hidden = tensors["hidden1"].split(block)
        readout = tensors["readout"].split(block, dim=1)
        bias = tensors["bias1"].split(block) if self.bias else [None] * len(hidden)
        total = F.linear(self.activation(F.linear(x, hidden[0], bias[0])), readout[0])
        for w, b, a in zip(hidden[1:], bias[1:], readout[1:], strict=True):
            total = total + F.linear(self.activation(F.linear(x, w, b)), a)
        return total * self._phi_scale

    def _hidden(
        self, x: Tensor, tensors: Mapping[str, Tensor], layers: int
    ) -> dict[str, Float[Tensor, "n N"]]:
        h, preactivations = self._flat(x), {}
        for layer, factor in enumerate(self._factors[:layers], start=1):
            h = h if layer == 1 else self.activation(h)
            h = h if factor == 1.0 else h * factor
            h = F.linear(h, tensors[f"hidden{layer}"], tensors.get(f"bias{layer}"))
            preactivations[f"hidden{layer}"] = h
        return preactivations

    def _flat(self, x: Tensor) -> Float[Tensor, "n D"]:
        x = x.flatten(1) if x.ndim > 2 else x
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(
                f"the network takes (n, {self.inputs}) inputs, got {tuple(x.shape)}: "
                "give a batch, or build the network with that many inputs."
            )
        return x


def _check_ring(
    inputs: int,
    outputs: int,
    depth: int,
    bias: bool,
    scale_input: bool,
    parameterization: Parameterization,
) -> None:
    wanted = (
        ("inputs=2", inputs == 2),
        ("outputs=1", outputs == 1),
        ("depth=1", depth == 1),
        ("bias=True", bias),
        ("scale_input=False", not scale_input),
        ("parameterization='mean-field' or 'ntk'", parameterization != "standard"),
    )
    missing = [name for name, holds in wanted if not holds]
    if missing:
        raise ValueError(
            "ring initialisation is for a two-layer network with biases on the circle: "
            f"set {', '.join(missing)}, or use init='gaussian'."
        )
