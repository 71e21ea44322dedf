"""Do the intervals of `fit_power_law` hold what they promise, and does it refuse what it should?

    python -m benchmarks.fit_coverage --seed 12345 [--curves 200] [--list]

Draws synthetic curves from the printed ranges and prints: how often the 95 % interval covers the
true exponent (rough and smooth correlated noise), how often a genuine power law is refused, how
often a law with an offset is recovered with ``offset=True`` and refused without, and how often an
exponential and pure noise are refused. Exits with 1 when a figure leaves its bounds.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ntkscale.scaling import PowerLawFit, fit_power_law

POINTS = (20, 200)
DECADES = (2.0, 4.0)
SPREAD = (0.01, 0.2)
LONGEST = 0.1
EXPONENT = (0.2, 2.0)
OFFSET = (1.0, 10.0)


@dataclass(frozen=True)
class Curve:
    """One synthetic curve: x, its truth and its noise (log), and what it was drawn with."""

    x: np.ndarray
    noise: np.ndarray
    spread: float
    length: float
    exponent: float

    def __str__(self) -> str:
        return (
            f"n = {len(self.x)}, decades = {np.log10(self.x[-1] / self.x[0]):.2f}, "
            f"sd = {self.spread:.3f}, length = {self.length:.1f}, exponent = {self.exponent:.3f}"
        )


def draw_curve(rng: np.random.Generator, *, smooth: bool = False, spread: float = 0.0) -> Curve:
    """Draw one curve from the ranges; noise of correlation exp(-d/l), or exp(-d^2/2l^2)."""
    n = int(rng.integers(POINTS[0], POINTS[1] + 1))
    x = np.geomspace(1.0, 10 ** rng.uniform(*DECADES), n) * 10 ** rng.uniform(-2, 2)
    sd = spread or float(np.exp(rng.uniform(*np.log(SPREAD))))
    length = rng.uniform(0.0, LONGEST * n)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / max(length, 1e-3)
    covariance = np.exp(-(distance**2) / 2 if smooth else -distance) + 1e-9 * np.eye(n)
    noise = sd * np.linalg.cholesky(covariance) @ rng.standard_normal(n)
    return Curve(x, noise, sd, length, rng.uniform(*EXPONENT))


def offset_values(curve: Curve, rng: np.random.Generator) -> np.ndarray:
    """Prefactor x^-0.7 + offset, the offset 1 to 10 times what the power law has come down to."""
    falling = 3.0 * (curve.x / curve.x[0]) ** -0.7
    return (falling + falling[-1] * rng.uniform(*OFFSET)) * np.exp(curve.noise)


def exponential_values(curve: Curve, rng: np.random.Generator) -> np.ndarray:
    """exp(-x / tau), tau a third to a thirtieth of the last x."""
    tau = curve.x[-1] / rng.uniform(3.0, 30.0)
    return np.exp(-curve.x / tau + curve.noise)


def main() -> int:
    """Print the table; 0 when every figure is within its bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, required=True, help="of the synthetic curves")
    parser.add_argument("--curves", type=int, default=200, help="of each kind")
    parser.add_argument("--list", action="store_true", help="print every failure")
    settings = parser.parse_args()
    rng = np.random.default_rng(settings.seed)
    print(
        f"seed {settings.seed}, {settings.curves} curves of each kind: {POINTS[0]} to {POINTS[1]} "
        f"points over {DECADES[0]:g} to {DECADES[1]:g} decades; noise of log y of sd {SPREAD[0]:g} "
        f"to {SPREAD[1]:g} (log-uniform), correlation length 0 to {LONGEST:g} n points; exponent "
        f"{EXPONENT[0]:g} to {EXPONENT[1]:g}; offset {OFFSET[0]:g} to {OFFSET[1]:g} times the last "
        "value of its power law, sd 0.003"
    )
    failures: list[str] = []
    missed = False

    def count(
        name: str,
        curves: list[Curve],
        fits: list[PowerLawFit],
        good: Callable[[PowerLawFit, Curve], bool],
        bounds: tuple[float, float],
    ) -> None:
        nonlocal missed
        right = [good(f, c) for f, c in zip(fits, curves, strict=True)]
        share = float(np.mean(right))
        ok = bounds[0] <= share <= bounds[1]
        missed |= not ok
        print(
            f"{name:58s} {share:6.1%}   ({bounds[0]:.0%} to {bounds[1]:.0%}) "
            f"{'ok' if ok else 'MISSED'}"
        )
        failures.extend(
            f"{name}: {c}: {f.exponent:.3f} [{f.interval[0]:.3f}, {f.interval[1]:.3f}] {f.reason}"
            for f, c, fine in zip(fits, curves, right, strict=True)
            if not fine
        )

    begun = time.perf_counter()
    for smooth in (False, True):
        curves = [draw_curve(rng, smooth=smooth) for _ in range(settings.curves)]
        fits = [fit_power_law(c.x, c.x**-c.exponent * np.exp(c.noise)) for c in curves]
        kind = "smooth" if smooth else "rough"
        # Infinitely smooth noise is none of the noises the fit weighs: it may err to the wide side,
        # and to refuse a little more often.
        most, least = (1.0, 0.96) if smooth else (0.99, 0.97)
        count(
            f"power law, {kind} noise: interval covers the truth",
            curves,
            fits,
            lambda f, c: f.interval[0] <= c.exponent <= f.interval[1],
            (0.90, most),
        )
        count(f"power law, {kind} noise: accepted", curves, fits, _accepted, (least, 1.0))
    curves = [draw_curve(rng) for _ in range(settings.curves)]
    fits = [fit_power_law(c.x, np.exp(c.noise)) for c in curves]
    count("pure noise: refused", curves, fits, _refused, (0.97, 1.0))
    fits = [fit_power_law(c.x, exponential_values(c, rng)) for c in curves]
    count("exponential: refused", curves, fits, _refused, (0.97, 1.0))
    curves = [draw_curve(rng, spread=0.003) for _ in range(settings.curves)]
    values = [offset_values(c, rng) for c in curves]
    fits = [fit_power_law(c.x, y) for c, y in zip(curves, values, strict=True)]
    count("power law with offset, fitted without: refused", curves, fits, _refused, (0.97, 1.0))
    fits = [fit_power_law(c.x, y, offset=True) for c, y in zip(curves, values, strict=True)]
    count(
        "power law with offset, fitted with: within .03 of .70",
        curves,
        fits,
        lambda f, c: f.is_power_law and abs(f.exponent - 0.7) < 0.03,
        (0.95, 1.0),
    )
    count(
        "power law with offset, fitted with: interval covers .70",
        curves,
        fits,
        lambda f, c: f.interval[0] <= 0.7 <= f.interval[1],
        (0.90, 1.0),
    )
    print(f"{len(failures)} failures in {time.perf_counter() - begun:.0f} s")
    if settings.list:
        print(*failures, sep="\n")
    return int(missed)


def _accepted(fit: PowerLawFit, curve: Curve) -> bool:
    return fit.is_power_law


def _refused(fit: PowerLawFit, curve: Curve) -> bool:
    return not fit.is_power_law and bool(fit.reason)


if __name__ == "__main__":
    sys.exit(main())
