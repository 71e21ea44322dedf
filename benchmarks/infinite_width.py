"""Infinite-width kernels: how far networks are from them, what they cost, how long series are.

python -m benchmarks.infinite_width
"""

import time

import torch

from ntkscale import ntk
from ntkscale.networks import MLP
from ntkscale.theory.activations import activation
from ntkscale.theory.infinite_width import cnn_kernels, kernels
from ntkscale.theory.infinite_width.hermite import HermiteSeries

WIDTHS = (64, 256, 1024)


def distances(name: str, depth: int, members: int = 20) -> list[float]:
    """Root mean square distance of one network's kernel, relative to the limit, by width."""
    x = torch.randn(8, 5, dtype=torch.float64)
    limit = kernels(x, depth=depth, activation=name, bias_variance=1.0).ntk
    rows = []
    for width in WIDTHS:
        squares = 0.0
        for seed in range(members):
            net = MLP(
                5,
                1,
                width=width,
                depth=depth,
                activation=name,
                bias=True,
                normalised=False,
                centered=False,
                seed=seed,
                dtype=torch.float64,
            )
            found = net.gamma.detach() ** 2 * ntk.gram(net, x)
            squares += float((found - limit).square().sum() / limit.square().sum()) / members
        rows.append(squares**0.5)
    return rows


def main() -> None:
    """Print the three tables."""
    torch.manual_seed(0)
    print("relative distance of one network's kernel at width", *WIDTHS)
    for name in ("relu", "tanh", "gelu"):
        for depth in (1, 3):
            print(f"  {name:6} depth {depth}:", *(f"{d:.3f}" for d in distances(name, depth)))

    print(f"seconds, {torch.get_num_threads()} threads")
    x = torch.nn.functional.normalize(torch.randn(2000, 20)) * 20**0.5
    for name in ("relu", "erf", "gelu", "tanh"):
        start = time.perf_counter()
        kernels(x, depth=3, activation=name)
        print(f"  2,000 inputs, depth 3, {name:6} {time.perf_counter() - start:.2f}")
    images = torch.randn(40, 1, 14, 14)
    start = time.perf_counter()
    cnn_kernels(images, depth=3)
    print(f"  40 images of 14 x 14, depth 3, relu {time.perf_counter() - start:.1f}")

    print("tanh by series: deviation of the field, order, error")
    series = HermiteSeries(activation("tanh"))
    for deviation in (0.3, 1.0, 2.0, 3.0, 5.0, 10.0):
        table, error = series.table(torch.tensor([deviation**2], dtype=torch.float64))
        print(f"  {deviation:4} {len(table) - 1:5} {error:.0e}")


if __name__ == "__main__":
    main()
