"""`theory.dmft.solve` against the published algorithm, at equal error of the kernels.

    python -m benchmarks.dmft_sampled [--full] [--tolerance] [--growth]

One thread. The truth is `solve` with many samples, and networks of finite width say whether it is
one. Errors are root mean squares over seeds and over all kernels, relative. Ours are given as many
samples as make the error no larger than the published algorithm's, up to 16,384.

`--growth` prints instead how the time of `solve` and `solve_linear` grows with T, P, L and S, each
by itself. `--tolerance` prints instead what `solve` leaves out, over sqrt(tolerance): errors
against linear theory, whose Gaussian fields have no scatter.
"""

import argparse
import math
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
        started = time.process_time()
        solved = alternating(x @ x.T / x.shape[1], y, phi, times=steps + 1, seed=seed, **settings)
        seconds.append(time.process_time() - started)
        theirs.append(error([*solved.phi, *solved.g], truth))
    peer, peer_seconds = _rms(theirs), sum(seconds) / seeds
    print(
        f"{name:5} L={depth} P={points} T={steps + 1:3} gamma0={gamma0}: published "
        f"{peer:.3f} in {peer_seconds:7.1f} s, ours ",
        end="",
        flush=True,
    )
    reached, mine = [], 0.0
    for samples in (512, 768, 1024, 2048, 4096, 8192, 16384):
        ours, seconds = [], []
        for seed in range(seeds):
            started = time.process_time()
            solution = dmft.solve(
                x, y, activation=phi, steps=steps, samples=samples, seed=seed, **settings
            )
            seconds.append(time.process_time() - started)
            ours.append(error(matrices(solution), truth) if solution.converged else float("inf"))
        mine = sum(seconds) / seeds
        reached.append(_rms(ours))
        if reached[-1] <= peer:
            ratio = f"{peer_seconds / mine:.1f} times faster"
            print(f"{reached[-1]:.3f} in {mine:6.2f} s ({samples} samples), {ratio}", flush=True)
            return
    print(f"{reached[-1]:.3f} in {mine:6.2f} s: not reached", flush=True)


def tolerances() -> None:
    """Relative errors of kernels and of the log of the mse, over sqrt(tolerance)."""
    print("  L gamma0 tolerance | kernels: rms  largest | log mse / log(mse / mse(0)): last")
    kernels, logs = [], []
    for depth in (1, 2, 3, 4):
        for gamma0 in (0.5, 1.0, 2.0):
            for tolerance in (1e-2, 1e-3):
                generator = torch.Generator().manual_seed(depth)
                x = torch.randn(6, 12, generator=generator, dtype=torch.float64)
                y = torch.randn(6, generator=generator, dtype=torch.float64).sign()
                # Well below the edge of stability, where any error is amplified.
                call = {"depth": depth, "gamma0": gamma0, "steps": 20}
                call["learning_rate"] = 0.4 / (depth + 1) / (1 + gamma0)
                exact = dmft.solve_linear(x, y, **call)
                found = dmft.solve(
                    x, y, activation="linear", samples=32768, tolerance=tolerance, **call
                )
                pairs = zip(matrices(found), matrices(exact), strict=True)
                root = tolerance**0.5
                errors = [float((a - b).norm() / b.norm()) / root for a, b in pairs]
                fallen = float((exact.mse[-1] / exact.mse[0]).log())
                off = abs(float((found.mse[-1] / exact.mse[-1]).log())) / abs(fallen) / root
                print(
                    f"{depth:3d} {gamma0:6.1f} {tolerance:9.0e} | {_rms(errors):12.2f} "
                    f"{max(errors):8.2f} | {off:8.2f}",
                    flush=True,
                )
                kernels += errors
                logs.append(off)
    print(
        f"all: rms {_rms(kernels):.2f}, largest {max(kernels):.2f}; log mse: rms {_rms(logs):.2f}"
    )


def growth() -> None:
    """Seconds of both solvers, and the power of each size that the last two of them show."""
    sampled = {
        "T": (21, 41, 81, 161),
        "P": (4, 8, 16, 32),
        "L": (2, 4, 8),
        "S": (2048, 8192, 32768),
    }
    linear = {"T": (51, 101, 201, 401), "P": (10, 20, 40, 80), "L": (2, 4, 8)}
    for name, sizes, base in (
        ("solve, tanh", sampled, {"T": 41, "P": 8, "L": 2, "S": 8192}),
        ("solve_linear", linear, {"T": 101, "P": 20, "L": 2}),
    ):
        print(f"{name}: {', '.join(f'{key} = {size}' for key, size in base.items())}")
        for key, values in sizes.items():
            seconds = [_seconds({**base, key: value}) for value in values]
            power = math.log(seconds[-1] / seconds[-2]) / math.log(values[-1] / values[-2])
            pairs = zip(values, seconds, strict=True)
            listed = ", ".join(f"{value:,}: {second:.2f} s" for value, second in pairs)
            print(f"  {key}  {listed}; last power {power:.1f}", flush=True)


def _seconds(size: dict[str, int]) -> float:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(size["P"], 2 * size["P"], generator=generator, dtype=torch.float64)
    y = torch.randn(size["P"], generator=generator, dtype=torch.float64).sign()
    call = {"depth": size["L"], "gamma0": 1.0, "steps": size["T"] - 1}
    call["learning_rate"] = 4.0 / size["T"]
    started = time.process_time()
    if "S" in size:
        dmft.solve(x, y, activation="tanh", samples=size["S"], **call)
    else:
        dmft.solve_linear(x, y, **call)
    return time.process_time() - started


def _rms(values: list[float]) -> float:
    return (sum(value**2 for value in values) / len(values)) ** 0.5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--full",
        action="store_true",
        help="larger cases too; hours, nearly all of them the published algorithm's",
    )
    parser.add_argument("--tolerance", action="store_true", help="what a tolerance leaves out")
    parser.add_argument("--growth", action="store_true", help="time against T, P, L and S")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.growth:
        return growth()
    if arguments.tolerance:
        return tolerances()
    cases = [("tanh", 2, 4, 20, 1.0), ("tanh", 3, 5, 30, 1.0)]
    if arguments.full:
        cases += [("erf", 2, 8, 40, 0.5), ("tanh", 3, 10, 60, 1.0), ("gelu", 3, 10, 100, 1.0)]
    for case in cases:
        compare(*case, seeds=arguments.seeds)
    return None


if __name__ == "__main__":
    main()
