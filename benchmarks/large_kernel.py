"""The exact kernel of a whole training set, streamed to disk: minutes, GFLOP/s, memory.

    python benchmarks/large_kernel.py --out /tmp/kernel.npy            # 60,000 x 60,000, 14.4 GB
    python benchmarks/large_kernel.py --out /tmp/kernel.npy --samples 8192 --verify
    torchrun --nproc-per-node 2 benchmarks/large_kernel.py --out /tmp/kernel.npy --threads 1

Fashion-MNIST's training set and a fully connected ReLU network, float32. A run that is killed goes
on when the command is repeated. Multiply-adds are counted as forward and backward products once and
half of each Gram matrix; a GFLOP is half a thousand million of them.
"""

import argparse
import itertools
import os
import resource
import time
from pathlib import Path

import torch
from torch import nn

from ntkscale import ntk
from ntkscale.reporting import Progress
from ntkscale.tasks import images


def network(width: int, depth: int, outputs: int) -> nn.Sequential:
    """784 inputs, `depth` hidden layers, the initialisation of `nn.Linear` with seed 0."""
    torch.manual_seed(0)
    sizes = [784] + [width] * depth + [outputs]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def multiply_adds(n: int, width: int, depth: int, outputs: int) -> float:
    """Of the traced kernel."""
    sizes = [784] + [width] * depth + [outputs]
    maps = [a * b for a, b in itertools.pairwise(sizes)]
    passes = n * (sum(maps) + outputs * sum(maps[1:]))
    return passes + n * n / 2 * (sum(sizes[:-1]) + outputs * sum(sizes[1:-1]))


def main() -> None:
    """Compute, and say what it took."""
    parser = argparse.ArgumentParser(description="The exact kernel of a training set")
    parser.add_argument("--out", type=Path, required=True, help="the .npy file")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--memory", type=float, default=1.0, help="budget in GiB")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--verify", action="store_true", help="read the file back and check it")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    data = images("fashion-mnist", size=chosen.samples, test_size=10)
    x = data.inputs.flatten(1)
    model = network(chosen.width, chosen.depth, chosen.outputs)
    started = time.perf_counter()
    with Progress(unit="million pairs") as shown:
        ntk.gram(
            model,
            x,
            out=chosen.out,
            memory=int(chosen.memory * 2**30),
            progress=lambda done, total: shown.update(done / 1e6, total / 1e6, "kernel"),
        )
    seconds = time.perf_counter() - started
    if int(os.environ.get("RANK", "0")):
        return
    work = multiply_adds(len(x), chosen.width, chosen.depth, chosen.outputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(x):,} samples, {chosen.outputs} outputs: {seconds / 60:.1f} minutes, "
        f"{2 * work / seconds / 1e9:.0f} GFLOP/s, peak memory of this process {peak:.2f} GiB"
    )
    if chosen.verify:
        started = time.perf_counter()
        damaged = ntk.verify(chosen.out)
        print(f"{len(damaged)} damaged blocks; checked in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
