import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ntkscale import ntk
from ntkscale.networks import MLP
from ntkscale.theory.activations import Activation, activation
from ntkscale.theory.infinite_width import kernels, propagate
from tests.reference import infinite_width as reference
from tests.reference import neural_tangents_values as printed

NAMES = ["linear", "relu", "relu2", "relu3", "relu4", "erf", "gelu", "tanh"]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def as_double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", NAMES)
def test_recursion_by_quadrature(name: str) -> None:
    depth = int(torch.randint(1, 4, ()))
    w, b = (0.5 + torch.rand(2)).tolist()
    x, y = drawn(2, 4), drawn(2, 4)
    phi = activation(name)
    found = kernels(x, y, depth=depth, activation=name, weight_variance=w, bias_variance=b)
    assert found.error < 1e-10
    for i, j in ((0, 0), (1, 0)):
        nngp, tangent = reference.kernel(
            x[i], y[j], phi.function, phi.first, depth=depth, weight_variance=w, bias_variance=b
        )
        assert float(found.nngp[i, j]) == pytest.approx(nngp, rel=1e-8, abs=1e-10)
        assert float(found.ntk[i, j]) == pytest.approx(tangent, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", list(printed.MLP))
def test_values_of_neural_tangents(name: str) -> None:
    nngp, tangent = printed.MLP[name]
    options = {"activation": name, "weight_variance": 1.5, "bias_variance": 0.3}
    found = kernels(as_double(printed.X1), as_double(printed.X2), depth=2, **options)
    # Its tanh is a quadrature of 100 nodes.
    close = {"rtol": 0, "atol": 1e-8 if name == "tanh" else 1e-13}
    torch.testing.assert_close(found.nngp, as_double(nngp), **close)
    torch.testing.assert_close(found.ntk, as_double(tangent), **close)


@pytest.mark.parametrize(
    ("name", "depth", "bias", "normalised"),
    [
        ("relu", 1, True, None),
        ("relu", 3, False, None),
        ("relu2", 2, True, None),
        ("relu3", 1, False, False),
        ("erf", 2, False, None),
        ("gelu", 3, True, False),
        ("tanh", 2, True, True),
        ("linear", 2, True, False),
    ],
)
def test_networks_tend_to_the_kernel_as_their_width_to_the_minus_half(
    name: str, depth: int, bias: bool, normalised: bool | None
) -> None:
    x = drawn(5, 3)
    limit = kernels(
        x, depth=depth, activation=name, bias_variance=float(bias), normalised=normalised
    ).ntk
    errors = []
    for width, members in ((64, 60), (512, 40)):
        found = []
        for _ in range(members):
            net = MLP(
                3,
                1,
                width=width,
                depth=depth,
                activation=name,
                bias=bias,
                gamma0=float(torch.rand(()) + 0.2),
                normalised=normalised,
                centered=False,
                seed=int(torch.randint(1 << 30, ())),
                dtype=torch.float64,
            )
            found.append(net.gamma.detach() ** 2 * ntk.gram(net, x))
        stack = torch.stack(found)
        # The median network: those of ReLU^2 and ReLU^3 have heavy tails.
        errors.append(float((stack - limit).flatten(1).norm(dim=1).median()))
        if width == 512:
            # The mean over networks within 4 of its own standard errors, plus O(1 / N).
            spread = (stack.var(0).sum() / members).sqrt()
            assert float((stack.mean(0) - limit).norm()) < 4 * float(spread) + 0.03 * limit.norm()
    # 8^(1/2), of which forty networks show half to twice.
    assert 0.5 < errors[0] / errors[1] / 8**0.5 < 2


def test_two_sets_layers_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(7, 3), drawn(5, 3)
    for name in ("relu", "tanh", "linear"):
        options = {"depth": 3, "activation": name, "weight_variance": 1.3, "bias_variance": 0.2}
        monkeypatch.undo()
        whole = kernels(torch.cat((x, y)), per_layer=True, **options)
        monkeypatch.setattr("ntkscale.theory.infinite_width.fully_connected._PAIRS", 11)
        alone = kernels(x, per_layer=True, **options)
        cross = kernels(x, y, per_layer=True, **options)
        assert torch.equal(alone.ntk, alone.ntk.T) and torch.equal(alone.nngp, alone.nngp.T)
        for part, rows, columns in (
            (alone, slice(0, 7), slice(0, 7)),
            (cross, slice(0, 7), slice(7, None)),
        ):
            assert part.phi is not None and part.g is not None
            assert whole.phi is not None and whole.g is not None
            pairs = zip(
                (part.nngp, part.ntk, *part.phi, *part.g),
                (whole.nngp, whole.ntk, *whole.phi, *whole.g),
                strict=True,
            )
            for found, expected in pairs:
                torch.testing.assert_close(found, expected[rows, columns], rtol=1e-12, atol=1e-12)
            # ntk = sum_l (w Phi^l + b) G^(l+1), Phi^0 the inputs, G^(L+1) = 1.
            other = x if part is alone else y
            fields = (x @ other.T / 3, *part.phi)
            total = 1.3 * part.phi[-1] + sum(
                (1.3 * p + 0.2) * g for p, g in zip(fields, part.g, strict=False)
            )
            torch.testing.assert_close(total, part.ntk, rtol=1e-12, atol=1e-12)


def test_kernel_of_the_inputs_instead_of_inputs() -> None:
    x, y = drawn(6, 4), drawn(3, 4)
    options = {"depth": 2, "activation": "erf", "bias_variance": 0.5}
    torch.testing.assert_close(propagate(x @ x.T / 4, **options).ntk, kernels(x, **options).ntk)
    diagonals = [z.square().sum(1) / 4 for z in (x, y)]
    found = propagate(x @ y.T / 4, *diagonals, **options)
    torch.testing.assert_close(found.ntk, kernels(x, y, **options).ntk)


def test_arrays_of_numpy_and_whole_floats() -> None:
    x, y = drawn(4, 3), drawn(2, 3)
    options = {"depth": 2, "activation": "erf"}
    expected = kernels(x, y, **options).ntk
    found = kernels(x.numpy(), y.tolist(), depth=2.0, activation="erf")  # pyright: ignore[reportArgumentType]
    assert torch.equal(found.ntk, expected)
    own = propagate((x @ x.T / 3).numpy(), **options)
    torch.testing.assert_close(own.ntk, kernels(x, **options).ntk)
    # Parallel inputs in single precision are a little beyond the bound, by rounding.
    x = torch.cat((x, 3 * x)).float()
    assert bool(propagate(x @ x.T / 3, **options).ntk.isfinite().all())


def test_any_dtype_shape_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntkscale.theory.infinite_width.fully_connected._PAIRS", 64)
    seen: list[tuple[int, int]] = []
    images = torch.rand(20, 1, 3, 2)
    found = kernels(images, depth=1, progress=lambda done, total: seen.append((done, total)))
    assert found.ntk.dtype == torch.float64
    torch.testing.assert_close(found.ntk, kernels(images.flatten(1), depth=1).ntk)
    assert seen[-1] == (210, 210) and len(seen) > 3 and seen == sorted(seen)
    seen.clear()
    kernels(images, images[:3].clone(), depth=1, progress=lambda *a: seen.append(a))
    assert seen[-1] == (60, 60)


@pytest.mark.parametrize("name", ["relu", "relu2", "relu4", "erf", "gelu", "tanh"])
@pytest.mark.parametrize("alone", [True, False])
def test_gradients(name: str, alone: bool) -> None:
    x, y = (drawn(n, 2).requires_grad_() for n in (3, 2))

    def both(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        # ReLU^4 of ReLU^4 is a polynomial of degree 16: beyond what differences can check; the
        # series takes seconds.
        depth = 1 if name in ("relu4", "tanh") else 2
        found = kernels(*(z / 2 for z in inputs), depth=depth, activation=name, bias_variance=0.1)
        return found.nngp, found.ntk

    inputs = (x,) if alone else (x, y)
    fast = name == "tanh"
    assert torch.autograd.gradcheck(both, inputs, fast_mode=fast)
    assert torch.autograd.gradgradcheck(both, inputs, fast_mode=fast)
    by_hand = torch.autograd.grad(both(*inputs)[1].sum(), x)[0]
    by_func = torch.func.grad(lambda z: both(z, *inputs[1:])[1].sum())(x)
    torch.testing.assert_close(by_func, by_hand)


def test_gradients_where_inputs_are_parallel() -> None:
    x = drawn(1, 3)
    x = torch.cat((x, 2 * x, -x, drawn(1, 3))).requires_grad_()
    copy = x.detach().clone()
    for name in ("relu", "relu2", "gelu", "tanh"):
        # K(x, x) is smooth in x: for ReLU a multiple of |x|^2, K itself of degree 2.
        diagonal = kernels(x, depth=2, activation=name).ntk.diagonal()
        (slope,) = torch.autograd.grad(diagonal.sum(), x)
        if name == "relu":
            torch.testing.assert_close((slope * x).sum(1), 2 * diagonal)
            torch.testing.assert_close(slope, 2 * x * (diagonal / x.square().sum(1))[:, None])
        # Against other inputs that are the same points: finite, and exact for the smooth NNGP.
        found = kernels(x, copy, depth=2, activation=name)
        (slope,) = torch.autograd.grad(found.ntk.sum(), x, retain_graph=True)
        assert bool(slope.isfinite().all())
        (slope,) = torch.autograd.grad(found.nngp[0, 0], x)
        step = torch.zeros_like(x)
        step[0] = 1e-5 * drawn(3)
        with torch.no_grad():
            ends = [
                float(kernels(x + s, copy, depth=2, activation=name).nngp[0, 0])
                for s in (step, -step)
            ]
        assert float((slope * step).sum()) == pytest.approx((ends[0] - ends[1]) / 2, abs=1e-10)


def test_zero_inputs() -> None:
    x = torch.cat((torch.zeros(1, 2, dtype=torch.float64), drawn(2, 2))).requires_grad_()
    for name in NAMES:
        for bias in (0.0, 0.4):
            found = kernels(x, depth=2, activation=name, bias_variance=bias)
            (slope,) = torch.autograd.grad(found.ntk.sum(), x)
            assert bool(found.ntk.isfinite().all()) and bool(slope.isfinite().all())
            if not bias:
                torch.testing.assert_close(found.nngp[0], torch.zeros_like(found.nngp[0]))


def softplus(h: Tensor) -> Tensor:
    return torch.nn.functional.softplus(h)


def sine(h: Tensor) -> Tensor:
    return torch.sin(2 * h)


def leaky(h: Tensor) -> Tensor:
    return torch.nn.functional.leaky_relu(h, 0.1)


@pytest.mark.parametrize("phi", [softplus, sine, torch.sigmoid, leaky, torch.abs])
def test_any_function(phi: Callable[[Tensor], Tensor]) -> None:
    x, y = drawn(2, 3), drawn(2, 3)
    found = kernels(x, y, depth=2, activation=phi, bias_variance=0.1)
    made = activation(phi)
    assert len(made.kinks) == (phi in (leaky, torch.abs))
    nngp, tangent = reference.kernel(
        x[0], y[1], made.function, made.first, depth=2, bias_variance=0.1
    )
    assert float(found.nngp[0, 1]) == pytest.approx(nngp, rel=1e-9)
    assert float(found.ntk[0, 1]) == pytest.approx(tangent, rel=1e-9, abs=1e-12)
    # With a kink, rounding under a root.
    assert found.error < (1e-7 if made.kinks else 1e-12)


def test_the_series_states_its_error() -> None:
    # A hard case: tanh of large fields is nearly a step.
    x = 8 * drawn(40, 3)
    found = kernels(x, depth=1, activation="tanh")
    assert 1e-12 < found.error < 0.2
    # In closed form, by another function with the same series: erf.
    erf = activation("erf")
    series = Activation("mine", erf.function, erf.first)
    for inputs in (x / 8, x / 2, x):
        near = inputs + 0.01 * drawn(40, 3)
        exact = kernels(inputs, near, depth=1, activation="erf")
        found = kernels(inputs, near, depth=1, activation=series)
        scale = kernels(torch.cat((inputs, near)), depth=1, activation="erf").nngp.max()
        assert float((found.nngp - exact.nngp).abs().max()) <= (found.error + 1e-13) * scale


def test_kinks_at_zero_are_left_to_relu() -> None:
    def leaky_silu(h: Tensor) -> Tensor:
        return torch.nn.functional.silu(h) + 0.7 * h.abs()

    x = drawn(20, 3)
    x = torch.cat((x, x + 1e-3 * drawn(20, 3)))
    found = kernels(x, depth=1, activation=leaky_silu)
    assert found.error < 1e-6
    phi = activation(leaky_silu)
    for i in range(3):
        nngp, tangent = reference.kernel(x[i], x[i + 20], phi.function, phi.first, depth=1)
        assert float(found.nngp[i, i + 20]) == pytest.approx(nngp, rel=1e-7)
        assert float(found.ntk[i, i + 20]) == pytest.approx(tangent, rel=1e-6)


def test_normalised_multiples_and_weight_variance_are_the_same_thing() -> None:
    x = drawn(4, 3)
    scaled = kernels(x, depth=2, activation=activation("relu").normalised())
    torch.testing.assert_close(scaled.ntk, kernels(x, depth=2, normalised=True).ntk)
    he = kernels(x, depth=2, weight_variance=2.0)
    torch.testing.assert_close(scaled.ntk * 2, he.ntk)  # the first layer's 2


def test_kernels_are_positive() -> None:
    x = drawn(12, 3)
    for name in NAMES:
        found = kernels(x, depth=2, activation=name)
        for kernel in (found.nngp, found.ntk):
            values = torch.linalg.eigvalsh(kernel)
            assert float(values.min()) > -1e-12 * float(values.max())


def test_bad_options_are_one_sentence() -> None:
    x = torch.randn(3, 2)
    for wrong, words in (
        ({"depth": 0}, "depth must be a whole number, at least 1"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"depth": "two"}, "depth must be a whole number"),
        ({"bias_variance": "0"}, "bias_variance must be at least 0"),
        ({"activation": "sine"}, "unknown activation"),
        ({"weight_variance": 0.0}, "weight_variance must be positive"),
        ({"bias_variance": -1.0}, "bias_variance must be at least 0"),
    ):
        with pytest.raises(ValueError, match=words):
            kernels(x, **{"depth": 1, **wrong})
    with pytest.raises(ValueError, match="features a sample"):
        kernels(x, torch.randn(3, 3), depth=1)
    with pytest.raises(ValueError, match="at least one sample"):
        kernels(torch.randn(3), depth=1)
    with pytest.raises(ValueError, match="not finite"):
        kernels(x * math.nan, depth=1)
    with pytest.raises(ValueError, match="diagonals"):
        propagate(torch.ones(2, 3), depth=1)
    with pytest.raises(ValueError, match="diagonals of both"):
        propagate(torch.ones(2, 2), torch.ones(2), depth=1)
    with pytest.raises(ValueError, match="negative"):
        propagate(-torch.ones(2, 2), depth=1)
    square = drawn(3, 3) @ drawn(3, 3)
    with pytest.raises(ValueError, match="not symmetric"):
        propagate(square, depth=1)
    with pytest.raises(ValueError, match="first has entries that are not finite"):
        propagate(torch.ones(2, 2), torch.tensor([1.0, math.nan]), torch.ones(2), depth=1)
    # More than Cauchy and Schwarz allow: erf would give nan, others a value.
    too_large = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    for kernel, diagonals in ((too_large, ()), (too_large, (torch.ones(2), torch.ones(2)))):
        with pytest.raises(ValueError, match="above the root of the product"):
            propagate(kernel, *diagonals, depth=1, activation="erf")
