"""scipy on Gaussian expectations: plain quadrature of what closed forms and series say."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import scipy
import torch
from numpy.random import Generator
from scipy.integrate import quad
from scipy.special import eval_hermitenorm

from benchmarks.referees.ruling import Ruling, deviation
from ntkscale.theory.activations import activation
from ntkscale.theory.infinite_width import kernels
from ntkscale.theory.infinite_width.hermite import HermiteSeries
from ntkscale.theory.local_analysis import tail

Function = Callable[[float], float]

END = 9.0
"""Standard deviations beyond which a Gaussian is nothing."""


def _probability(h: float) -> float:
    return (1 + math.erf(h / math.sqrt(2))) / 2


def _density(h: float) -> float:
    return math.exp(-h * h / 2) / math.sqrt(2 * math.pi)


FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "relu": (lambda h: max(h, 0.0), lambda h: float(h > 0)),
    "relu2": (lambda h: max(h, 0.0) ** 2, lambda h: 2 * max(h, 0.0)),
    "erf": (math.erf, lambda h: 2 / math.sqrt(math.pi) * math.exp(-h * h)),
    "gelu": (lambda h: h * _probability(h), lambda h: _probability(h) + h * _density(h)),
    "tanh": (math.tanh, lambda h: 1 - math.tanh(h) ** 2),
}


def rule(seed: int, cases: int) -> list[Ruling]:
    """Dual activations of each nonlinearity, Hermite coefficients, tails."""
    referee = f"scipy {scipy.__version__}"
    generator = np.random.default_rng(seed)
    rows = []
    for name in FUNCTIONS:
        worst = max(_layer(generator, name) for _ in range(cases))
        rows.append(Ruling(f"NNGP and NTK of one layer, {name}", referee, cases, worst, 1e-10))
    worst = max(_coefficients(generator) for _ in range(cases))
    rows.append(Ruling("Hermite coefficients of tanh(s z)", referee, cases, worst, 1e-12))
    worst = max(_tail(generator, name) for name in ("relu", "gelu", "erf") for _ in range(cases))
    title = "kernel of a nonlinearity's tail, of its power"
    rows.append(Ruling(title, referee, 3 * cases, worst, 1e-10))
    return rows


def expectation(f: Function, a: float, b: float, c: float) -> float:
    """E f(u) f(v) at variances a, b and covariance c: the inner integral splits at v = 0."""
    first, slope = math.sqrt(a), c / math.sqrt(a)
    rest = math.sqrt(b - slope * slope)

    def inner(z: float) -> float:
        kink = -slope * z / rest
        ends = (-END, kink, END) if abs(kink) < END else (-END, END)
        pieces = pairwise(ends)
        total = sum(
            _quad(lambda w: f(slope * z + rest * w) * _density(w), *piece) for piece in pieces
        )
        return f(first * z) * _density(z) * total

    return _quad(inner, -END, 0.0) + _quad(inner, 0.0, END)


def _quad(f: Function, low: float, high: float) -> float:
    return float(quad(f, low, high, epsabs=1e-11, epsrel=1e-10, limit=200)[0])


def _layer(generator: Generator, name: str) -> float:
    x = generator.standard_normal((2, 3))
    weight, bias = generator.uniform(0.5, 2.0), generator.uniform(0.1, 0.5)
    found = kernels(
        x[:1], x[1:], depth=1, activation=name, weight_variance=weight, bias_variance=bias
    )
    (a, c), (_, b) = weight * x @ x.T / 3 + bias
    f, slope = FUNCTIONS[name]
    value, derivative = (expectation(g, a, b, c) for g in (f, slope))
    theirs = [weight * value, weight * (value + c * derivative)]
    return deviation([float(found.nngp), float(found.ntk)], theirs)


def _coefficients(generator: Generator) -> float:
    variance = generator.uniform(0.1, 4.0)
    table, _ = HermiteSeries(activation("tanh")).table(
        torch.tensor([variance], dtype=torch.float64)
    )
    spread = math.sqrt(variance)
    theirs = []
    for order in range(1, 17, 2):  # tanh is odd
        norm = math.sqrt(math.factorial(order))
        theirs.append(
            2
            * _quad(
                lambda z, order=order, norm=norm: (
                    math.tanh(spread * z) * float(eval_hermitenorm(order, z)) / norm * _density(z)
                ),
                0.0,
                12.0,
            )
        )
    return deviation(table[1:9, 0], theirs)


def _tail(generator: Generator, name: str) -> float:
    rho = generator.uniform(-0.95, 0.95)
    phi, f = tail(name), FUNCTIONS[name][0]
    constant = _quad(lambda z: f(z) * _density(z), -END, 0) + _quad(
        lambda z: f(z) * _density(z), 0, END
    )
    line = _quad(lambda z: f(z) * z * _density(z), -END, 0) + _quad(
        lambda z: f(z) * z * _density(z), 0, END
    )
    theirs = expectation(f, 1.0, 1.0, rho) - constant**2 - line**2 * rho
    return abs(float(phi.kappa(torch.tensor(rho, dtype=torch.float64))) - theirs) / phi.power
