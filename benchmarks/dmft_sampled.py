"""`theory.dmft.solve` against the published algorithm, at equal error of the kernels.

    OMP_NUM_THREADS=1 python -m benchmarks.dmft_sampled

The truth is `solve` with many samples, and networks of finite width say whether it is one. Errors
are root mean squares over seeds and over all kernels, relative. Ours are given as many samples as
make the error no larger than the published algorithm's.
"""

import argparse
import time

import torch
from torch import Tensor

from benchmarks.dmft_alternating import alternating
from ntkscale.theory import dmft
from ntkscale.theory.activations import activation


def error(kernels: list[Tensor], truth: list[Tensor]) -> float:
    """Root mean square of relative distances."""
    squares = [float(((a - b).norm() / b.norm()) ** 2) for a, b in zip(kernels, truth, strict=True)]
    return (sum(squares) / len(squares)) ** 0.5


def matrices(solution: dmft.Solution) -> list[Tensor]:
    """All kernels, as matrices over (time, point)."""
    return [k.flatten(2).flatten(0, 1) for k in (*solution.phi, *solution.g)]


def compare(name: str, depth: int, points: int, steps: int, gamma0: float, seeds: int) -> None:
    """One row of the table."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(points, 2 * points, generator=generator, dtype=torch.float64)
    y = torch.ones(points, dtype=torch.float64)
    y[: points // 2] = -1
    phi = activation(name)
    settings = {"depth": depth, "gamma0": gamma0, "learning_rate": 4.0 / steps * points / 4}
    truth = matrices(
        dmft.solve(x, y, activation=phi, steps=steps, samples=1 << 17, seed=99, **settings)
    )
    theirs, seconds = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        solved = alternating(x @ x.T / x.shape[1], y, phi, times=steps + 1, seed=seed, **settings)
        seconds.append(time.perf_counter() - started)
        theirs.append(error([*solved.phi, *solved.g], truth))
    peer, peer_seconds = _rms(theirs), sum(seconds) / seeds
    for samples in (768, 1024, 2048, 4096, 8192, 16384):
        ours, seconds = [], []
        for seed in range(seeds):
            started = time.perf_counter()
            solution = dmft.solve(
                x, y, activation=phi, steps=steps, samples=samples, seed=seed, **settings
            )
            seconds.append(time.perf_counter() - started)
            ours.append(error(matrices(solution), truth) if solution.converged else float("inf"))
        if _rms(ours) <= peer:
            break
    mine = sum(seconds) / seeds
    print(
        f"{name:5} L={depth} P={points} T={steps + 1:3} gamma0={gamma0}: published "
        f"{peer:.3f} in {peer_seconds:7.1f} s, ours {_rms(ours):.3f} in {mine:6.2f} s "
        f"({samples} samples), {peer_seconds / mine:.0f} times faster",
        flush=True,
    )


def _rms(values: list[float]) -> float:
    return (sum(value**2 for value in values) / len(values)) ** 0.5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--full",
        action="store_true",
        help="larger cases too; hours, nearly all of them the published algorithm's",
    )
    arguments = parser.parse_args()
    cases = [("tanh", 2, 4, 20, 1.0), ("tanh", 3, 5, 30, 1.0)]
    if arguments.full:
        cases += [("erf", 2, 8, 40, 0.5), ("tanh", 3, 10, 60, 1.0), ("gelu", 3, 10, 100, 1.0)]
    for case in cases:
        compare(*case, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
