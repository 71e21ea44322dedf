"""Attack 10,000 test images through a ten-class kernel fitted to 4,000, and what it costs.

    python benchmarks/kernel_attack.py [--train 4000] [--test 10000] [--pgd 10] [--threads 2]

ReLU's infinite-width kernel of one hidden layer on Fashion-MNIST in [0, 1] (random pixels and
labels where the files are missing), trained to the end, attacked by FGSM and PGD within 8/255.
Under 5 minutes on two cores and 6 GiB.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ntkscale.robustness import (
    InfiniteWidthKernel,
    KernelPredictor,
    Threat,
    fgsm,
    pgd,
    random_signs,
    robust_accuracy,
)
from ntkscale.tasks.sources import load_raw


def images(count: int, part: str) -> tuple[Tensor, Tensor]:
    """Pixels (n, 1, 28, 28) in [0, 1], float32, and labels."""
    random = np.random.default_rng(len(part))
    try:
        raw = load_raw("fashion-mnist", None, False)
    except FileNotFoundError:
        print("no Fashion-MNIST here: random pixels and labels")
        pixels = random.random((count, 1, 28, 28), dtype=np.float32)
        return torch.from_numpy(pixels), torch.from_numpy(random.integers(10, size=count))
    pixels = raw.train_images if part == "train" else raw.test_images
    labels = raw.train_labels if part == "train" else raw.test_labels
    chosen = random.permutation(len(labels))[:count]
    return torch.from_numpy(pixels[chosen]).float() / 255, torch.from_numpy(labels[chosen])


def peak_gib() -> float:
    """Most memory this process ever held (VmHWM)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def clocked(name: str, work: Callable[[], object]) -> object:
    """Do it, and print its seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{name}: {wall:.1f} s ({processor:.1f} s of processor), peak {peak_gib():.2f} GiB")
    return result


def main() -> None:
    """Print seconds, memory and accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--pgd", type=int, default=10, help="steps; 0: FGSM alone")
    parser.add_argument("--time", type=float, default=math.inf, help="flow time")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (x, labels), (test, test_labels) = images(args.train, "train"), images(args.test, "test")
    targets = torch.eye(10, dtype=torch.float64)[labels] - 0.1

    begin = time.perf_counter()
    predictor = clocked("fit", lambda: KernelPredictor(InfiniteWidthKernel(), x, targets))
    assert isinstance(predictor, KernelPredictor)
    f, threat = predictor.at(args.time), Threat(8 / 255)
    attacks: dict[str, Callable[..., Tensor]] = {
        "random signs": lambda model, x, labels: random_signs(x, threat),
        "FGSM": partial(fgsm, threat=threat),
    }
    if args.pgd:
        attacks[f"PGD-{args.pgd}"] = partial(pgd, threat=threat, steps=args.pgd)
    for name, attack in attacks.items():
        found = clocked(name, partial(robust_accuracy, f, test, test_labels, attack))
        print(f"  clean {found.clean:.4f}, {name} {found.robust:.4f}")  # pyright: ignore[reportAttributeAccessIssue]
    print(f"all: {time.perf_counter() - begin:.1f} s, peak {peak_gib():.2f} GiB")


if __name__ == "__main__":
    main()
