"""Eigenspaces of kernels against explicit sums, projections and closed forms."""

import math

import numpy as np
import pytest
import torch

from ntkscale import ntk
from ntkscale.networks import MLP


def psd(n):
    a = torch.randn(n, n + 2, dtype=torch.float64)
    return a @ a.T


def test_shares_and_parts_against_numpy():
    n = int(torch.randint(5, 12, ()))
    top, k = int(torch.randint(1, n + 1, ())), psd(n)
    values, vectors = np.linalg.eigh(k.numpy())
    leading = np.argsort(values)[::-1][:top]
    assert ntk.trace_share(k, top) == pytest.approx(values[leading].sum() / np.trace(k.numpy()))
    squares = (values[leading] ** 2).sum() / (k.numpy() ** 2).sum()
    assert ntk.squared_share(k, top) == pytest.approx(squares)
    part = sum(values[i] * np.outer(vectors[:, i], vectors[:, i]) for i in leading)
    np.testing.assert_allclose(ntk.eigenspace_part(k, top=top).numpy(), part, atol=1e-10)
    if top < n:
        rest = ntk.eigenspace_part(k, bottom=n - top)
        torch.testing.assert_close(rest + ntk.eigenspace_part(k, top=top), k)
        # The two parts lie at right angles.
        assert float(ntk.kernel_distance(rest, k - rest)) == pytest.approx(1)
    assert ntk.trace_share(k, n) == pytest.approx(1)


def test_centring_is_that_of_features():
    features = torch.randn(9, 6, dtype=torch.float64) + 3
    k = features @ features.T
    mean = features - features.mean(0)
    torch.testing.assert_close(ntk.centred(k), mean @ mean.T)
    h = torch.eye(9, dtype=torch.float64) - 1 / 9
    torch.testing.assert_close(ntk.centred(k.float()), h @ k.float().double() @ h)
    torch.testing.assert_close(ntk.centred(ntk.centred(k)), ntk.centred(k))


def test_full_kernels_are_matrices_over_samples_and_outputs():
    net = MLP(4, 3, width=8, seed=int(torch.randint(1000, ())), dtype=torch.float64)
    x = torch.randn(5, 4, dtype=torch.float64)
    full = ntk.gram(net, x, output="full")
    flat = torch.cat([torch.cat(list(full[i].detach()), dim=1) for i in range(5)])
    values = torch.linalg.eigvalsh(flat)
    assert ntk.trace_share(full, 2) == pytest.approx(float(values[-2:].sum() / values.sum()))
    torch.testing.assert_close(ntk.eigenspace_part(full, bottom=15), flat)
    eye = torch.eye(5, dtype=torch.float64)
    h = torch.kron(eye - 1 / 5, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(
        ntk.eigenspace_part(ntk.centred(full), top=15), h @ flat @ h, atol=1e-12, rtol=1e-9
    )


def test_a_path_turns_and_grows():
    """K_t = r_t (cos a_t A + sin a_t B), A and B orthogonal of norm one."""
    a = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    b = torch.diag(torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64))
    angles, scales = [0.0, 1e-9, 0.3, 1.2], [1.0, 1.0, 2.0, 3.0]
    path = [r * (math.cos(t) * a + math.sin(t) * b) for t, r in zip(angles, scales, strict=True)]
    radius, angle = ntk.polar(path)
    assert angle.tolist() == pytest.approx(angles, rel=1e-6)
    lengths = [float((k - path[0]).norm()) for k in path]
    assert radius.tolist() == pytest.approx([one / lengths[-1] for one in lengths])
    assert float(radius[0]) == 0 and float(radius[-1]) == 1
    still = ntk.polar([path[0], path[0]])
    assert bool(still[0].isnan().all()) and still[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ntk.trace_share(torch.eye(3), 4), "4 eigenvalues of a kernel that has 3"),
        (lambda: ntk.squared_share(torch.eye(3), 0), "give 1 to 3"),
        (lambda: ntk.eigenspace_part(torch.eye(3)), "either top or bottom"),
        (lambda: ntk.eigenspace_part(torch.eye(3), top=1, bottom=1), "either top or bottom"),
        (lambda: ntk.trace_share(torch.zeros(2, 3), 1), "with all outputs"),
        (lambda: ntk.trace_share(torch.full((2, 2), torch.nan), 1), "nan or infinity"),
        (lambda: ntk.polar([torch.eye(2)]), "make no path"),
        (lambda: ntk.polar([torch.eye(2), torch.eye(3)]), "same points"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_only_kernels_of_a_set_with_itself_are_centred() -> None:
    with pytest.raises(ValueError, match="with itself"):
        ntk.centred(torch.rand(2, 3))
