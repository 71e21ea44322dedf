"""A residual convolutional network without batch normalisation."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ntkscale.networks.activations import activation as named_activation
from ntkscale.networks.initialisation import Weight, gaussian
from ntkscale.networks.network import Network, normalisation, positive
from ntkscale.networks.parameterization import Parameterization, scaling


class ResNet(Network):
    """Stem, residual blocks, global average pooling, linear read-out; no batch normalisation.

    `h = conv(x)`, then `h <- h + conv(phi(conv(phi(h)))) / sqrt(blocks)` block by block, then
    `f = w . mean over pixels of phi(h) / (gamma0 N)`. Convolutions are 3 x 3 with padding 1 and are
    divided by sqrt(9 C_in) in the forward pass; all have N = `width` channels. The image is halved
    by 2 x 2 average pooling after one and after two thirds of the blocks.

    The branches' 1/sqrt(blocks) keeps the output O(1) at any depth. In the standard
    parameterization the branches keep it and the convolutions are He initialised.

    Parameters, in order: ``stem``, ``block1a``, ``block1b``, ``block2a``, ... ``readout``, each
    convolution followed by its bias ``<name>_bias`` if there are biases.

    Args:
        in_channels: channels of the image; any image of at least 4 x 4.
        outputs: C.
        width: channels everywhere, and the N of gamma.
        blocks: number of residual blocks of two convolutions each.
        activation, bias, gamma0, parameterization, centered, normalised, seed, dtype: as in `MLP`;
            at 2 blocks + 1 hidden layers, nonlinearities are normalised by default.

    Raises:
        ValueError: for a size below one, or an unknown name.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        *,
        width: int,
        blocks: int = 3,
        activation: str = "relu",
        bias: bool = False,
        gamma0: float = 1.0,
        parameterization: Parameterization = "mean-field",
        centered: bool = True,
        normalised: bool | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        in_channels, outputs = positive("in_channels", in_channels), positive("outputs", outputs)
        width, blocks = positive("width", width), positive("blocks", blocks)
        phi = named_activation(activation)
        scales = scaling(parameterization, width, gamma0)

        weights: list[Weight] = []
        names = ["stem"] + [f"block{i}{part}" for i in range(1, blocks + 1) for part in "ab"]
        for name in names:
            channels = in_channels if name == "stem" else width
            deviation = scales.deviation(9 * channels)
            weights.append(Weight(name, (width, channels, 3, 3), deviation))
            if bias:
                weights.append(Weight(f"{name}_bias", (width,), scales.bias_deviation))
        weights.append(Weight("readout", (outputs, width), scales.readout_deviation))

        super().__init__(gaussian(weights, seed), scales, centered=centered, dtype=dtype)
        self.in_channels, self.outputs, self.width, self.blocks = (
            in_channels,
            outputs,
            width,
            blocks,
        )
        self.activation, self.bias = phi, bias
        self.normalised = normalisation(
            normalised, power=phi.power, depth=2 * blocks + 1, explicit=scales.explicit
        )
        self._phi_scale = phi.scale if self.normalised else 1.0
        self._stem_factor = scales.multiplier(9 * in_channels)
        self._factor = scales.multiplier(9 * width) * self._phi_scale
        self._pooled_after = {-(-blocks // 3), -(-2 * blocks // 3)} - {blocks}

    def extra_repr(self) -> str:
        """Sizes and choices, for `print(net)`."""
        return (
            f"{self.in_channels} -> {self.blocks} blocks x {self.width} {self.activation.name} -> "
            f"{self.outputs}, {self.parameterization}, centered={self.centered}"
        )

    def features(
        self, x: Float[Tensor, "n c h w"], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n C"]]:
        """Preactivations (n, N, h, w) by the layer whose output they are, and the read-out sum.

        ``stem`` and ``block<i>b`` name the residual stream after that layer.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"the network takes (n, {self.in_channels}, h, w) inputs, got {tuple(x.shape)}: "
                "give a batch of images, or build the network with that many channels."
            )
        h = self._convolve(x * self._stem_factor, "stem", tensors)
        preactivations = {"stem": h}
        for block in range(1, self.blocks + 1):
            inner = self._convolve(self.activation(h) * self._factor, f"block{block}a", tensors)
            branch = self._convolve(
                self.activation(inner) * self._factor, f"block{block}b", tensors
            )
            h = h + branch * self.blocks**-0.5
            preactivations[f"block{block}a"] = inner
            preactivations[f"block{block}b"] = h
            if block in self._pooled_after:
                h = F.avg_pool2d(h, 2)
        pooled = self.activation(h).mean(dim=(2, 3))
        return preactivations, F.linear(pooled, tensors["readout"]) * self._phi_scale

    @staticmethod
    def _convolve(h: Tensor, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return F.conv2d(h, tensors[name], tensors.get(f"{name}_bias"), padding=1)
