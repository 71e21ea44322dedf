"""Convolutional models."""

import torch
from torch import nn
from torch.nn import functional as F

from ntkscale import networks
from tests.ntk.program import SAMPLES, Entry, Program, parameter


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def cnn() -> nn.Module:
    return chain(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 3, 3, bias=False),
        nn.GELU(), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.one = nn.Conv2d(a, b, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(b)
        self.two = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(b)
        self.short = chain(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        h = F.relu(self.norm1(self.one(x)), inplace=True)
        return F.relu(self.norm2(self.two(h)) + self.short(x))


def resnet() -> nn.Module:
    return chain(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), Block(3, 3, 1), Block(3, 4, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).eval()  # fmt: skip


def unet() -> Program:
    def forward(m, x):
        a = torch.tanh(m.down1(x))
        b = torch.tanh(m.down2(F.max_pool2d(a, 2)))
        c = torch.cat([m.up(b), a], 1)
        return m.out(torch.tanh(c)).mean((2, 3))

    return Program(
        forward,
        down1=nn.Conv2d(1, 3, 3, padding=1),
        down2=nn.Conv2d(3, 4, 3, padding=1),
        up=nn.ConvTranspose2d(4, 3, 2, stride=2),
        out=nn.Conv2d(6, 2, 1),
    )


def channels_last() -> nn.Module:
    return cnn().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def per_sample_kernels() -> Program:
    """Every sample convolves itself with its own kernel: samples become groups of channels."""

    def forward(m, x):
        n, c, h, w = x.shape
        kernel = m.make(x.mean((2, 3))).reshape(n * 2, c, 3, 3)
        y = F.conv2d(x.reshape(1, n * c, h, w), kernel, groups=n).reshape(n, 2, -1)
        return m.head(torch.tanh(y).mean(2))

    return Program(forward, make=nn.Linear(2, 36), head=nn.Linear(2, 2))


def standardised_weights() -> Program:
    def forward(m, x):
        w = m.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 0.1)
        return F.conv2d(x, w, m.conv.bias).tanh().mean((2, 3))

    return Program(forward, conv=nn.Conv2d(2, 3, 3))


def frames() -> Program:
    """A video: frames are merged with samples for the convolution, and taken apart behind it."""

    def forward(m, x):
        h = torch.relu(m.conv(x.flatten(0, 1))).mean((2, 3))
        return m.head(h.unflatten(0, x.shape[:2]).flatten(1))

    return Program(forward, conv=nn.Conv2d(2, 3, 3), head=nn.Linear(9, 2))


def auto_encoder() -> Program:
    """The decoder is the transpose of the encoder, with the same weight."""

    def forward(m, x):
        h = torch.tanh(F.conv2d(x, m.w, stride=2))
        return F.conv_transpose2d(h, m.w, m.b, stride=2).mean((2, 3))

    return Program(forward, w=parameter(4, 2, 3, 3, scale=0.5), b=parameter(2))


def patches() -> Program:
    def forward(m, x):
        columns = F.unfold(x, 2, stride=2)
        return torch.tanh(m.w @ columns).mean(2)

    return Program(forward, w=parameter(3, 8))


def pooled(*layers: nn.Module) -> nn.Sequential:
    """The layers, a nonlinearity, and the mean over all positions."""

    def mean(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)

    return chain(*layers, nn.Tanh(), Program(mean))


IMAGES: dict[str, Entry] = {
    "cnn": Entry(cnn, (2, 8, 8)),
    "cnn, channels last": Entry(channels_last, (2, 8, 8)),
    "max pooling": Entry(
        lambda: chain(
            nn.Conv2d(1, 4, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(4, 3, 2),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(3, 2),
        ),
        (1, 8, 8),
    ),
    "grouped strided conv": Entry(
        lambda: pooled(
            nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(6, 3, (1, 2), stride=(2, 1), groups=3),
        ),
        (4, 6, 7),
    ),
    "depthwise conv": Entry(
        lambda: pooled(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.GELU(), nn.Conv2d(6, 2, 1)),
        (3, 5, 5),
    ),
    "dilated conv": Entry(
        lambda: pooled(nn.Conv2d(2, 3, 3, dilation=(2, 1), padding=2)), (2, 6, 6)
    ),
    "conv, one kernel as large as the image": Entry(
        lambda: chain(nn.Conv2d(2, 4, 5), nn.Flatten(), nn.Tanh(), nn.Linear(4, 2)), (2, 5, 5)
    ),
    "conv, same padding": Entry(
        lambda: pooled(nn.Conv2d(2, 3, (1, 3), padding="same", dilation=(1, 2))), (2, 5, 5)
    ),
    "circular padding": Entry(
        lambda: pooled(
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.Conv2d(3, 2, 3)
        ),
        (2, 5, 5),
    ),
    "reflected padding": Entry(
        lambda: pooled(nn.Conv1d(2, 3, 3, padding=2, padding_mode="reflect")), (2, 5)
    ),
    "conv1d": Entry(
        lambda: pooled(nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv1d(4, 2, 2)),
        (3, 9),
    ),
    "conv1d of as many channels as samples": Entry(
        lambda: Program(
            lambda m, x: m.conv(x.transpose(1, 2)).tanh().mean(2), conv=nn.Conv1d(4, 3, 2)
        ),
        (SAMPLES, 4),
    ),
    "conv3d": Entry(
        lambda: pooled(
            nn.Conv3d(2, 4, 2, groups=2, padding=(0, 1, 0)), nn.ReLU(), nn.Conv3d(4, 2, 2)
        ),
        (2, 4, 3, 4),
    ),
    "transposed conv1d": Entry(
        lambda: pooled(
            nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, padding=1, groups=2),
            nn.ReLU(),
            nn.ConvTranspose1d(6, 2, 2, dilation=2),
        ),
        (4, 4),
    ),
    "transposed conv2d": Entry(
        lambda: pooled(
            nn.ConvTranspose2d(2, 4, 3, stride=(2, 3), output_padding=(1, 0), groups=2),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 2, 2, bias=False),
        ),
        (2, 3, 3),
    ),
    "transposed conv3d": Entry(lambda: pooled(nn.ConvTranspose3d(2, 3, 2, stride=2)), (2, 2, 2, 3)),
    "group norm": Entry(
        lambda: pooled(nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
        (2, 5, 5),
    ),
    "instance norm": Entry(
        lambda: pooled(
            nn.Conv2d(2, 3, 2), nn.InstanceNorm2d(3, affine=True), nn.ReLU(), nn.Conv2d(3, 2, 1)
        ),
        (2, 5, 5),
    ),
    "instance norm with statistics": Entry(
        lambda: pooled(
            nn.Conv1d(2, 3, 2),
            nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
            nn.ReLU(),
            nn.Conv1d(3, 2, 1),
        ).eval(),
        (2, 6),
    ),
    "ResNet with batch norm in eval": Entry(resnet, (2, 6, 6)),
    "U-Net": Entry(unet, (1, 6, 6)),
    "kernels made for each sample": Entry(per_sample_kernels, (2, 5, 5)),
    "standardised kernels": Entry(standardised_weights, (2, 5, 5)),
    "frames merged with samples": Entry(frames, (3, 2, 4, 4)),
    "tied auto-encoder": Entry(auto_encoder, (2, 5, 5)),
    "patches times a matrix": Entry(patches, (2, 4, 4)),
    "upsampling and pixel shuffle": Entry(
        lambda: pooled(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(2, 8, 3),
            nn.PixelShuffle(2),
            nn.Tanh(),
            nn.Conv2d(2, 2, 2),
        ),
        (2, 3, 3),
    ),
    "PReLU over images": Entry(
        lambda: pooled(nn.Conv2d(2, 3, 3), nn.PReLU(3), nn.Conv2d(3, 2, 1)), (2, 4, 4)
    ),
    "linear over channels": Entry(
        lambda: Program(
            lambda m, x: m.f(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).tanh().mean((2, 3)),
            f=nn.Linear(3, 2),
        ),
        (3, 4, 2),
    ),
    "CNN of ntkscale": Entry(
        lambda: networks.CNN(2, 4, 2, width=3, bias=True, centered=True), (2, 4, 4)
    ),
    "ResNet of ntkscale": Entry(
        lambda: networks.ResNet(2, 2, width=3, blocks=3, bias=True), (2, 4, 4)
    ),
}
