"""What following the kernel costs: tracker seconds over training seconds, at the default schedule.

    python benchmarks/tracker_cost.py [--threads 2] [--seconds 20]

Each row trains a network by plain SGD for as many steps as fit the given seconds, with the
snapshots that `tracking.default_steps` puts into a run of that length, and reads the tracker's own
clock.
"""

import argparse
import itertools
import time

import torch
from torch import nn

from ntkscale.tracking import KernelTracker, default_steps
from ntkscale.tracking.cost import snapshot_in_steps


def mlp(*widths: int) -> nn.Module:
    """Fully connected ReLU network."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(width: int) -> nn.Module:
    """conv, pool, conv, pool, linear on 28 x 28 pixels and 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(49 * width, 10),
    )


CASES = {
    # name: (model, sample shape, outputs, batch, probe points)
    "MLP 64-64-10": (lambda: mlp(64, 64, 10), (64,), 10, 128, 64),
    "MLP 64-256-256-10": (lambda: mlp(64, 256, 256, 10), (64,), 10, 128, 64),
    "MLP 2-1024-1, full batch": (lambda: mlp(2, 1024, 1), (2,), 1, 256, 256),
    "MLP 2-4096-1, full batch": (lambda: mlp(2, 4096, 1), (2,), 1, 256, 256),
    "CNN width 32": (lambda: cnn(32), (1, 28, 28), 10, 128, 64),
    "CNN width 128": (lambda: cnn(128), (1, 28, 28), 10, 128, 64),
}


def train(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, tracker: KernelTracker | None
) -> float:
    """Seconds for `steps` steps of SGD, with the tracker's."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    started = time.perf_counter()
    for step in range(steps + 1):
        if tracker is not None:
            tracker.step(step)
        optimiser.zero_grad()
        (model(x) - y).square().mean().backward()
        optimiser.step()
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Cost of the kernel tracker.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="training time a row")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    head = f"{'network':<26}{'steps':>8}{'step ms':>9}{'snapshots':>11}{'each ms':>9}"
    print(head + f"{'in steps':>10}{'counted':>9}{'tracker/training':>18}")
    for name, (build, shape, outputs, batch, probe) in CASES.items():
        model, x, y = build(), torch.randn(batch, *shape), torch.randn(batch, outputs)
        train(model, x, y, 3, None)
        step_seconds = train(model, x, y, 9, None) / 10
        steps = max(20, int(arguments.seconds / step_seconds))
        sizes = {"batch": batch, "probe": probe, "outputs": outputs}
        chosen = default_steps(steps, **sizes, model=model, inputs=x)
        counted = snapshot_in_steps(model, x, **sizes)
        inputs, targets = torch.randn(probe, *shape), torch.randn(probe, outputs)
        # The first call ever also imports; that belongs to no run.
        KernelTracker(model, inputs, targets).measure()
        tracker = KernelTracker(model, inputs, targets, measure_at=chosen)
        total = train(model, x, y, steps, tracker)
        training = total - tracker.seconds
        each = tracker.seconds / len(tracker.history)
        print(
            f"{name:<26}{steps:>8}{1e3 * training / steps:>9.2f}{len(tracker.history):>11}"
            f"{1e3 * each:>9.1f}{each / (training / steps):>10.1f}{counted:>9.1f}"
            f"{tracker.seconds / training:>18.2%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
