"""source_capacity against spectra whose exponents are known."""

import numpy as np
import pytest
from scipy.special import zeta

from ntkscale.scaling import source_capacity


def circle(q, points, rng, *, split=0.0, turn=False):
    """Spectrum and power of y = sum k^-q cos k theta under a kernel with eigenvalues k^-2.

    split: relative spread of the eigenvalues of one cosine-sine pair; turn: the pair's
    eigenvectors are turned by a random angle.
    """
    modes = np.arange(1, points // 2)
    values, power = [2.0], [0.0]
    for k in modes:
        angle = rng.uniform(0, np.pi) if turn else 0.0
        values += list(k**-2.0 * (1 + split * rng.standard_normal(2)))
        power += [k ** (-2 * q) / 2 * np.cos(angle) ** 2, k ** (-2 * q) / 2 * np.sin(angle) ** 2]
    values.append((points // 2) ** -2.0)
    power.append(0.0)
    return np.array(values), np.array(power), float(zeta(2 * q, points // 2) / 2)


@pytest.mark.parametrize(("alpha", "beta"), [(1.2, 0.2), (1.5, 0.5), (2.0, 1.3), (0.8, 0.4)])
def test_exact_power_laws(alpha, beta):
    k = np.arange(1, 2001)
    tail = float(zeta(alpha * beta + 1, 2001))
    fit = source_capacity(k**-alpha, k ** -(alpha * beta + 1), tail=tail, window=(30, 1000))
    assert fit.alpha == pytest.approx(alpha, abs=1e-9)
    assert fit.beta == pytest.approx(beta, rel=0.02)
    assert fit.beta_interval[0] <= beta * 1.001
    assert fit.beta_interval[1] >= fit.beta
    assert fit.alpha_r_squared == pytest.approx(1.0)


def test_definition_is_the_plain_regression():
    rng = np.random.default_rng(0)
    values = np.sort(rng.lognormal(0, 2, 300))[::-1]
    power = rng.lognormal(-1, 2, 300)
    fit = source_capacity(values, power, tail=0.3, window=(5, 60))
    above = [power[k:].sum() + 0.3 for k in range(5, 61)]
    log_values = np.log(values[4:60])
    assert fit.alpha == pytest.approx(
        -np.polyfit(np.log(np.arange(5, 61)), log_values, 1)[0], rel=1e-9
    )
    assert fit.beta == pytest.approx(np.polyfit(log_values, np.log(above), 1)[0], rel=1e-9)


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.75, 1.25])
@pytest.mark.parametrize("split", [0.0, 0.01])
@pytest.mark.parametrize("turn", [False, True])
def test_circle_pairs(beta, split, turn):
    rng = np.random.default_rng(int(100 * beta) + turn)
    values, power, tail = circle(beta + 0.5, 256, rng, split=split, turn=turn)
    shuffled = rng.permutation(256)
    fit = source_capacity(values[shuffled], power[shuffled], tail=tail, window=(8, 80))
    assert fit.alpha == pytest.approx(2.0, abs=0.06)
    assert fit.beta == pytest.approx(beta, abs=0.03)
    assert fit.beta_interval[0] <= beta <= fit.beta_interval[1]
    assert fit.beta_interval[1] - fit.beta_interval[0] < 0.2 * max(beta, 0.5)


def test_equal_eigenvalues_have_no_order():
    rng = np.random.default_rng(1)
    values, power, tail = circle(1.0, 256, rng)
    fits = []
    for flip in (False, True):
        swapped = power.copy()
        if flip:
            swapped[1:-1:2], swapped[2::2] = power[2::2], power[1:-1:2]
        fits.append(source_capacity(values, swapped, tail=tail, window=(8, 80)))
    assert fits[0] == fits[1]


def test_without_the_tail_beta_is_too_large():
    values, power, tail = circle(0.75, 256, np.random.default_rng(2))
    right = source_capacity(values, power, tail=tail)
    wrong = source_capacity(values, power)
    assert wrong.beta > right.beta + 0.03
    assert right.window == (8, 80)


def test_interval_spans_what_the_window_changes():
    """A spectrum that bends: the exponents of both halves lie in the interval."""
    k = np.arange(1, 4097)
    values = k**-1.2 * np.exp(-k / 900)
    power = k**-1.3
    fit = source_capacity(values, power, tail=float(zeta(1.3, 4097)))
    assert fit.window == (10, 409)
    for first, last in ((10, 63), (64, 409)):
        log_k = np.log(np.arange(first, last + 1))
        half = -np.polyfit(log_k, np.log(values[first - 1 : last]), 1)[0]
        assert fit.alpha_interval[0] - 0.005 <= half <= fit.alpha_interval[1] + 0.005


def test_zero_and_negative_eigenvalues_are_left_out_of_the_window():
    k = np.arange(1, 101)
    values = np.concatenate([k**-1.5, -1e-9 * np.ones(20), np.zeros(5)])
    power = np.concatenate([k**-1.8, 1e-4 * np.ones(25)])
    fit = source_capacity(values, power)
    assert fit.num_eigenvalues == 100
    assert fit.alpha == pytest.approx(1.5, abs=1e-6)
    assert fit.window[1] <= 100


@pytest.mark.parametrize("points", [5, 12, 30, 100, 256, 1000, 4096])
def test_default_window_is_usable(points):
    k = np.arange(1, points + 1)
    fit = source_capacity(k**-1.5, k**-1.8, tail=1.0)
    first, last = fit.window
    assert 1 <= first < last <= points
    assert fit.alpha == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "power", "options", "words"),
    [
        ([3, 2, 1, 0.5, 0.2], [1, 1], {}, "shapes"),
        ([3, 2, 1], [1, 1, 1], {}, "at least 5"),
        ([3, 2, 1, 0.5, float("nan")], [1] * 5, {}, "not finite"),
        ([3, 2, 1, 0.5, 0.2], [1, 1, 1, -1, 1], {}, "negative"),
        ([3, 2, 1, 0.5, 0.2], [1] * 5, {"tail": -1.0}, "negative"),
        ([-3, -2, -1, -0.5, -0.2], [1] * 5, {}, "no eigenvalue is positive"),
        ([3, 2, 1, 0.5, 0.2, 0.1], [1] * 6, {"window": (2, 9)}, "must lie within 1 to 5"),
        ([3, 2, 1, 0.5, 0.2, 0.1], [1] * 6, {"window": (2, 3)}, "widen"),
    ],
)
def test_bad_input_is_one_clear_sentence(values, power, options, words):
    with pytest.raises(ValueError, match=words):
        source_capacity(values, power, **options)


def test_a_window_may_begin_at_the_first_eigenvalue_and_no_earlier():
    k = np.arange(1, 101)
    assert source_capacity(k**-1.5, k**-1.8, window=(1, 30)).window == (1, 30)
    with pytest.raises(ValueError, match="must lie within 1 to"):
        source_capacity(k**-1.5, k**-1.8, window=(0, 30))
