"""Theory of infinite width against networks that it has not seen.

    OMP_NUM_THREADS=1 python -m benchmarks.dmft_networks

For every depth, activation and gamma0 a new data set is drawn, the mean-field equations are solved
and networks of several widths and seeds are trained. A line says how far the kernels of the last
time are from theory at the largest width (mean over seeds, worst kernel), what Monte-Carlo error
theory and the mean over seeds have, and how the error of single networks falls with width. Bounds:
"pass" for 3 % and the standard error of theory, "pass (seeds)" for 3 % and two standard errors of
theory and the seeds together; the last lines also count kernels within two such errors without 3 %.
"""

import argparse
import math
import time
from dataclasses import dataclass
from itertools import product

import polars as pl
import torch

from ntkscale.experiments.dmft.finite_width import (
    at_times,
    compare,
    slopes,
    standard_error_of_mean,
)
from ntkscale.experiments.dmft.wide_networks import Descent
from ntkscale.theory.activations import activation
from ntkscale.theory.dmft import Solution, solve

BOUND = 0.03
POINTS, DIMENSION = 6, 10


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--activation", nargs="+", default=["tanh", "gelu", "relu"])
    parser.add_argument("--gamma0", type=float, nargs="+", default=[0.2, 1.0, 2.0])
    parser.add_argument("--width", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--seeds", type=int, default=8, help="networks of each width")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=0.15)
    parser.add_argument("--samples", type=int, default=16384, help="neurons of theory")
    parser.add_argument("--seed", type=int, default=2026, help="of the first data set")
    parser.add_argument("--theory-seed", type=int, help="of theory's neurons; else the data set's")
    options = parser.parse_args()
    print(
        "L  activation  gamma0  mse end (theory)  worst kernel  mean over seeds  theory se"
        "  seeds se  verdict  single network  slopes all kernels      seconds"
    )
    torch.set_num_threads(1)
    ladder = product(options.depth, options.activation, options.gamma0)
    frames = []
    kernels_seen: list[_Kernel] = []
    strict, passed, total = 0, 0, 0
    for number, (depth, name, gamma0) in enumerate(ladder):
        began = time.perf_counter()
        errors, theory = _case(options, options.seed + number, depth, name, gamma0)
        frames.append(errors.with_columns(case=pl.lit(number)))
        own = _kernels(errors, theory)
        _say(own, errors, theory, f"{depth}  {name:10s}  {gamma0:6.1f}", began)
        kernels_seen += own
        strict += all(kernel.strict for kernel in own)
        passed, total = passed + all(kernel.near for kernel in own), total + 1
    print(
        f"\ncases whose kernels are all within {BOUND:.0%} and the standard error of theory: "
        f"{strict} of {total}; within {BOUND:.0%} and 2 standard errors of theory and seeds: "
        f"{passed} of {total}"
    )
    count, ratios = len(kernels_seen), [kernel.mean / kernel.error for kernel in kernels_seen]
    print(
        f"kernels within {BOUND:.0%} and theory's error: {sum(k.strict for k in kernels_seen)} of "
        f"{count}; within 2 standard errors of theory and seeds alone: "
        f"{sum(ratio <= 2 for ratio in ratios)} of {count}; error / standard error: root mean "
        f"square {math.sqrt(sum(ratio**2 for ratio in ratios) / count):.2f} (chance alone: 1), "
        f"largest {max(ratios):.2f}"
    )
    pooled = pl.concat(frames)
    kernels = pooled.filter(pl.col("kernel") != "outputs")
    for part in ("all", "final"):
        mean = kernels.group_by("width", "seed", "part").agg(
            error=pl.col("error").log().mean().exp(), kernel=pl.lit("pooled")
        )
        for slope in slopes(mean.drop_nulls("seed"), part):
            low, high = slope.interval
            print(
                f"pooled over cases and kernels, {part}: width^-{slope.exponent:.3f} "
                f"[{low:.3f}, {high:.3f}], r^2 {slope.r_squared:.4f}"
            )


def _case(
    options: argparse.Namespace, seed: int, depth: int, name: str, gamma0: float
) -> tuple[pl.DataFrame, Solution]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(POINTS, DIMENSION, generator=generator, dtype=torch.float64)
    y = torch.randn(POINTS, generator=generator, dtype=torch.float64).sign()
    # As networks have it: ReLU of three layers and more at unit second moment.
    normalised = name == "relu" and depth > 2
    phi = activation(name)
    theory = solve(
        x,
        y,
        depth=depth,
        activation=phi.normalised() if normalised else phi,
        gamma0=gamma0,
        learning_rate=options.learning_rate,
        steps=options.steps,
        samples=options.samples,
        seed=seed if options.theory_seed is None else options.theory_seed,
    )
    descent = Descent(
        x,
        y,
        depth,
        name,
        gamma0,
        options.learning_rate,
        normalised=normalised,
        dtype=torch.float32,
    )
    seeds = range(1000 * seed, 1000 * seed + options.seeds)
    found = compare(at_times(theory, 7), descent, widths=options.width, seeds=seeds)
    # The same seed number at every case, so that cases can be pooled.
    relabelled = found.errors.with_columns(seed=pl.col("seed") - 1000 * seed)
    return relabelled, theory


@dataclass(frozen=True)
class _Kernel:
    """Error of the mean over seeds of one final kernel, and what it may owe to chance."""

    name: str
    mean: float
    theory: float
    seeds: float
    single: float

    @property
    def error(self) -> float:
        return math.hypot(self.theory, self.seeds)

    @property
    def strict(self) -> bool:
        return self.mean <= BOUND + self.theory

    @property
    def near(self) -> bool:
        return self.strict or self.mean <= BOUND + 2 * self.error


def _kernels(errors: pl.DataFrame, theory: Solution) -> list[_Kernel]:
    """Every final kernel at the largest width."""
    widest = errors.filter(
        (pl.col("width") == errors["width"].max())
        & (pl.col("part") == "final")
        & (pl.col("kernel") != "outputs")
    )
    stated = {name: theory.standard_error[f"{name}_at"][:, -1].tolist() for name in ("phi", "g")}
    found = []
    for name in dict.fromkeys(widest["kernel"].to_list()):
        own = widest.filter(pl.col("kernel") == name)
        single = own.filter(pl.col("seed").is_not_null())["error"].to_list()
        mean = float(own.filter(pl.col("seed").is_null())["error"][0])
        if name == "ntk":
            error = max(stated["phi"] + stated["g"])
        else:
            error = stated[name.rstrip("0123456789")][int(name.lstrip("phig")) - 1]
        seeds = standard_error_of_mean(single, mean)
        found.append(_Kernel(name, mean, error, seeds, sum(single) / len(single)))
    return found


def _say(
    kernels: list[_Kernel], errors: pl.DataFrame, theory: Solution, case: str, began: float
) -> None:
    """One line."""
    worst = max(kernels, key=lambda kernel: kernel.mean)
    found = [s for s in slopes(errors, "all") if s.kernel != "outputs"]
    each = " ".join("none" if slope.reason else f"{slope.exponent:.2f}" for slope in found)
    near = all(kernel.near for kernel in kernels)
    word = "pass" if all(k.strict for k in kernels) else "pass (seeds)" if near else "FAIL"
    print(
        f"{case}  {float(theory.mse[-1]):16.2e}  {worst.name:12s}  {worst.mean:15.4f}"
        f"  {worst.theory:9.4f}  {worst.seeds:8.4f}  {word:12s}  {worst.single:.4f}"
        f"  {each}  {time.perf_counter() - began:.0f}"
        + ("" if theory.converged else f"  {theory.message}"),
        flush=True,
    )


if __name__ == "__main__":
    main()
