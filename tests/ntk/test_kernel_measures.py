"""Measures against their definitions, written out entry by entry in float64 and with mpmath-free
closed forms."""

import pytest
import torch

from ntkscale import ntk


def psd(n, rank=None, dtype=torch.float64):
    a = torch.randn(n, rank or n + 2, dtype=dtype)
    return a @ a.T


def test_measures_against_their_formulas():
    n = int(torch.randint(4, 9, ()))
    k1, k2, y = psd(n), psd(n), torch.randn(n, 3, dtype=torch.float64)
    inner = sum(float(k1[i, j] * k2[i, j]) for i in range(n) for j in range(n))
    norm = [sum(float(v) ** 2 for v in k.flatten()) ** 0.5 for k in (k1, k2)]
    assert float(ntk.kernel_distance(k1, k2)) == pytest.approx(
        1 - inner / (norm[0] * norm[1]), rel=1e-10
    )
    change = sum(float(v) ** 2 for v in (k2 - k1).flatten()) ** 0.5 / norm[0]
    assert float(ntk.kernel_change(k1, k2)) == pytest.approx(change, rel=1e-12)
    outer = y @ y.T
    want = (k1 * outer).sum() / (k1.norm() * outer.norm())
    assert float(ntk.alignment(k1, y)) == pytest.approx(float(want), rel=1e-12)
    values = torch.linalg.eigvalsh(k1)
    assert float(ntk.effective_rank(k1)) == pytest.approx(
        float(values.sum() ** 2 / values.square().sum())
    )
    assert float(ntk.trace(k1)) == pytest.approx(float(values.sum()))


def test_closed_forms():
    eye = torch.eye(7)
    assert float(ntk.effective_rank(eye)) == pytest.approx(7)
    v = torch.randn(7, 1)
    assert float(ntk.effective_rank(v @ v.T)) == pytest.approx(1, rel=1e-5)
    assert float(ntk.alignment(v @ v.T * 3, v)) == pytest.approx(1, rel=1e-5)
    assert float(ntk.alignment(v @ v.T * 3, v[:, 0])) == pytest.approx(1, rel=1e-5)
    assert float(ntk.kernel_distance(eye, 4 * eye)) == pytest.approx(0, abs=1e-12)
    assert float(ntk.kernel_change(eye, 4 * eye)) == pytest.approx(3)
    halves = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0]))
    assert float(ntk.kernel_distance(*halves)) == pytest.approx(1)


def test_small_distances_keep_their_digits():
    """K = diag(1, 1) and diag(1 + e, 1 - e): S = 1 - 1/sqrt(1 + e^2) = e^2/2 to order e^4."""
    e = 1e-7
    k1 = torch.eye(2, dtype=torch.float64)
    k2 = torch.diag(torch.tensor([1 + e, 1 - e], dtype=torch.float64))
    assert float(ntk.kernel_distance(k1, k2)) == pytest.approx(e**2 / 2, rel=1e-6)


def test_eigensystem():
    n = int(torch.randint(3, 20, ()))
    k = psd(n)
    values, vectors = ntk.eigensystem(k)
    assert (values.diff() <= 0).all()
    torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, k)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(n, dtype=k.dtype))
    largest = vectors.abs().argmax(0)
    assert (vectors[largest, torch.arange(n)] > 0).all()


def test_target_power_sums_to_the_mean_square():
    k, y = psd(9), torch.randn(9, 4, dtype=torch.float64)
    _, vectors = ntk.eigensystem(k)
    power = ntk.target_power(vectors, y)
    assert float(power.sum()) == pytest.approx(float(y.square().sum(1).mean()))
    i = int(torch.randint(0, 9, ()))
    want = sum(float(vectors[:, i] @ y[:, c]) ** 2 for c in range(4)) / 9
    assert float(power[i]) == pytest.approx(want)
    assert float(ntk.target_power(vectors, y[:, 0])[i]) == pytest.approx(
        float(vectors[:, i] @ y[:, 0]) ** 2 / 9
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ntk.kernel_distance(torch.eye(2), torch.eye(3)), "same points"),
        (lambda: ntk.kernel_change(torch.eye(2), torch.eye(3)), "same points"),
        (lambda: ntk.trace(torch.zeros(2, 3)), "square"),
        (lambda: ntk.effective_rank(torch.zeros(2)), "square"),
        (lambda: ntk.eigensystem(torch.zeros(2, 3)), "square"),
        (lambda: ntk.eigensystem(torch.full((2, 2), torch.nan)), "not finite|nan or infinity"),
        (lambda: ntk.alignment(torch.eye(3), torch.zeros(2, 1)), "one row"),
        (lambda: ntk.target_power(torch.eye(3), torch.zeros(2, 1)), "one row"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
