"""A convolutional network for small images."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ntkscale.networks.activations import activation as named_activation
from ntkscale.networks.initialisation import Weight, gaussian
from ntkscale.networks.network import Network, normalisation, positive
from ntkscale.networks.parameterization import Parameterization, scaling


class CNN(Network):
    """conv(N) - phi - pool - conv(N) - phi - pool - flatten - linear.

    Convolutions are 3 x 3 with padding 1, pooling averages 2 x 2. Mean-field: a convolution is
    divided by sqrt(9 C_in), the read-out by gamma0 times its fan-in N (H // 4) (W // 4), which is
    the N of gamma; all weights are N(0, 1). With ``readout="global"`` features are averaged over
    pixels in place of flattened, and the fan-in is N.

    Parameters, in order: ``conv1``, ``bias1``, ``conv2``, ``bias2``, ``readout``; biases one per
    channel.

    Args:
        in_channels: channels of the image.
        image_size: side of the image, or (height, width), at least 4.
        outputs: C.
        width: channels of both convolutions.
        readout: ``"flatten"`` or ``"global"``, as in `theory.infinite_width.cnn_kernels`, whose
            default is the other one: name it in both when you compare.
        activation, bias, gamma0, parameterization, centered, normalised, seed, dtype: as in `MLP`.

    Raises:
        ValueError: for a size below one, an image below 4 x 4, or an unknown name.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | tuple[int, int],
        outputs: int,
        *,
        width: int,
        activation: str = "relu",
        bias: bool = False,
        gamma0: float = 1.0,
        parameterization: Parameterization = "mean-field",
        centered: bool = True,
        normalised: bool | None = None,
        readout: Literal["flatten", "global"] = "flatten",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        in_channels, outputs = positive("in_channels", in_channels), positive("outputs", outputs)
        width = positive("width", width)
        height, breadth = (image_size,) * 2 if isinstance(image_size, int) else image_size
        if min(height, breadth) < 4:
            raise ValueError(
                f"two poolings need images of at least 4 x 4, got {height} x {breadth}."
            )
        if readout not in ("flatten", "global"):
            raise ValueError(f"unknown readout {readout!r}: choose flatten or global.")
        features = width * ((height // 4) * (breadth // 4) if readout == "flatten" else 1)
        phi = named_activation(activation)
        scales = scaling(parameterization, features, gamma0)

        weights: list[Weight] = []
        for layer, channels in ((1, in_channels), (2, width)):
            deviation = scales.deviation(9 * channels)
            weights.append(Weight(f"conv{layer}", (width, channels, 3, 3), deviation))
            if bias:
                weights.append(Weight(f"bias{layer}", (width,), scales.bias_deviation))
        weights.append(Weight("readout", (outputs, features), scales.readout_deviation))

        super().__init__(gaussian(weights, seed), scales, centered=centered, dtype=dtype)
        self.in_channels, self.image_size, self.outputs = in_channels, (height, breadth), outputs
        self.width, self.activation, self.bias = width, phi, bias
        self.readout_over = readout
        self.normalised = normalisation(
            normalised, power=phi.power, depth=2, explicit=scales.explicit
        )
        self._phi_scale = phi.scale if self.normalised else 1.0
        self._factors = (
            scales.multiplier(9 * in_channels),
            scales.multiplier(9 * width) * self._phi_scale,
        )

    def extra_repr(self) -> str:
        """Sizes and choices, for `print(net)`."""
        height, breadth = self.image_size
        return (
            f"{self.in_channels} x {height} x {breadth} -> 2 x {self.width} "
            f"{self.activation.name} -> {self.outputs}, {self.parameterization}, "
            f"readout={self.readout_over}, centered={self.centered}"
        )

    def features(
        self, x: Float[Tensor, "n c h w"], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n C"]]:
        """Preactivations ``conv1`` (n, N, H, W) and ``conv2`` (n, N, H/2, W/2); read-out sum."""
        expected = (self.in_channels, *self.image_size)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"the network takes (n, {', '.join(map(str, expected))}) inputs, "
                f"got {tuple(x.shape)}: give a batch of images, or build the network for that size."
            )
        first = F.conv2d(x * self._factors[0], tensors["conv1"], tensors.get("bias1"), padding=1)
        h = F.avg_pool2d(self.activation(first), 2) * self._factors[1]
        second = F.conv2d(h, tensors["conv2"], tensors.get("bias2"), padding=1)
        h = self._read(second)
        readout = F.linear(h, tensors["readout"]) * self._phi_scale
        return {"conv1": first, "conv2": second}, readout

    def last_features(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n F"]:
        """What the read-out sums, at the present parameters; their Gram matrix over F is Phi^2."""
        second = self.preactivations(x)["conv2"]
        return self._read(second) * self._phi_scale

    def _read(self, second: Float[Tensor, "n N h w"]) -> Float[Tensor, "n F"]:
        h = F.avg_pool2d(self.activation(second), 2)
        return h.mean((2, 3)) if self.readout_over == "global" else h.flatten(1)
