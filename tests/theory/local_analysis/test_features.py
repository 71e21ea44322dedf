"""Teacher, stages, measures, laws and certificate against slow and independent forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from ntkscale.theory.local_analysis import (
    FAR,
    Population,
    Teacher,
    balance,
    certify,
    descend,
    draw_teacher,
    dual,
    early_step,
    great_circle,
    measure,
    minimiser,
    penalty,
    second_layer,
    symmetric_start,
    tail,
    violated,
)
from ntkscale.theory.local_analysis.certificate import GRID, _sphere

RELU = tail("relu")


def seed() -> int:
    return int(np.random.default_rng().integers(10**6))


@pytest.fixture(scope="module")
def trained() -> tuple[Population, torch.Tensor, torch.Tensor]:
    """A small student after all three stages, lambda = .05."""
    exact = Population(draw_teacher(4, 2, 60.0, 3), RELU)
    a, W = symmetric_start(12, 4, 5)
    a, W = balance(*second_layer(exact, early_step(exact, a, W), 1e-3))
    for lam in (0.1, 0.05):
        a, W = descend(exact, a, W, lam, 2500, 0.1)
    return exact, a, W


def test_teachers_are_as_far_apart_as_asked() -> None:
    rng = np.random.default_rng()
    d, k, angle = int(rng.integers(4, 9)), int(rng.integers(2, 4)), float(rng.uniform(20, 60))
    teacher = draw_teacher(d, k, angle, seed())
    own = teacher.directions.numpy()
    assert np.allclose(np.linalg.norm(own, axis=1), 1)
    pairs = [
        math.degrees(math.acos(min(abs(own[i] @ own[j]), 1))) for i in range(k) for j in range(i)
    ]
    assert teacher.least_angle == pytest.approx(min(pairs)) and min(pairs) >= angle - 1e-6
    basis = teacher.basis.numpy()
    assert basis.shape == (d, k) and np.allclose(basis.T @ basis, np.eye(k), atol=1e-12)
    assert np.allclose(basis @ basis.T @ own.T, own.T)
    values = np.linalg.eigvalsh(own.T @ own)[-k:]
    assert teacher.condition == pytest.approx(values.max() / values.min(), rel=1e-6)
    flat = draw_teacher(d, 3, 20.0, 1, span=2)
    assert flat.basis.shape == (d, 2)
    with pytest.raises(ValueError, match="smaller angle"):
        draw_teacher(2, 3, 70.0, 0)
    with pytest.raises(ValueError, match="cannot be"):
        draw_teacher(3, 2, 50.0, 0, span=4)


def test_what_is_not_as_the_theorem_asks_is_told() -> None:
    good = draw_teacher(6, 3, 50.0, 0)
    assert violated(good, RELU, 50) == []
    close = replace(good, directions=torch.stack((good.directions[0], good.directions[0] + 0.1 *
                    good.directions[1], good.directions[2])))  # fmt: skip
    close = replace(close, directions=close.directions / close.directions.norm(dim=1, keepdim=True))
    assert "degrees" in violated(close, RELU, 50)[0]
    opposite = Teacher(
        torch.eye(6, dtype=torch.float64)[[0, 0]], torch.tensor([1.0, -1.0]).double()
    )
    said = " ".join(violated(opposite, RELU, 50))
    assert "full rank" in said and "dependent" in said
    assert "second Hermite" in violated(good, tail("erf"), 50)[0]
    assert "cannot" not in violated(good, RELU, 50) and "10 neurons" in violated(good, RELU, 10)[0]
    assert "orthogonal" in violated(good, tail("square"), 50)[0]


def test_one_step_lands_where_the_hessian_sends_it() -> None:
    exact = Population(draw_teacher(9, 2, 50.0, seed()), RELU)
    a, W = symmetric_start(40, 9, seed())
    assert float(exact.loss(a, W)) == pytest.approx(exact.scale)
    stepped = early_step(exact, a, W, rate=3.0)
    slope = exact.gradients(a, W)[1]
    # W - eta (slope + W / eta): nothing of W remains.
    assert torch.allclose(stepped, W - 3.0 * (slope + W / 3.0), atol=1e-14)
    before, after = (measure(a, one, exact.teacher, RELU).rows_capture for one in (W, stepped))
    assert after > 0.8 > 2 * before - 0.3
    # To leading order a_j H w_j / pi: exactly so for the nonlinearity with h_2 alone.
    square = Population(exact.teacher, tail("square"))
    own = exact.teacher.directions
    H = own.T @ own
    moved = early_step(square, a, W)
    expected = 2 * a[:, None] * (4 * W @ H - 2 * ((W @ H) * W).sum(1, keepdim=True) * W)
    assert torch.allclose(moved, expected, atol=1e-12)
    with pytest.raises(ValueError, match="even"):
        symmetric_start(5, 3, 0)


def test_second_layer_is_where_descent_on_the_ridge_loss_ends() -> None:
    exact = Population(draw_teacher(5, 2, 40.0, seed()), RELU)
    W = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed()), dtype=torch.float64)
    a, units = second_layer(exact, W, 5e-2)
    slow = torch.zeros(6, dtype=torch.float64)
    for _ in range(1000):
        slow = slow - 0.3 * (exact.gradients(slow, units)[0] + 1e-1 * slow)
    assert torch.allclose(a, slow, atol=1e-8)
    balanced = balance(a, W * 2, jitter=0.0)
    assert torch.allclose(balanced[0].abs(), balanced[1].norm(dim=1))
    assert torch.allclose(balanced[0] * balanced[1].norm(dim=1), a * 2 * W.norm(dim=1), atol=1e-12)
    mass = (a.abs() * 2 * W.norm(dim=1)).sum()
    assert float(penalty(*balanced)) == pytest.approx(float(mass))


def test_descent_is_that_of_autograd_and_side_by_side_as_alone() -> None:
    exact = Population(draw_teacher(4, 2, 40.0, seed()), RELU)
    a, W = symmetric_start(4, 4, seed())
    W = W + 0.1 * torch.randn(4, 4, dtype=torch.float64)
    lams = torch.tensor([0.0, 0.3], dtype=torch.float64)
    found = descend(exact, torch.stack((a, a)), torch.stack((W, W)), lams, 5, 0.05)
    for place, lam in enumerate(lams):
        b, V = a.clone(), W.clone()
        for _ in range(5):
            leaves = b.requires_grad_(), V.requires_grad_()
            slopes = torch.autograd.grad(exact.loss(*leaves) + lam * penalty(*leaves), leaves)
            b, V = (leaf.detach() - 0.05 * s for leaf, s in zip(leaves, slopes, strict=True))
        assert torch.allclose(found[0][place], b, atol=1e-12)
        assert torch.allclose(found[1][place], V, atol=1e-12)


@pytest.mark.parametrize("name", ["relu", "erf", "relu2"])
def test_measures_are_those_of_loops(name: str) -> None:
    rng = np.random.default_rng()
    phi, teacher = tail(name), draw_teacher(5, 3, 30.0, seed())
    a, W = rng.standard_normal(7), rng.standard_normal((7, 5))
    W[0] = teacher.directions[1].numpy() * 2 + 1e-9 * rng.standard_normal(5)
    found = measure(torch.from_numpy(a), torch.from_numpy(W), teacher, phi)
    own = teacher.directions.numpy()
    masses, thetas, groups = [], [], np.zeros_like(own)
    for j in range(7):
        unit = W[j] / np.linalg.norm(W[j])
        cosines = own @ unit
        close = np.abs(cosines) if phi.symmetry else cosines
        i = int(close.argmax())
        masses.append(abs(a[j]) * np.linalg.norm(W[j]))
        thetas.append(math.degrees(math.acos(min(1.0, close[i]))))
        groups[i] += a[j] * W[j] * (np.sign(cosines[i]) if phi.symmetry == 1 else 1)
    masses, thetas = np.array(masses), np.array(thetas)
    assert found.mass == pytest.approx(masses.sum())
    far = [masses[thetas > degrees].sum() / masses.sum() for degrees in FAR]
    assert found.far == pytest.approx(far)
    assert found.weighted_angle == pytest.approx((masses @ thetas) / masses.sum(), abs=1e-5)
    assert found.largest_angle == pytest.approx(thetas[masses > 1e-3].max(), abs=1e-5)
    error = np.linalg.norm(groups - own, axis=1).max()
    assert found.group_error == pytest.approx(error)
    basis = np.linalg.qr(own.T)[0]
    inside = ((W @ basis) ** 2).sum(1) / (W**2).sum(1)
    assert found.rows_capture == pytest.approx(inside.mean())
    assert found.capture == pytest.approx(masses @ inside / masses.sum())


def test_angles_far_below_the_root_of_rounding_are_seen() -> None:
    teacher = draw_teacher(5, 2, 40.0, 0)
    aside = torch.randn(5, dtype=torch.float64)
    aside = aside - (aside @ teacher.directions[0]) * teacher.directions[0]
    W = (teacher.directions[0] + 1e-10 * aside / aside.norm())[None]
    found = measure(torch.ones(1, dtype=torch.float64), -W, teacher, RELU)
    assert found.weighted_angle == pytest.approx(math.degrees(1e-10), rel=1e-4)


@pytest.mark.parametrize(("name", "weights"), [("relu", (1, 1, 1)), ("erf", (1.5, -1, 0.8)),
                                               ("relu2", (-1, 0.9, 2))])  # fmt: skip
def test_laws_are_the_minimum_over_the_teachers_directions(
    name: str, weights: tuple[float, ...]
) -> None:
    phi, a = tail(name), np.array(weights, dtype=float)
    teacher = Teacher(draw_teacher(5, 3, 50.0, seed()).directions, torch.from_numpy(a))
    exact = Population(teacher, phi)
    lam = 0.4 * phi.power
    law = minimiser(exact, lam)
    gram = exact.teacher_gram.numpy()
    # c^T K c - 2 c^T K a* + lam |c|_1 over s c >= 0, as a least-squares problem in s c.
    signs = np.sign(a)
    turned = signs[:, None] * gram * signs
    root = np.linalg.cholesky(turned).T
    wanted = np.linalg.solve(root.T, turned @ abs(a) - lam / 2)
    c = signs * nnls(root, wanted)[0]
    assert law.coefficients.numpy() == pytest.approx(c, abs=1e-8)
    left = c - a
    assert law.mse == pytest.approx(left @ gram @ left)
    assert law.mass == pytest.approx(abs(c).sum())
    assert law.holds(exact) and not minimiser(exact, 10 * phi.power).holds(exact)
    single = Population(draw_teacher(4, 1, 0.0, 0), RELU)
    assert minimiser(single, 0.1).mse == pytest.approx(2.75 * 0.01, rel=1e-2)


def test_the_trained_student_has_a_certificate_and_another_has_none(
    trained: tuple[Population, torch.Tensor, torch.Tensor],
) -> None:
    exact, a, W = trained
    lam = 0.05
    found = certify(exact, a, W, lam)
    assert found.largest <= 1 + 1e-3 and found.support >= 1 - 1e-3
    assert found.on_grid <= found.largest + 1e-12
    # By brute force: a dense cover of directions of the whole space.
    w = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(seed()), dtype=torch.float64)
    w = w / w.norm(dim=1, keepdim=True)
    brute = dual(exact, a, W, lam, w).abs()
    assert float(brute.max()) <= found.largest + 1e-6
    # The definition, from the gradient in a new neuron's read-out.
    probe, size = w[:1], torch.zeros(1, dtype=torch.float64)
    by_a = exact.gradients(torch.cat((a, size)), torch.cat((W, probe)))[0][-1]
    assert float(-by_a / lam) == pytest.approx(float(dual(exact, a, W, lam, probe)), abs=1e-10)
    assert certify(exact, 0.5 * a, W, lam).largest > 1.5
    # With a teacher of the opposite sign eta is -1 at the neurons.
    other = Population(replace(exact.teacher, weights=-exact.teacher.weights), RELU)
    turned = certify(other, -a, W, lam)
    assert turned.support == pytest.approx(found.support)
    assert turned.largest == pytest.approx(found.largest)
    degrees, circle = great_circle(exact, 0, 1)
    assert torch.allclose(circle.norm(dim=1), torch.ones_like(degrees), atol=1e-12)
    at = int((degrees - exact.teacher.least_angle).abs().argmin())
    cosines = (circle @ exact.teacher.directions[1]).abs()
    assert torch.allclose(circle[0], exact.teacher.directions[0])
    assert float(cosines.max()) == pytest.approx(1, abs=1e-4) and at > 0
    with pytest.raises(ValueError, match="two teacher directions"):
        great_circle(Population(draw_teacher(3, 1, 0.0, 0), RELU), 0, 0)


def test_regularised_students_have_the_features_and_no_mass_elsewhere(
    trained: tuple[Population, torch.Tensor, torch.Tensor],
) -> None:
    exact, a, W = trained
    found = measure(a, W, exact.teacher, RELU)
    law = minimiser(exact, 0.05)
    assert found.far[1] < 1e-6 and found.capture > 1 - 1e-6
    assert 1 <= float(exact.loss(a, W)) / law.mse < 1.6
    assert found.mass == pytest.approx(law.mass, rel=0.1)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_the_grid_covers_the_sphere(dimension: int) -> None:
    generator = torch.Generator().manual_seed(seed())
    grid = _sphere(dimension, generator)
    assert torch.allclose(grid.norm(dim=1), torch.ones(len(grid), dtype=torch.float64))
    wanted = torch.randn(50, dimension, generator=generator, dtype=torch.float64)
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    nearest = (wanted @ grid.T).amax(1).clamp(max=1).acos()
    # A regular grid of GRID points up to three dimensions, a random one beyond.
    assert float(nearest.max()) < {1: 1e-6, 2: 1.01 * math.pi / (GRID - 1), 3: 0.1}.get(
        dimension, 1
    )


def test_a_cosine_that_rounding_put_beyond_one_is_one() -> None:
    rho = torch.tensor([1.0, -1.0], dtype=torch.float64)
    value, slope = RELU.pair(rho * (1 + 1e-12))
    assert torch.allclose(value, RELU.pair(rho)[0]) and torch.allclose(slope, RELU.pair(rho)[1])


def test_the_basis_begins_with_the_first_direction_and_spans_them_all() -> None:
    teacher = draw_teacher(6, 3, 30.0, seed())
    basis = teacher.basis
    assert torch.allclose(basis.T @ basis, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(basis[:, 0], teacher.directions[0], atol=1e-12)
    assert torch.allclose(teacher.directions @ basis @ basis.T, teacher.directions, atol=1e-12)
