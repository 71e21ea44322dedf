"""What is measured: networks, sample counts and kernels, and the small sizes of a smoke test.

Plain Python alone, so that every environment can read it.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

Output = Literal["trace", "full"]


@dataclass(frozen=True)
class Case:
    """One kernel to compute.

    Attributes:
        workload: W1 to W6.
        title: the network in words.
        kind: which builder of `torch_models` and `jax_models` makes it.
        sizes: what the builder takes.
        sample: shape of one sample.
        n: samples.
        output: the kernel, as `ntk.gram` names it.
        classes: outputs of the network.
    """

    workload: str
    title: str
    kind: str
    sizes: dict[str, Any]
    sample: tuple[int, ...]
    n: int
    output: Output
    classes: int

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.workload}-{self.n}-{self.output}"

    @property
    def model(self) -> str:
        """Cases of one model and one set of inputs share weights and inputs."""
        return f"{self.workload}-{self.n}"

    @property
    def kernel_bytes(self) -> int:
        """Size of the kernel in float32."""
        return 4 * self.n**2 * (self.classes**2 if self.output == "full" else 1)


def _mlp(workload: str, widths: list[int], n: int, output: Output) -> Case:
    title = f"MLP {'-'.join(map(str, widths))}, ReLU, biases"
    return Case(
        workload, title, "mlp", {"widths": widths}, (widths[0],), n, output, classes=widths[-1]
    )


def _cnn(workload: str, channels: list[int], image: int, n: int, output: Output) -> Case:
    title = (
        f"CNN {'-'.join(map(str, channels))} on {image} x {image}: 3 x 3 convolutions with padding "
        "1, ReLU, 2 x 2 max pooling between, global average pooling, linear 10"
    )
    sizes = {"channels": channels, "classes": 10}
    return Case(workload, title, "cnn", sizes, (channels[0], image, image), n, output, classes=10)


def _resnet(workload: str, image: int, classes: int, n: int) -> Case:
    title = (
        f"torchvision's ResNet-18 on {image} x {image}, 3 x 3 stem without pooling, batch norm in "
        f"evaluation mode, {classes} outputs"
    )
    sizes = {"classes": classes}
    return Case(workload, title, "resnet18", sizes, (3, image, image), n, "trace", classes)


def _transformer(
    workload: str, width: int, tokens: int, heads: int, hidden: int, blocks: int, n: int
) -> Case:
    title = (
        f"pre-norm transformer encoder, {blocks} layers, d = {width}, {tokens} tokens, {heads} "
        f"heads, MLP {hidden} with GELU, mean pooling, linear 10; fixed positions"
    )
    features = 48
    sizes = {
        "features": features,
        "width": width,
        "tokens": tokens,
        "heads": heads,
        "hidden": hidden,
        "blocks": blocks,
        "classes": 10,
    }
    return Case(workload, title, "transformer", sizes, (tokens, features), n, "trace", classes=10)


W1 = [784, 1024, 1024, 1024, 10]
FULL_SIZE = [
    _mlp("W1", W1, 256, "trace"),
    _mlp("W1", W1, 256, "full"),
    _mlp("W1", W1, 1024, "trace"),
    _mlp("W1", W1, 1024, "full"),
    _mlp("W2", [64, *[2048] * 4, 1], 2048, "trace"),
    _cnn("W3", [3, 32, 64, 128], 32, 128, "trace"),
    _cnn("W3", [3, 32, 64, 128], 32, 128, "full"),
    _resnet("W4", 32, 10, 32),
    _mlp("W5", [784, *[512] * 3, 1], 8192, "trace"),
    _transformer("W6", 128, 64, 4, 512, 4, 128),
]

QUICK = [
    _mlp("W1", [20, 32, 32, 32, 10], 16, "trace"),
    _mlp("W1", [20, 32, 32, 32, 10], 16, "full"),
    _mlp("W2", [8, *[64] * 4, 1], 32, "trace"),
    _cnn("W3", [3, 4, 8, 16], 8, 8, "trace"),
    _cnn("W3", [3, 4, 8, 16], 8, 8, "full"),
    _resnet("W4", 16, 4, 4),
    _mlp("W5", [20, *[32] * 3, 1], 64, "trace"),
    _transformer("W6", 32, 16, 4, 64, 2, 8),
]


def cases(quick: bool) -> list[Case]:
    """All cases, at full or at smoke-test size."""
    return QUICK if quick else FULL_SIZE


def find(name: str, quick: bool) -> Case:
    """The case of that name."""
    return next(case for case in cases(quick) if case.name == name)


def chosen(names: list[str], quick: bool) -> list[Case]:
    """Cases whose name begins with one of the given ones: W1, W1-256, W1-256-trace."""
    found = [
        case
        for case in cases(quick)
        if not names or any((case.name + "-").startswith(name + "-") for name in names)
    ]
    if not found:
        known = ", ".join(case.name for case in cases(quick))
        raise SystemExit(f"no workload is called {' or '.join(names)}; there are {known}")
    return found


def parameter_count(case: Case) -> int:
    """Parameters of the network, to tell how many Jacobian rows fit into memory."""
    sizes = case.sizes
    if case.kind == "mlp":
        widths = sizes["widths"]
        return sum((a + 1) * b for a, b in itertools.pairwise(widths))
    if case.kind == "cnn":
        channels = sizes["channels"]
        convolutions = sum((9 * a + 1) * b for a, b in itertools.pairwise(channels))
        return convolutions + (channels[-1] + 1) * sizes["classes"]
    if case.kind == "resnet18":
        return 11_168_832 + 513 * sizes["classes"]
    width, hidden = sizes["width"], sizes["hidden"]
    block = 4 * width * (width + 1) + 2 * width * hidden + width + hidden + 4 * width
    ends = (sizes["features"] + 1) * width + 2 * width + (width + 1) * sizes["classes"]
    return sizes["blocks"] * block + ends


def row_bytes(case: Case) -> int:
    """Bytes of one float32 Jacobian row: one output of one sample."""
    return 4 * parameter_count(case)
