"""`operator` against a dense float64 kernel, over models, outputs, routes and memory budgets."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ntkscale.ntk import passes
from ntkscale.ntk.kernel_operator import KernelOperator
from ntkscale.ntk.matrix_free import operator

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.ntk.operator_models import MODELS, Named, Opaque, mlp
from tests.reference.ntk import kernel

SEED = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
RELATIVE = {torch.float64: 1e-11, torch.float32: 1e-5}


def draw(name: str, dtype: torch.dtype):
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    build, sample = MODELS[name]
    model, x = build().to(dtype), sample(int(torch.randint(2, 9, ())))
    parts = x if isinstance(x, tuple) else (x,)
    cast = tuple(t.to(dtype) if t.is_floating_point() else t for t in parts)
    return model, cast if isinstance(x, tuple) else cast[0]


def dense(model: nn.Module, x, output, **options) -> Tensor:
    k = kernel(model, x, output=output, **options)
    return k.permute(0, 2, 1, 3).flatten(2).flatten(0, 1) if output == "full" else k


def assert_is(k: KernelOperator, want: Tensor) -> None:
    got = k @ torch.eye(k.shape[0], dtype=torch.float64)
    assert k.shape == want.shape
    assert got.dtype == k.dtype
    error = (got.double() - want).abs().max() / want.abs().max()
    assert error <= RELATIVE[k.dtype], f"{error:.1e} of the largest entry"


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_products_diagonal_and_dense_matrix_are_the_kernel(name, dtype):
    model, x = draw(name, dtype)
    for output in ("trace", "full", 1):
        k, want = operator(model, x, output=output), dense(model, x, output)
        assert_is(k, want)
        for got, wanted in ((k.diagonal(), want.diagonal()), (k.to_dense(), want)):
            assert got.dtype == dtype
            assert (got.double() - wanted).abs().max() <= RELATIVE[dtype] * want.abs().max()


def test_inputs_by_name_a_picked_output_chosen_parameters():
    torch.manual_seed(SEED)
    model = Named()
    x = {"right": torch.randn(5, 2), "left": torch.randn(5, 3)}

    def pick(returned):
        return returned["logits"]

    assert_is(operator(model, x, output=pick), kernel(model, x, pick=pick))
    for params in (["phase"], lambda name, _: name == "phase"):
        k = operator(model, x, params=params, output=pick)
        assert_is(k, kernel(model, x, params=["phase"], pick=pick))
    assert not (operator(model, x, params=["unused"], output=pick) @ torch.ones(5)).any()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("route", ["batched", "forward", "double"])
def test_every_route_gives_the_same(route, together, fused, monkeypatch):
    model, x = draw("cnn", torch.float64)
    want = dense(model, x, "trace")

    def choose(forward, _):
        return passes.Passes(forward, together=together, route=route, fused=fused)

    monkeypatch.setattr("ntkscale.ntk.products.choose", choose)
    assert_is(operator(model, x), want)


def test_routes_are_chosen_by_what_the_model_allows():
    route = {name: operator(*draw(name, torch.float32))._linear.passes for name in MODELS}
    assert {name: p.route for name, p in route.items() if name != "lstm"} == dict.fromkeys(
        MODELS.keys() - {"lstm"}, "batched"
    )
    assert route["lstm"].route != "batched" or not route["lstm"].fused
    assert not route["attention"].together, "sparse gradients have no batching rule"


def test_a_route_that_is_wrong_is_not_taken(monkeypatch):
    model, x = draw("mlp", torch.float64)
    right = passes.Passes._along
    monkeypatch.setattr(passes.Passes, "_along", lambda self, x, u: 1.01 * right(self, x, u))
    k = operator(model, x)
    assert k._linear.passes.route == "forward"
    assert_is(k, dense(model, x, "trace"))


@pytest.mark.parametrize("output", ["trace", "full", -1])
def test_any_memory_budget_gives_the_same_and_equal_calls_equal_bits(output):
    torch.manual_seed(SEED)
    model, x = mlp(4, 6, 6, 3).double(), torch.randn(13, 4).double()
    want = dense(model, x, output)
    v = torch.randn(len(want), 5).double()
    for memory in (1, 30_000, 200_000, None):
        k, again = (operator(model, x, output=output, memory=memory) for _ in range(2))
        assert (k @ v - want @ v).abs().max() <= 1e-12 * want.abs().max() * len(want)
        assert torch.equal(k @ v, again @ v)
        assert torch.equal(k @ v, k @ v)
    assert operator(model, x, memory=1)._linear.samples == 1


def test_directions_in_parameter_space_stay_within_half_the_budget():
    model, x = mlp(4, 6, 6, 3), torch.randn(13, 4)
    entry = sum(p.numel() for p in model.parameters()) * (8 + 2 * 4)  # a float64 sum, two copies
    for memory in (1, 5 * entry, 40 * entry):
        assert operator(model, x, memory=memory)._linear.vectors == max(1, memory // 2 // entry)


def test_float32_sums_over_samples_do_not_lose_digits():
    torch.manual_seed(SEED)
    model, x = mlp(8, 32, 1), torch.randn(4_000, 8)
    v = torch.ones(len(x))
    k = operator(model, x, memory=1 << 20)
    assert k._linear.samples < 1_000
    want = operator(model.double(), x.double()) @ v.double()
    error = torch.linalg.vector_norm(k @ v - want) / torch.linalg.vector_norm(want)
    assert error < 3e-7, f"{error:.1e}"


def test_arrays_vectors_and_blocks():
    model, x = draw("mlp", torch.float32)
    k, n = operator(model, x), len(x)
    want = dense(model, x, "trace").float()
    for v in (torch.randn(n), torch.randn(n, 3).double(), torch.randn(n, 0), torch.arange(n)):
        result, array = k @ v, k @ v.numpy()
        assert isinstance(array, np.ndarray)
        assert result.shape == v.shape
        assert result.dtype == torch.float32
        assert np.array_equal(array, result.numpy())
        torch.testing.assert_close(result, want @ v.float(), rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        v = torch.ones(n)
        made = operator(model, x) @ v
    assert torch.equal(made, k @ torch.ones(n))


def test_the_model_is_left_alone_and_may_move_on():
    model, x = draw("cnn", torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    v = torch.ones(len(x))
    state, fast = torch.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    k = operator(model, x)
    first = k @ v
    k.trace(products=6)
    k.top_eigenvalues(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    diagonal = k.diagonal()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert torch.equal(k @ v, first)
    assert torch.equal(k.diagonal(), diagonal)
    given = {name: before[name] for name, _ in model.named_parameters()}
    assert torch.equal(operator((model, given), x) @ v, first)


def test_spectrum_of_a_network_with_fewer_parameters_than_samples():
    torch.manual_seed(SEED)
    model, x = mlp(3, 6, 2).double(), torch.randn(60, 3).double()
    want = dense(model, x, "full")
    k = operator(model, x, output="full")
    exact = torch.linalg.eigvalsh(want).flip(0)
    steps: list[tuple[int, int]] = []
    found = k.top_eigenvalues(45, progress=lambda *at: steps.append(at))
    assert steps[-1][1] == 45
    # 38 parameters: what comes after has nothing but rounding for a residual.
    assert bool(found.converged[:38].all())
    assert (found.values - exact[:45]).abs().max() <= 1e-7 * exact[0]
    gaps = torch.linalg.vector_norm(want @ found.vectors - found.vectors * found.values, dim=0)
    assert (gaps / found.values[0] - found.residuals).abs().max() < 1e-13
    assert k.passes_each == 1
    assert found.passes == found.products


def test_estimates_of_a_kernel_summed_over_outputs():
    torch.manual_seed(SEED)
    model, x = mlp(6, 16, 3), torch.randn(90, 6)
    want = dense(model, x, "trace")
    exact = torch.linalg.eigvalsh(want).flip(0)
    k = operator(model, x)
    found = k.top_eigenvalues(8)
    assert bool(found.converged.all())
    assert ((found.values - exact[:8]) / exact[:8]).abs().max() < 1e-4
    assert found.passes == 3 * found.products
    assert abs(float(k.trace(exact=True)) - float(exact.sum())) < 1e-5 * float(exact.sum())
    trace = k.trace(level=0.9999)
    assert trace.interval[0] <= float(exact.sum()) <= trace.interval[1]
    assert trace.passes == 3 * trace.products == 90
    density = k.density(probes=4, steps=20, known=found, level=0.9999)
    inside = (exact[None] >= density.grid[:, None]).sum(1)
    within = (density.low <= inside + 0.01) & (inside - 0.01 <= density.high)
    assert within.double().mean() > 0.95
    assert density.passes == 3 * 4 * 20


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x) + torch.randn(len(x), 2)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


X = torch.randn(6, 3)
REFUSED = {
    "random": lambda: operator(Noisy(), X),
    "dropout": lambda: operator(nn.Sequential(nn.Linear(3, 2), nn.Dropout()), X),
    "mixed": lambda: operator(nn.Sequential(nn.Linear(3, 2), Centred()), X),
    "neither rule": lambda: operator(Opaque(), X),
    "output": lambda: operator(nn.Linear(3, 2), X, output=2),
    "diagonal": lambda: operator(nn.Linear(3, 2), X, output="diagonal"),  # type: ignore[arg-type]
    "parameter": lambda: operator(nn.Linear(3, 2), X, params=["wieght"]),
    "empty": lambda: operator(nn.Linear(3, 2), X[:0]),
    "vector": lambda: operator(nn.Linear(3, 2), X) @ torch.ones(5),
    "scalar": lambda: operator(nn.Linear(3, 2), X) @ 3.0,  # type: ignore[operator]
    "complex": lambda: operator(nn.Linear(3, 2), X) @ torch.ones(6, dtype=torch.complex64),
    "k": lambda: operator(nn.Linear(3, 2), X).top_eigenvalues(7),
    "diverged": lambda: operator(diverged(), X).top_eigenvalues(2),
}


def diverged() -> nn.Module:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    return nn.Sequential(nn.Linear(3, 3), model)


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_one_sentence(what):
    with pytest.raises(ValueError) as refused:
        REFUSED[what]()
    text = str(refused.value)
    assert text.endswith((".", "?")), text
    assert ". " not in text, text


def test_something_that_is_no_module():
    with pytest.raises(TypeError, match=r"not an nn\.Module"):
        operator(torch.sin, X)  # type: ignore[arg-type]
