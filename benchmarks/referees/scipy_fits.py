"""scipy on fits: least squares, their intervals, quantiles, evidence and eigenvalues."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
import torch
from numpy.random import Generator
from scipy import linalg, optimize, stats
from scipy.sparse.linalg import eigsh

from benchmarks.referees.ruling import Ruling, deviation
from ntkscale import ntk, scaling
from ntkscale.ntk.spectrum.interval import mean_interval, student_t
from ntkscale.theory.infinite_width import posterior

CURVES = 40
"""Curves for each case whose intervals are counted."""


def rule(seed: int, cases: int) -> list[Ruling]:
    """Every comparison on its own random cases."""
    referee = f"scipy {scipy.__version__}"
    generator = np.random.default_rng(seed)
    rows = [
        _ruled("power law: exponent and prefactor", _power_law, 1e-12),
        _ruled("power law with offset: all three", _offset, 1e-7),
        _ruled("alpha and beta", _source_capacity, 1e-12),
        _ruled("eigenvalues and target power, of the largest", _eigensystem, 1e-11),
        _ruled("largest eigenvalues by Lanczos, each of its own", _lanczos, 1e-9),
        _ruled("Student's t quantiles", _quantiles, 1e-12),
        _ruled("interval of a mean of signed samples", _mean_interval, 1e-12),
        _ruled("log evidence of a Gaussian process", _evidence, 1e-12),
    ]
    found = [
        Ruling(title, referee, cases, max(one(generator) for _ in range(cases)), bound)
        for title, one, bound in rows
    ]
    return [*found, *_intervals(generator, cases, referee)]


Compared = Callable[[Generator], float]


def _ruled(title: str, one: Compared, bound: float) -> tuple[str, Compared, float]:
    return title, one, bound


def _curve(generator: Generator, points: int, noise: float) -> tuple[np.ndarray, np.ndarray, float]:
    exponent, prefactor = generator.uniform(0.2, 2.0), np.exp(generator.normal(0, 3))
    x = np.geomspace(1, 10 ** generator.uniform(1.5, 4), points)
    return x, prefactor * x**-exponent * np.exp(noise * generator.standard_normal(points)), exponent


def _power_law(generator: Generator) -> float:
    x, y, _ = _curve(generator, int(generator.integers(10, 200)), 0.05)
    found = scaling.fit_power_law(x, y, window=(x[0], x[-1]))
    line: Any = stats.linregress(np.log(x), np.log(y))
    return max(
        deviation(found.exponent, -line.slope), deviation(found.prefactor, np.exp(line.intercept))
    )


def _offset(generator: Generator) -> float:
    x, y, exponent = _curve(generator, int(generator.integers(60, 200)), 0.0)
    offset = y[0] * (x[-1] / x[0]) ** (-0.6 * exponent)  # reached at three fifths of the window
    y = (y + offset) * np.exp(0.01 * generator.standard_normal(len(x)))
    found = scaling.fit_power_law(x, y, offset=True, window=(x[0], x[-1]))

    def residual(parameters: np.ndarray) -> np.ndarray:
        a, p, c = parameters
        return np.log(np.exp(a - p * np.log(x)) + np.exp(c)) - np.log(y)

    start = [np.log(y[0]), exponent, np.log(y[-1])]
    best = optimize.least_squares(residual, start, xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    ours = np.array([found.prefactor, found.exponent, found.offset])
    return float(np.abs(ours / np.array([np.exp(best[0]), best[1], np.exp(best[2])]) - 1).max())


def _source_capacity(generator: Generator) -> float:
    count = int(generator.integers(64, 1024))
    k = np.arange(1, count + 1)
    alpha, beta = generator.uniform(1.1, 3.0), generator.uniform(0.3, 1.5)
    values = k**-alpha * np.exp(0.02 * generator.standard_normal(count))
    power = k ** (-alpha * beta - 1) * generator.chisquare(1, count)
    tail = float(power[-1])
    found = scaling.source_capacity(values, power, tail=tail)
    order = np.argsort(-values)
    values, power = values[order], power[order]
    remaining = np.array([power[i + 1 :].sum() + tail for i in range(count)])
    window = slice(found.window[0] - 1, found.window[1])
    logs = np.log(values[window])
    fall: Any = stats.linregress(np.log(k[window]), logs)
    rise: Any = stats.linregress(logs, np.log(remaining[window]))
    slopes = (-fall.slope, rise.slope)
    return deviation([found.alpha, found.beta], slopes)


def _gram(generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    n = int(generator.integers(20, 120))
    scales = np.arange(1, n + 1) ** -generator.uniform(0.5, 1.5)
    j = generator.standard_normal((n, n)) * scales
    return j @ j.T, generator.standard_normal((n, 2))


def _eigensystem(generator: Generator) -> float:
    kernel, y = _gram(generator)
    values, vectors = ntk.eigensystem(torch.from_numpy(kernel))
    power = ntk.target_power(vectors, torch.from_numpy(y))
    theirs, basis = linalg.eigh(kernel)
    expected = np.square(basis.T @ y).sum(1)[::-1] / len(y)
    # Eigenvectors are as certain as the gaps between eigenvalues allow: they are summed up.
    sums = deviation(np.cumsum(power.numpy())[::10], np.cumsum(expected)[::10])
    return max(deviation(values, theirs[::-1]), sums)


def _lanczos(generator: Generator) -> float:
    kernel, _ = _gram(generator)
    matrix = torch.from_numpy(kernel)
    ours = ntk.largest_eigenvalues(lambda v: matrix @ v, len(kernel), 5, tolerance=1e-8).values
    theirs = np.sort(eigsh(kernel, k=5, return_eigenvectors=False))[::-1]
    return float(np.abs(ours.numpy() / theirs - 1).max())


def _quantiles(generator: Generator) -> float:
    freedom, level = int(generator.integers(1, 200)), generator.uniform(0.05, 0.999)
    return deviation(student_t(freedom, level), stats.t.ppf(0.5 + level / 2, freedom))


def _mean_interval(generator: Generator) -> float:
    samples = generator.standard_normal(int(generator.integers(3, 40)))
    level = generator.uniform(0.5, 0.99)
    found = mean_interval(torch.from_numpy(samples), level)
    error = stats.sem(samples)
    low, high = stats.t.interval(level, len(samples) - 1, loc=samples.mean(), scale=error)
    return deviation([float(part) for part in found], [samples.mean(), low, high])


def _evidence(generator: Generator) -> float:
    kernel, y = _gram(generator)
    noise = generator.uniform(0.01, 1.0)
    found = posterior(kernel, y, kernel[:1], kernel[:1, :1], noise=noise)
    covariance = kernel + noise * np.eye(len(kernel))
    normal: Any = stats.multivariate_normal
    theirs = normal(np.zeros(len(y)), covariance).logpdf(y.T).sum()
    return deviation(found.log_evidence, theirs)


def _intervals(generator: Generator, cases: int, referee: str) -> list[Ruling]:
    """White noise, where Student's interval of the slope is exact."""
    count = CURVES * cases
    ratios, covered = np.empty(count), 0
    for i in range(count):
        x, y, exponent = _curve(generator, 200, 0.05)
        found = scaling.fit_power_law(x, y, window=(x[0], x[-1]), seed=i)
        line: Any = stats.linregress(np.log(x), np.log(y))
        half = stats.t.ppf(0.975, len(x) - 2) * line.stderr
        ratios[i] = (found.interval[1] - found.interval[0]) / (2 * half)
        covered += found.interval[0] <= exponent <= found.interval[1]
    # What a true level of .95 stays within, 999 times of 1,000.
    low, high = stats.binom.interval(0.999, count, 0.95)
    wide = abs(float(np.median(ratios)) - 1)
    missed = abs(covered / count - 0.95)
    most = float(max(0.95 - low / count, high / count - 0.95))
    return [
        Ruling("power law: width of the interval, white noise", referee, count, wide, 0.15),
        Ruling("power law: coverage less .95, white noise", referee, count, missed, most),
    ]
