"""Time exponents of the solvable model over a grid of tasks and richness, against theory.

    python -m benchmarks.scaling_model_grid [--processes 2]

mse ~ t^-chi with chi = beta (lazy) or beta max(1, 2 / (1 + beta)) (rich), by least squares in
log-log on [1e2, 1e4] and [1e5, 1e9]. Bounds: lazy .01; rich .005 late and, for gamma >= 1, .02
early (.03 where |beta - 1| <= .2). Marks: * misses its bound; (...) has none: at gamma = .1 the
early window is a crossover from lazy to rich.
"""

import argparse
import itertools
import multiprocessing
import time

import numpy as np

from ntkscale.theory.scaling_model import solve

ALPHAS = (1.25, 1.5, 2.0, 3.0)
BETAS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.2, 1.4, 1.7, 2.2)
GAMMAS = (0.0, 0.1, 1.0, 100.0)
EARLY = (1e2, 1e4)
LATE = (1e5, 1e9)
TIMES = np.geomspace(1e2, 1e9, 71)


def exponent_theory(beta: float, gamma: float) -> float:
    """chi of arXiv 2409.17858, eq. 10."""
    return beta if gamma == 0 else beta * max(1.0, 2 / (1 + beta))


def bounds(beta: float, gamma: float) -> tuple[float, float]:
    """Bounds on the early and the late window; infinite where there is none."""
    if gamma == 0:
        return 0.01, 0.01
    early = 0.02 if abs(beta - 1) > 0.2 + 1e-9 else 0.03
    return (early if gamma >= 1 else np.inf), 0.005


def exponents(cell: tuple[float, float, float]) -> tuple[float, float]:
    """Fitted exponents in the two windows."""
    mse = solve(*cell, TIMES)
    fitted = []
    for low, high in (EARLY, LATE):
        inside = (low * 0.999 <= TIMES) & (high * 1.001 >= TIMES)
        fitted.append(-float(np.polyfit(np.log(TIMES[inside]), np.log(mse[inside]), 1)[0]))
    return fitted[0], fitted[1]


def main() -> None:
    """Print the table and the time it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    cells = list(itertools.product(ALPHAS, BETAS, GAMMAS))
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        found = dict(zip(cells, pool.map(exponents, cells, chunksize=4), strict=True))
    seconds = time.perf_counter() - start
    print("exponent minus theory, early / late window\n")
    print("alpha  beta " + "".join(f"{f'gamma = {gamma:g}':>20}" for gamma in GAMMAS))
    missed = [0, 0]
    for alpha, beta in itertools.product(ALPHAS, BETAS):
        row = f"{alpha:5g} {beta:5g} "
        for gamma in GAMMAS:
            text = []
            limits = bounds(beta, gamma)
            for i, (value, bound) in enumerate(zip(found[alpha, beta, gamma], limits, strict=True)):
                off = value - exponent_theory(beta, gamma)
                missed[i] += abs(off) > bound
                mark = "*" if abs(off) > bound else ""
                text.append(f"{off:+.4f}{mark}" if bound < np.inf else f"({off:+.3f})")
            row += f"{' '.join(text):>20}"
        print(row)
    print(f"\noutside bounds: {missed[0]} early, {missed[1]} late, of {len(cells)} cells each")
    print(f"{seconds:.0f} s on {arguments.processes} processes")


if __name__ == "__main__":
    main()
