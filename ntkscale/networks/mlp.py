"""Fully connected networks."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ntkscale.networks.activations import activation as named_activation
from ntkscale.networks.initialisation import Weight, gaussian, ring, ring_count, signed
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

    With ``trained="last-hidden"`` all but the weights of the last hidden layer stay as they are
    drawn: the partially trained network of Chen, Vanden-Eijnden & Bruna 2022 (arXiv 2204.10782). In
    mean-field at gamma0 = 1 that is `f = sum_i c_i phi(h_i) / N`, `dW/dt = -N grad L`; in ``"ntk"``
    its lazy twin of the same seed, with the same kernel at initialisation.

    Args:
        inputs: D; inputs of more than one axis a sample are flattened to it.
        outputs: C.
        width: N, or one width for each hidden layer; N is then the last.
        depth: number of hidden layers L.
        activation: see `activations.activation`.
        bias: hidden layers have biases; a number is their standard deviation in place of 1. With
            ``trained="last-hidden"`` the frozen ones have.
        gamma0: richness; lazy is small, rich is about one.
        parameterization: ``"mean-field"``, ``"ntk"``, ``"standard"`` or ``"full-mean-field"``
            (`h_L = W_L c phi(h) / M`, M its fan-in; the last hidden layer alone is trained then).
        centered: subtract the output at initialisation.
        scale_input: False leaves out the 1/sqrt(D) of the first layer.
        normalised: scale phi to unit second moment; None: for ReLU^q with q > 1 and for depth >= 3.
        init: ``"ring"`` (one hidden layer on the circle, see `initialisation.ring`) needs inputs=2,
            outputs=1, depth=1, bias=True, scale_input=False and not the standard parameterization.
            It is zero at initialisation, so that centring costs nothing. ``"signs"``: Gaussian, but
            for read-outs that are random signs. ``"paired-signs"``: besides, the last hidden
            layer's neurons come twice, with opposite signs, and the output is zero too.
        angles: directions on a ring; width must be a multiple of 2 * angles.
        trained: ``"all"`` parameters, or the weights of the ``"last-hidden"`` layer alone.
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
        width: int | Sequence[int],
        depth: int = 1,
        activation: str = "relu",
        bias: bool | float = False,
        gamma0: float = 1.0,
        parameterization: Parameterization = "mean-field",
        centered: bool = True,
        scale_input: bool = True,
        normalised: bool | None = None,
        init: Literal["gaussian", "ring", "signs", "paired-signs"] = "gaussian",
        angles: int = 128,
        trained: Literal["all", "last-hidden"] = "all",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        inputs, outputs = positive("inputs", inputs), positive("outputs", outputs)
        depth = positive("depth", depth)
        widths = _widths(width, depth)
        width = widths[-1]
        phi = named_activation(activation)
        biased = _biased_layers(bias, depth, trained)
        scales = scaling(
            parameterization,
            width,
            gamma0,
            only_trained_fan_in=widths[-2] if trained == "last-hidden" and depth > 1 else None,
        )

        fan_ins = [inputs, *widths[:-1]]
        if init == "ring":
            _check_ring(inputs, outputs, depth, bias == 1, scale_input, parameterization)
            ring_count(width, angles)
            hidden, offset, readout = ring(width, angles, seed)
            initial = {"hidden1": hidden, "bias1": offset, "readout": readout}
        elif init in ("gaussian", "signs", "paired-signs"):
            weights: list[Weight] = []
            for layer, (fan_in, own) in enumerate(zip(fan_ins, widths, strict=True), start=1):
                weights.append(Weight(f"hidden{layer}", (own, fan_in), scales.deviation(fan_in)))
                if layer in biased:
                    spread = float(bias) * scales.bias_deviation
                    weights.append(Weight(f"bias{layer}", (own,), spread))
            weights.append(Weight("readout", (outputs, width), scales.readout_deviation))
            initial = gaussian(weights, seed)
            if init != "gaussian":
                initial = signed(initial, depth, paired=init == "paired-signs")
                initial["readout"] *= scales.readout_deviation
        else:
            raise ValueError(
                f"unknown init {init!r}: choose gaussian, ring, signs or paired-signs."
            )

        super().__init__(
            initial,
            scales,
            centered=centered,
            silent=init in ("ring", "paired-signs"),
            trained=None if trained == "all" else (f"hidden{depth}",),
            dtype=dtype,
        )
        self.inputs, self.outputs, self.width, self.depth = inputs, outputs, width, depth
        self.widths, self.trained = widths, trained
        self.activation, self.bias, self.scale_input = phi, bool(bias), scale_input
        self.normalised = normalisation(
            normalised, power=phi.power, depth=depth, explicit=scales.explicit
        )
        self._phi_scale = phi.scale if self.normalised else 1.0
        # Each factor meets the smaller operand: the inputs, the previous layer, the outputs.
        self._factors = [scales.multiplier(inputs) if scale_input else 1.0]
        self._factors += [self._phi_scale * scales.multiplier(fan_in) for fan_in in fan_ins[1:]]
        if depth > 1:
            self._factors[-1] = self._phi_scale * scales.last_multiplier(fan_ins[-1])

    def extra_repr(self) -> str:
        """Sizes and choices, for `print(net)`."""
        alike = len(set(self.widths)) == 1
        hidden = f"{self.depth} x {self.width}" if alike else " x ".join(map(str, self.widths))
        trained = "" if self.trained == "all" else f", trained={self.trained}"
        return (
            f"{self.inputs} -> {hidden} {self.activation.name} -> "
            f"{self.outputs}, {self.parameterization}, centered={self.centered}{trained}"
        )

    def features(
        self, x: Float[Tensor, "n ..."], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n C"]]:
        """Preactivations ``hidden1`` ... ``hiddenL``, each (n, N), and the read-out sum (n, C)."""
        preactivations = self._hidden(x, tensors, self.depth)
        last = self.activation(preactivations[f"hidden{self.depth}"])
        return preactivations, F.linear(last, tensors["readout"]) * self._phi_scale

    def last_inputs(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n F"]:
        """What the weights of the last hidden layer multiply, at the present parameters.

        The factors of phi and of the fan-in are in it: ``hidden<L>`` is W_L times these, plus the
        bias if there is one. With ``trained="last-hidden"`` they are constant in time.
        """
        if self.depth == 1:
            h = self._flat(x)
        else:
            below = self._hidden(x, self._tensors(""), self.depth - 1)
            h = self.activation(below[f"hidden{self.depth - 1}"])
        return h * self._factors[-1]

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


def _widths(width: int | Sequence[int], depth: int) -> tuple[int, ...]:
    if not isinstance(width, Sequence):
        return (positive("width", width),) * depth
    if len(width) != depth:
        raise ValueError(
            f"{depth} hidden layers need {depth} widths, got {len(width)}: give one for each, or "
            "one number for all."
        )
    return tuple(positive("width", one) for one in width)


def _biased_layers(bias: bool | float, depth: int, trained: str) -> range:
    """Numbers of the layers with biases."""
    if trained not in ("all", "last-hidden"):
        raise ValueError(f"unknown trained {trained!r}: choose all or last-hidden.")
    if not 0 <= bias < math.inf:
        raise ValueError(f"bias {bias} is no standard deviation: give 0 or above, True is 1.")
    last = depth if trained == "all" else depth - 1
    if bias and not last:
        raise ValueError(
            "with trained='last-hidden' the layers below have the biases, and a network of one "
            "hidden layer has none: leave bias out, or add a constant input."
        )
    return range(1, last + 1 if bias else 1)


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
