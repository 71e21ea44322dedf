"""Is a kernel the right one? A digest of the whole of it, and a block for a float64 reference."""

from pathlib import Path

import numpy as np

from benchmarks.ntk_peers.cases import Case, row_bytes

WRONG = 2e-3
"""Error above which an answer counts as wrong, not as rounded: float32 sums over millions of
parameters err by up to 1e-3 of the kernel's largest entry, a left-out layer by more."""

Answer = dict[str, np.ndarray]


def block_samples(case: Case) -> np.ndarray:
    """Samples of the block: as many as keep the float64 Jacobian under 2.5 GB, at most 8."""
    most = int(2.5e9 // (2 * case.classes * row_bytes(case)))
    random = np.random.default_rng(2)
    return np.sort(random.choice(case.n, min(case.n, max(2, min(8, most))), replace=False))


def digest(kernel: np.ndarray, case: Case) -> Answer:
    """K V for three fixed random vectors along the second samples, and K on a few samples.

    Every entry of the kernel enters K V, so an error anywhere shows.
    """
    vectors = np.random.default_rng(3).standard_normal((case.n, 3))
    shape = (case.n, case.n, *((case.classes,) * 2 if case.output == "full" else ()))
    if kernel.shape != shape:
        raise ValueError(f"the kernel has shape {kernel.shape} and not {shape}")
    rows = [np.tensordot(np.asarray(row, dtype=np.float64), vectors, axes=(0, 0)) for row in kernel]
    samples = block_samples(case)
    return {"products": np.stack(rows), "block": kernel[np.ix_(samples, samples)]}


def store(answer: Answer, path: Path) -> None:
    """Write a digest."""
    np.savez(path, **answer)  # pyright: ignore[reportArgumentType]


def load(path: Path) -> Answer:
    """Read a digest."""
    with np.load(path) as arrays:
        return dict(arrays)


def error(found: Answer, true: Answer) -> float:
    """Largest difference over the largest entry, in whatever both digests hold."""
    worst = 0.0
    for name in found.keys() & true.keys():
        with np.errstate(invalid="ignore"):
            apart = np.abs(found[name].astype(np.float64) - true[name]).max()
        worst = max(worst, float(apart / np.abs(true[name]).max()))
        if not np.isfinite(apart):
            return float("inf")
    return worst
