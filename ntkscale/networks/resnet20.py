"""The residual network of CIFAR experiments, with batch normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ntkscale.networks.network import positive


class ResNet20(nn.Module):
    """Three stages of residual blocks with batch norm (He et al. 2016, arXiv 1512.03385, 4.2).

    A 3 x 3 stem, `blocks` blocks of two 3 x 3 convolutions at `width`, 2 `width` and 4 `width`
    channels, the image halved before the second and third stage, global average pooling, a linear
    read-out with bias. With three blocks a stage it has 20 layers. Shortcuts are free of
    parameters: where the shape changes they take every second pixel and pad channels with zeros.

    Standard parameterization only: He initialisation (fan-out), batch norm at 1 and 0, no gamma0.
    For networks without batch norm at any richness see `ResNet`.

    Args:
        in_channels: of the image, at least 4 x 4.
        outputs: C.
        width: channels of the first stage.
        blocks: a stage.
        seed: of the initial parameters.
        dtype: of parameters and output.

    Raises:
        ValueError: a size below one.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        *,
        width: int = 16,
        blocks: int = 3,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        in_channels, outputs = positive("in_channels", in_channels), positive("outputs", outputs)
        width, blocks = positive("width", width), positive("blocks", blocks)
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        channels, stages = width, []
        for stage in range(3):
            for block in range(blocks):
                out = width * 2**stage
                stages.append(_Block(channels, out, stride=2 if stage and not block else 1))
                channels = out
        self.blocks = nn.Sequential(*stages)
        self.readout = nn.Linear(channels, outputs)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                deviation = (2 / (module.out_channels * 9)) ** 0.5
                _draw(module.weight, deviation, generator)
            elif isinstance(module, nn.Linear):
                _draw(module.weight, module.in_features**-0.5, generator)
                nn.init.zeros_(module.bias)
        self.to(dtype)

    def forward(self, x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n C"]:
        """Logits."""
        h = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.readout(h.mean((2, 3)))


class _Block(nn.Module):
    """phi(norm(conv(phi(norm(conv(h))))) + shortcut(h))."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - channels

    def forward(self, h: Tensor) -> Tensor:
        branch = F.relu(self.first_norm(self.first(h)))
        branch = self.second_norm(self.second(branch))
        if self.more:
            h = F.pad(h[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(branch + h)


def _draw(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    values = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        weight.copy_(deviation * values)
