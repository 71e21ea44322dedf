"""How much faster one batched ensemble trains than its members one after the other.

    python benchmarks/ensemble_speed.py [--members 8] [--steps 30] [--threads 1] [--device cpu]

Prints, for several networks, the time of a step of all members in both ways and their ratio. The
two ways alternate within one run, and the best of three repetitions counts, so that a busy machine
disturbs both alike. The last column is how far the parameters are apart afterwards.
"""

import argparse
import time
from collections.abc import Callable

import torch

from ntkscale.networks import CNN, MLP, Network
from ntkscale.tasks import Task, circle
from ntkscale.training import Ensemble, Optimisation, Trainer


def random_images(points: int) -> Task:
    """Inputs and targets of the shape of a small image task."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(points, 1, 28, 28, generator=random)
    return Task("images", inputs, torch.randn(points, 10, generator=random))


def cases() -> list[tuple[str, Task, int | None, Callable[[int, float], Network]]]:
    """Name, task, batch size, and the network for a seed and a gamma0."""
    ring = circle(q=0.75, points=256, dtype=torch.float64)
    pictures = random_images(512)

    def mlp(width: int, depth: int) -> Callable[[int, float], Network]:
        return lambda seed, gamma0: MLP(
            2,
            1,
            width=width,
            depth=depth,
            bias=True,
            gamma0=gamma0,
            seed=seed,
            dtype=torch.float64,
        )

    def cnn(width: int) -> Callable[[int, float], Network]:
        return lambda seed, gamma0: CNN(1, 28, 10, width=width, gamma0=gamma0, seed=seed)

    def wide(width: int) -> Callable[[int, float], Network]:
        return lambda seed, gamma0: MLP(
            784, 10, width=width, depth=2, gamma0=gamma0, seed=seed, dtype=torch.float32
        )

    return [
        *((f"circle, MLP 1 x {n}, batch 256", ring, None, mlp(n, 1)) for n in (32, 128, 1024)),
        *((f"circle, MLP 3 x {n}, batch 32", ring, 32, mlp(n, 3)) for n in (16, 32, 128)),
        *((f"28 x 28, MLP 2 x {n}, batch 32", pictures, 32, wide(n)) for n in (64, 256)),
        ("28 x 28, CNN 8, batch 32", pictures, 32, cnn(8)),
    ]


def seconds_per_step(trainers: list[Trainer], steps: int, device: torch.device) -> float:
    """Wall time in which each trainer makes one step."""
    started = time.perf_counter()
    for trainer in trainers:
        trainer.run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)

    print(f"{options.members} members, {options.threads} threads, {device}; ms per step of all")
    print(f"{'network':36s} {'loop':>8s} {'ensemble':>9s} {'speed-up':>9s} {'apart':>9s}")
    for name, task, batch_size, build in cases():
        optimisation = Optimisation(steps=options.steps, learning_rate=0.05, batch_size=batch_size)
        best, apart = [float("inf"), float("inf")], 0.0
        for _ in range(3):
            pairs = [(seed, 0.5 + 0.1 * seed) for seed in range(options.members)]
            nets, twins = ([build(*pair).to(device) for pair in pairs] for _ in range(2))
            loop = [Trainer(net, task, optimisation) for net in nets]
            together = [Trainer(Ensemble(twins), task, optimisation)]
            for way, trainers in enumerate((loop, together)):
                best[way] = min(best[way], seconds_per_step(trainers, options.steps, device))
            for net, twin in zip(nets, twins, strict=True):
                for a, b in zip(net.parameters(), twin.parameters(), strict=True):
                    apart = max(apart, float((a - b).detach().abs().max()))
        loop_ms, ensemble_ms = (1e3 * seconds for seconds in best)
        ratio = loop_ms / ensemble_ms
        print(f"{name:36s} {loop_ms:8.2f} {ensemble_ms:9.2f} {ratio:8.2f}x {apart:9.1e}")


if __name__ == "__main__":
    main()
