"""Predictors, features and what is measured on them, against solves and loops in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ntkscale.robustness import (
    InfiniteWidthKernel,
    KernelPredictor,
    Mean,
    NetworkKernel,
    Shares,
    Threat,
    cumulative_accuracy,
    feature_consistency,
    feature_images,
    fgsm,
    gradient_cosine,
    gradient_images,
    principal_angles,
    rank_correlation,
    robust,
    subspace_overlap,
    transfer,
    useful,
    useful_features,
)
from tests.reference.robustness_kernels import (
    attacked,
    coefficients,
    feature_coefficients,
    jacobian,
    ntk_fc,
)


def data(points=9, held=7, features=5):
    x, new = torch.rand(points, features).double(), torch.rand(held, features).double()
    return x, torch.arange(points) % 2, new, torch.randint(0, 2, (held,))


def network(inputs, outputs=1):
    layers = nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, outputs)
    return nn.Sequential(*layers).double()


def reference_gram(which, x, new):
    """The kernel, its matrix on x and with `new`."""
    if which == "infinite":
        return InfiniteWidthKernel(2), ntk_fc(x, x, 2), ntk_fc(new, x, 2)
    if which == "function":
        return (lambda a, b: ntk_fc(a, a if b is None else b, 1)), *(
            ntk_fc(y, x, 1) for y in (x, new)
        )
    model = network(x.shape[1], 2 if which == "joint" else 1)
    j, j_new = (jacobian(model, y).detach() for y in (x, new))
    return NetworkKernel(model), j @ j.T, j_new @ j.T


@pytest.mark.parametrize("which", ["infinite", "function", "network", "joint"])
def test_flow_and_features(which):
    x, labels, new, _ = data()
    kernel, gram, cross = reference_gram(which, x, new)
    y = 2.0 * labels.double() - 1
    targets = torch.stack((y, torch.randn_like(y)), 1) if which in ("infinite", "joint") else y
    columns = targets.reshape(len(gram), -1)
    p = KernelPredictor(kernel, x, targets)
    outputs = 1 if targets.ndim == 1 else 2
    values = torch.linalg.eigvalsh(gram).flip(0) / len(x)
    torch.testing.assert_close(p.eigenvalues, values, rtol=1e-6, atol=1e-9 * float(values[0]))
    for time in (0.0, 0.3, 20.0, math.inf):
        want = (cross @ coefficients(gram, columns, time, len(x))).reshape(-1, outputs)
        torch.testing.assert_close(p.at(time)(new), want, rtol=1e-5, atol=1e-6)
    whole = p.features(range(len(gram)))(new)
    torch.testing.assert_close(whole, p.at(math.inf)(new), rtol=1e-9, atol=1e-9)
    for index in (0, 3):
        want = (cross @ feature_coefficients(gram, columns, index)).reshape(-1, outputs)
        torch.testing.assert_close(p.feature(index)(new), want, rtol=1e-6, atol=1e-8)
    if outputs == 1:
        pairs = [
            (p.each_feature([3, 0, 1]), [p.feature(i) for i in (3, 0, 1)]),
            (p.each_time([2.0, math.inf]), [p.at(2.0), p.at(math.inf)]),
            (p.each_set([[0, 1], range(4)]), [p.features([0, 1, 1]), p.features(range(4))]),
        ]
        for together, single in pairs:
            want = torch.cat([f(new) for f in single], 1)
            torch.testing.assert_close(together(new), want, rtol=1e-9, atol=1e-9)
            slopes = torch.cat([f.jacobian(new) for f in single], 1)
            torch.testing.assert_close(together.jacobian(new), slopes, rtol=1e-9, atol=1e-9)
            cotangent = torch.randn_like(want)
            got = together.pullback(new)[1](cotangent)
            want = (slopes * cotangent[..., None]).sum(1)
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


def test_directions_of_no_eigenvalue_learn_nothing():
    x = torch.rand(4, 3).double().repeat(2, 1)  # every input twice, with two targets
    y = torch.randn(8).double()
    p = KernelPredictor(InfiniteWidthKernel(), x, y)
    assert (p.eigenvalues[4:] == 0).all()
    want = (y[:4] + y[4:]) / 2
    torch.testing.assert_close(p.at(math.inf)(x)[:, 0], want.repeat(2))
    assert (p.feature(6)(x) == 0).all()
    assert torch.equal(p.at(1e30)(x), p.at(math.inf)(x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("which", ["infinite", "network"])
def test_usefulness_and_robustness(which, norm):
    x, labels, new, answers = data(held=30)
    kernel, gram, _ = reference_gram(which, x, new)
    y, threat = 2.0 * labels.double() - 1, Threat(0.07, norm)
    p = KernelPredictor(kernel, x, y)
    chosen = [0, 1, 2, 5]
    functions = p.each_feature(chosen)
    clean, attack = useful(functions, new, answers), robust(functions, new, answers, threat)
    for column, i in enumerate(chosen):
        alpha, single = feature_coefficients(gram, y, i), p.feature(i)

        def slow(z, alpha=alpha, single=single):
            # Expansions of networks are held against Jacobians in the tests of kernels.
            return ntk_fc(z, x, 2) @ alpha if which == "infinite" else single(z)[:, 0]

        counts = [0, 0]
        for sample, answer in zip(new, answers, strict=True):
            sign = 2.0 * float(answer) - 1
            moved = attacked(slow, sample, sign, threat.eps, norm)
            counts[0] += int(sign * slow(sample[None]).detach().sum() > 0)
            counts[1] += int(sign * slow(moved[None]).detach().sum() > 0)
        assert [clean.correct[column], attack.correct[column]] == counts
    rough = robust(functions, new, answers, threat, dtype=torch.float32)
    assert abs(rough.correct - attack.correct).max() <= 1
    assert clean.total == attack.total == 30
    whole = cumulative_accuracy(p, [2, 9], new, answers, threat)
    f = p.features(range(2))
    assert whole.clean.correct[0] == int(((f(new)[:, 0] > 0) == answers.bool()).sum())
    moved = fgsm(f, new, answers, threat)
    assert whole.robust.correct[0] == int(((f(moved)[:, 0] > 0) == answers.bool()).sum())


def test_cumulative_accuracy_of_several_outputs():
    x, _, new, _ = data(points=12, held=40)
    labels, answers = torch.randint(0, 3, (12,)), torch.randint(0, 3, (40,))
    p = KernelPredictor(InfiniteWidthKernel(), x, torch.eye(3).double()[labels] - 1 / 3)
    found = cumulative_accuracy(p, [1, 12], new, answers, Threat(0.05))
    f = p.at(math.inf)
    moved = fgsm(f, new, answers, Threat(0.05))
    assert found.clean.correct[1] == int((f(new).argmax(1) == answers).sum())
    assert found.robust.correct[1] == int((f(moved).argmax(1) == answers).sum())


def test_intervals_and_chance():
    total = int(np.random.default_rng(torch.initial_seed() % 2**32).integers(20, 60))
    shares = Shares(np.arange(total + 1), total)
    for correct, interval in zip(shares.correct, shares.interval(), strict=True):
        want = stats.binomtest(int(correct), total).proportion_ci(method="exact")
        np.testing.assert_allclose(interval, want, atol=1e-12)
    # Benjamini and Hochberg, by hand.
    p = np.array(
        [stats.binomtest(int(c), total, alternative="greater").pvalue for c in range(total + 1)]
    )
    order = np.sort(p)
    passing = [q for rank, q in enumerate(order, 1) if q <= 0.05 * rank / len(p)]
    np.testing.assert_array_equal(useful_features(shares), p <= max(passing, default=-1))
    chance = np.random.default_rng(0).binomial(400, 0.5, (300, 800))
    found = [useful_features(Shares(row, 400)).any() for row in chance]
    assert np.mean(found) < 0.1  # one in twenty, not nearly always
    x = np.random.default_rng(1).standard_normal(40)
    y = np.round(-x + 0.5 * np.random.default_rng(2).standard_normal(40), 1)
    got = rank_correlation(x, y)
    assert got.value == pytest.approx(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    assert got.interval[0] < got.value < got.interval[1] < 0 and got.p_value < 1e-6


def test_gradient_images():
    x, labels, new, answers = data()
    p = KernelPredictor(InfiniteWidthKernel(2), x, 2.0 * labels.double() - 1)
    pictures = gradient_images(p.feature(1), new, answers)
    moved = new.clone().requires_grad_()
    y = 2.0 * answers.double() - 1
    alpha = feature_coefficients(ntk_fc(x, x, 2), 2.0 * labels.double() - 1, 1)
    loss = torch.log1p(torch.exp(-y * (ntk_fc(moved, x, 2) @ alpha)))
    (g,) = torch.autograd.grad(loss.sum(), moved)
    low, high = g.amin(1, keepdim=True), g.amax(1, keepdim=True)
    torch.testing.assert_close(pictures, (g - low) / (high - low), rtol=1e-6, atol=1e-8)
    three = KernelPredictor(InfiniteWidthKernel(2), x, torch.randn(9, 3).double())
    pictures = gradient_images(three.at(2.0), new, answers)
    moved = new.clone().requires_grad_()
    nn.functional.cross_entropy(three.at(2.0)(moved), answers, reduction="sum").backward()
    g = moved.grad
    assert g is not None
    low, high = g.amin(1, keepdim=True), g.amax(1, keepdim=True)
    torch.testing.assert_close(pictures, (g - low) / (high - low), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("which", ["infinite", "network"])
def test_feature_images_climb_the_cosine(which):
    x, labels, _, _ = data()
    y = 2.0 * labels.double() - 1
    model = network(x.shape[1])
    kernel = InfiniteWidthKernel(2) if which == "infinite" else NetworkKernel(model)
    j = jacobian(model, x).detach()
    gram = ntk_fc(x, x, 2) if which == "infinite" else j @ j.T
    p = KernelPredictor(kernel, x, y)
    chosen, steps, step = [0, 2], 15, 0.004
    pictures, cosines = feature_images(p, chosen, steps=steps, step=step)
    for row, i in enumerate(chosen):
        values, vectors = torch.linalg.eigh(gram)
        v = vectors[:, -1 - i] * (vectors[:, -1 - i] @ y).sign()

        def cosine(z, v=v, value=values[-1 - i]):
            if which == "infinite":
                near = z + 1e-9  # R2's clamped arccos has no derivative at x = x'
                return ntk_fc(z, x, 2) @ v / (ntk_fc(z, near, 2)[0, 0] * value).sqrt()
            own = jacobian(model, z)[0]
            return own @ j.T @ v / (own.norm() * value.sqrt())

        z = torch.full((1, x.shape[1]), 0.5).double()
        if which == "infinite":
            torch.testing.assert_close(
                cosines[row], cosine(pictures[row : row + 1])[0], rtol=1e-5, atol=0
            )
            start = cosine(z)[0]
            assert cosines[row] > start or torch.equal(pictures[row], z[0])
            continue
        for _ in range(steps):
            z = z.detach().requires_grad_()
            (g,) = torch.autograd.grad(cosine(z).sum(), z)
            z = (z + step * g.sign()).clamp(0, 1)
        torch.testing.assert_close(pictures[row], z[0].detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(cosines[row], cosine(z).detach().squeeze())
    other, against = feature_images(p, chosen, label=0, steps=3)
    assert (against > -1).all() and not torch.equal(other, pictures)


def test_consistency():
    n, k = 12, 4
    a, b = (torch.linalg.qr(torch.randn(n, n).double())[0] for _ in range(2))
    projectors = [v[:, :k] @ v[:, :k].T for v in (a, b)]
    want = float((projectors[0] @ projectors[1]).trace()) / k
    assert subspace_overlap(a, b, k) == pytest.approx(want)
    angles = principal_angles(a, b, k)
    torch.testing.assert_close(angles.cos().square().mean(), torch.tensor(want).double())
    # A rotation: of a singular product rounding alone would tilt the span.
    turned = a[:, :k] @ torch.linalg.qr(torch.randn(k, k).double())[0]
    assert subspace_overlap(a, turned, k) == pytest.approx(1)
    assert principal_angles(a, turned, k).max() < 1e-14
    tilted = a.clone()
    tilted[:, 0] = math.cos(1e-6) * a[:, 0] + math.sin(1e-6) * a[:, k]
    assert float(principal_angles(a, tilted, k)[-1]) == pytest.approx(1e-6, rel=1e-6)

    x, labels, new, _ = data(held=20)
    y = 2.0 * labels.double() - 1
    predictors = [KernelPredictor(InfiniteWidthKernel(d), x, y) for d in (1, 3)]
    found = feature_consistency(predictors, [2, 9], new)
    outputs = [p.features(range(2))(new)[:, 0] for p in predictors]
    want = np.corrcoef(torch.stack(outputs).numpy())[0, 1]
    assert float(found.correlation[0, 0, 1]) == pytest.approx(want)
    assert float(found.overlap[1, 0, 1]) == pytest.approx(1) and float(found.chance[1]) == 1
    vectors = [p.eigenvectors for p in predictors]
    shared = subspace_overlap(vectors[0], vectors[1], 2)
    assert float(found.overlap[0, 1, 0]) == pytest.approx(shared)
    with pytest.raises(ValueError, match="different training sets"):
        feature_consistency([predictors[0], KernelPredictor(InfiniteWidthKernel(), x, -y)], [2], x)


def test_transfer():
    x, labels, new, answers = data(held=50)
    y = 2.0 * labels.double() - 1
    f, g = (KernelPredictor(InfiniteWidthKernel(d), x, y).at(5.0) for d in (1, 2))
    threat = Threat(0.1)
    found = transfer(f, {"deeper": g}, new, answers, threat)
    moved = fgsm(g, new, answers, threat)
    right = (f(moved)[:, 0] > 0) == answers.bool()
    assert torch.equal(found.right["deeper"], right)
    accuracy, drop = found.accuracy("deeper"), found.drop("deeper")
    want = stats.binomtest(int(right.sum()), 50).proportion_ci(method="exact")
    assert (accuracy.low, accuracy.high) == (want.low, want.high)
    clean = (f(new)[:, 0] > 0) == answers.bool()
    difference = clean.double() - right.double()
    assert drop.value == pytest.approx(float(difference.mean()))
    assert drop.high - drop.value == pytest.approx(
        2.00957 * float(difference.std()) / 50**0.5, rel=1e-4
    )
    assert set(found.right) == {"clean", "random signs", "own", "deeper"}
    cosines = gradient_cosine(f, g, new, answers)
    one, other = (h.jacobian(new)[:, 0] for h in (f, g))
    want = nn.functional.cosine_similarity(one, other)
    torch.testing.assert_close(cosines, want)
    torch.testing.assert_close(gradient_cosine(f, f, new, answers), torch.ones(50).double())
    zero = gradient_cosine(f, lambda z: 0 * z.sum(1), new, answers)
    assert (zero == 0).all() and math.isnan(Mean.of(zero[:1]).low)
    with pytest.raises(ValueError, match="rename it"):
        transfer(f, {"own": g}, new, answers, threat)


def test_bad_input():
    x, labels, new, answers = data()
    y = 2.0 * labels.double() - 1
    kernel = InfiniteWidthKernel()
    p = KernelPredictor(kernel, x, y)
    two = KernelPredictor(kernel, x, torch.stack((y, y), 1))
    joint = KernelPredictor(NetworkKernel(network(5, 2)), x, torch.stack((y, y), 1))
    f = p.each_feature([0])
    for call, says in [
        (lambda: KernelPredictor(kernel, x, y[1:]), "do not fit"),
        (lambda: KernelPredictor(kernel, x, y / 0), "nan or infinity"),
        (lambda: KernelPredictor(lambda a, b: torch.eye(3), x, y), r"kernel is \(3, 3\)"),
        (lambda: p.at(-1), "time must be"),
        (lambda: p.at(math.nan), "time must be"),
        (lambda: p.feature(9), "0 to 8"),
        (lambda: p.feature(-1), "0 to 8"),
        (lambda: p.each_set([]), "at least one"),
        (lambda: two.each_feature([0]), "-1 and \\+1"),
        (lambda: useful(f, new, answers + 1), "labels are 0"),
        (lambda: useful(f, new, answers[1:]), "one a sample"),
        (lambda: robust(f, new + 1, answers, Threat(0.1)), "outside the threat"),
        (lambda: useful_features(Shares(np.ones(2, int), 3), false_discovery_rate=1), "between"),
        (lambda: rank_correlation(np.ones(3), np.arange(3)), "constant"),
        (lambda: rank_correlation(np.ones(2), np.arange(3)), "equal length"),
        (lambda: gradient_images(p.feature(0), new, answers + 1), "0 to 1"),
        (lambda: feature_images(p, [0], label=2), "0 or 1"),
        (lambda: feature_images(joint, [0]), "one output"),
        (lambda: subspace_overlap(torch.eye(3), torch.eye(3), 4), "no 4 leading"),
        (lambda: subspace_overlap(torch.eye(3), torch.eye(4), 2), "same points"),
        (lambda: feature_consistency([], [1], x), "at least one"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
