"""`gram` against a float64 loop of autograd, over models, outputs, routes and memory budgets."""

import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ntkscale import ntk
from ntkscale.ntk import jacobian
from ntkscale.ntk.engine import cut
from ntkscale.ntk.forward import as_function
from ntkscale.ntk.structured import Structured

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.reference.ntk import jacobian_rows, kernel, kernel_by_parameter

SEEDS = np.random.SeedSequence().generate_state(2)


class Tied(nn.Module):
    """One matrix in, its transpose out, and the same module called twice between."""

    def __init__(self):
        super().__init__()
        self.into = nn.Parameter(torch.randn(7, 5))
        self.twice = nn.Linear(7, 7)

    def forward(self, x):
        h = torch.tanh(x @ self.into.T)
        return torch.tanh(self.twice(torch.tanh(self.twice(h)))) @ self.into


class TiedModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Attention(nn.Module):
    """Tokens in, attention with a class token, layer norms, a head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1)
        h = h + self.attend(self.norm(h), self.norm(h), self.norm(h), need_weights=False)[0]
        return self.head(self.norm(h)[:, 0])


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(6, 18)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v).mean(1))


class Recurrent(nn.Module):
    """No batching rule: falls back to one by one by itself."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(self.rnn(x)[0][:, -1])


class Halting(nn.Module):
    """The number of steps depends on the sample."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x):
        rows = []
        for row in x:
            for _ in range(1 + int(row[0] > 0)):
                row = torch.tanh(self.step(row))
            rows.append(row[:2])
        return torch.stack(rows)


class Unused(nn.Module):
    """A parameter that some outputs, or all, do not depend on, and an output without any."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(4))
        self.b = nn.Parameter(torch.randn(3, 2))

    def forward(self, x):
        return torch.stack([(x * self.a).sum(1), x.sum(1)], 1)


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, bias=False),
        nn.GroupNorm(3, 3),
        nn.BatchNorm2d(3).eval(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def frozen():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    model[0].weight.requires_grad_(False)
    return model


CASES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)), (5,)),
    "cnn": (cnn, (2, 10, 10)),
    "layernorm": (lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2)), (5,)),
    "tied": (Tied, (5,)),
    "tied modules": (TiedModules, (5,)),
    "attention": (Attention, "tokens"),
    "fused attention": (Fused, (4, 6)),
    "recurrent": (Recurrent, (3, 4)),
    "halting": (Halting, (4,)),
    "unused": (Unused, (4,)),
    "frozen": (frozen, (5,)),
}


def draw(name, seed, dtype=torch.float64) -> tuple[Any, Tensor, Tensor]:
    build, shape = CASES[name]
    torch.manual_seed(int(seed) % 2**31)
    n1, n2 = (int(n) for n in torch.randint(3, 8, (2,)))
    if shape == "tokens":
        return build().to(dtype), torch.randint(0, 11, (n1, 6)), torch.randint(0, 11, (n2, 6))
    model = build().to(dtype)
    for p in model.parameters():
        p.data.mul_(1.3).add_(0.05)
    return model, torch.randn(n1, *shape, dtype=dtype), torch.randn(n2, *shape, dtype=dtype)


@pytest.fixture(params=["rules", "vectorised", "one by one"])
def route(request, monkeypatch):
    """Rules first, or the generic route alone, by `torch.func` or by plain autograd."""
    if request.param != "rules":
        monkeypatch.setattr(Structured, "of", classmethod(lambda *_, **__: None))
    if request.param == "one by one":
        monkeypatch.setattr(jacobian, "pulls_back_alike", lambda *_: False)
    return request.param


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CASES)
def test_every_output_agrees_with_autograd(name, seed, route):
    model, x1, x2 = draw(name, seed)
    for second in (None, x2):
        full = kernel(model, x1, second, output="full")
        diagonal = full.diagonal(dim1=2, dim2=3)
        wanted = {
            "trace": diagonal.sum(-1),
            "diagonal": diagonal,
            "full": full,
            -1: diagonal[..., -1],
        }
        for output, want in wanted.items():
            got = ntk.gram(model, x1, second, output=output)
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
            if second is None and output in ("trace", -1):
                assert torch.equal(got, got.T)


@pytest.mark.parametrize("output", ["trace", "diagonal", "full", 1])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 7, 17, 30])
def test_any_memory_budget_gives_the_same_kernel(output, rows, route, monkeypatch):
    monkeypatch.setattr("ntkscale.ntk.accumulate.TILE", 2)
    monkeypatch.setattr("ntkscale.ntk.accumulate.WIDTH", 13)
    model, x1, x2 = draw("mlp", SEEDS[0])
    row_bytes = 8 * sum(p.numel() for p in model.parameters())
    for second in (None, x2):
        calls = []
        got = ntk.gram(
            model,
            x1,
            second,
            output=output,
            memory=rows * row_bytes,
            progress=lambda done, total, calls=calls: calls.append((done, total)),
        )
        torch.testing.assert_close(
            got, kernel(model, x1, second, output=output), rtol=1e-10, atol=1e-12
        )
        assert [d for d, _ in calls] == sorted({d for d, _ in calls})
        assert calls[-1][0] == calls[-1][1] and len({t for _, t in calls}) == 1


@pytest.mark.parametrize("name", ["cnn", "tied modules", "attention", "unused"])
def test_kernels_by_parameter_and_their_sum(name, route):
    model, x1, x2 = draw(name, SEEDS[1])
    for second in (None, x2):
        got = ntk.gram_by_parameter(model, x1, second)
        want = kernel_by_parameter(model, x1, second)
        assert (
            list(got) == [n for n, p in model.named_parameters() if p.requires_grad] == list(want)
        )
        for key in got:
            torch.testing.assert_close(got[key], want[key], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            sum(got.values()), ntk.gram(model, x1, second), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "tied"])
@pytest.mark.parametrize("method", ["structured", "jacobian", "products"])
def test_every_method_gives_the_same_kernel(name, method):
    model, x1, x2 = draw(name, SEEDS[0])
    for second in (None, x2):
        for output in ("trace", "diagonal", "full", 1):
            want = kernel(model, x1, second, output=output)
            got = ntk.gram(model, x1, second, output=output, method=method)
            assert (got - want).abs().max() <= 1e-10 * want.abs().max()


@pytest.mark.parametrize("head", ["linear", "nonlinear"])
def test_wide_and_narrow_convolutions(head):
    """Many channels of few inputs, and the reverse: other orders of the same products."""
    last = [nn.Tanh()] if head == "nonlinear" else []
    for sizes in ((2, 40), (40, 3), (2, 40, 3), (3, 33, 34)):
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1], 3)]
        model = nn.Sequential(*layers, *pool, *last).double()
        x1, x2 = (torch.randn(n, sizes[0], 7, 6, dtype=torch.float64) for n in (5, 3))
        for second in (None, x2):
            for output in ("trace", "diagonal", "full"):
                want = kernel(model, x1, second, output=output)
                got = ntk.gram(model, x1, second, output=output, method="structured")
                assert (got - want).abs().max() <= 1e-10 * want.abs().max()


def test_tiles_of_many_samples_agree_with_few():
    """More samples than a tile has rows, in chunks that do not divide them."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    model = model.double()
    x = torch.randn(1_301, 4, dtype=torch.float64)
    rows = jacobian_rows(model, x)
    flat = torch.cat(list(rows.values()), 2)
    patterns: dict[Any, str] = {"trace": "acw,bcw->ab", "full": "acw,bdw->abcd"}
    for output, pattern in patterns.items():
        want = torch.einsum(pattern, flat, flat)
        for memory in (1 << 30, 1 << 18):
            got = ntk.gram(model, x, output=output, memory=memory)
            assert (got - want).abs().max() <= 1e-11 * want.abs().max()
        got = ntk.gram(model, x, x[:700], output=output)
        assert (got - want[:, :700]).abs().max() <= 1e-11 * want.abs().max()


@pytest.mark.parametrize("output", ["trace", "diagonal"])
def test_outputs_are_taken_in_groups_before_samples_in_chunks(output):
    """Budgets from one output at a time to all, then fewer samples: the same kernel."""
    torch.manual_seed(int(SEEDS[0]) % 2**31)
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 20), nn.ReLU())
    model = nn.Sequential(*model, nn.Linear(20, 7)).double()
    x1, x2 = (torch.randn(n, 5, dtype=torch.float64) for n in (17, 6))
    for second in (None, x2):
        want = kernel(model, x1, second, output=output)
        for memory in (1, 1 << 12, 1 << 14, 1 << 15, 3 << 15, 1 << 18, 1 << 30):
            got = ntk.gram(model, x1, second, output=output, memory=memory)
            assert (got - want).abs().max() <= 1e-11 * want.abs().max()


@pytest.mark.parametrize("output", ["trace", "diagonal"])
def test_groups_of_outputs_share_a_forward_pass(output):
    """However few outputs fit at a time, the whole batch goes forward at most twice."""
    model = nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 20), nn.Tanh())
    # No linear head: every output needs a backward pass of its own.
    model = nn.Sequential(*model, nn.Linear(20, 7), nn.Softmax(1)).double()
    x = torch.randn(17, 5, dtype=torch.float64)
    passes, taken = [0], set()
    model.register_forward_pre_hook(
        lambda _, given: passes.__setitem__(0, passes[0] + (len(given[0]) == len(x)))
    )
    want = kernel(model, x, None, output=output)
    for memory in (1 << 15, 3 << 14, 1 << 16, 3 << 15, 1 << 17):
        forward = as_function(model, params=None, select=None, attached=False)
        whole = Structured.of(forward, x, len(x), tuple(range(7)), output)
        assert whole is not None
        rows, group = cut(whole, len(x), memory)
        if rows < len(x):
            continue
        taken.add(group)
        passes[0] = 0
        got = ntk.gram(model, x, output=output, memory=memory)
        assert (got - want).abs().max() <= 1e-11 * want.abs().max()
        assert passes[0] <= 2
    assert min(taken) < 7


def test_rules_alone_are_refused_where_they_do_not_reach():
    model, x, _ = draw("halting", SEEDS[0])
    with pytest.raises(ValueError, match=r"step\.(weight|bias).*method='auto'"):
        ntk.gram(model, x, method="structured")


def test_parameters_by_name_predicate_and_alias():
    model, x, _ = draw("tied modules", SEEDS[0])
    want = kernel(model, x, params=["first.weight"])
    for params in (["first.weight"], ["second.weight"], "first.weight", lambda n, p: p.ndim == 2):
        torch.testing.assert_close(ntk.gram(model, x, params=params), want)
    model, x, _ = draw("frozen", SEEDS[0])
    named = ntk.gram(model, x, params=["0.weight"])
    model[0].weight.requires_grad_(True)
    torch.testing.assert_close(named, kernel(model, x, params=["0.weight"]))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(5, 4)

    def forward(self, x):
        return {"logits": torch.tanh(self.net(x)).unflatten(1, (2, 2)), "extra": (x, 3)}


def test_output_picked_out_of_what_the_model_returns():
    model, x = Dictionary(), torch.randn(4, 5)
    got = ntk.gram(model, x, output=lambda r: r["logits"])
    torch.testing.assert_close(
        got.double(), kernel(model, x, pick=lambda r: r["logits"]), rtol=1e-5, atol=1e-6
    )
    got = ntk.gram(model, x, output=lambda r: r["logits"][:, 0, 1])
    torch.testing.assert_close(
        got.double(), kernel(model, x, pick=lambda r: r["logits"][:, 0, 1]), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"keys .*'extra', 'logits'"):
        ntk.gram(model, x)


def test_values_in_place_of_the_modules_own():
    model, x, _ = draw("mlp", SEEDS[0])
    other, _, _ = draw("mlp", SEEDS[1])
    values = dict(other.named_parameters())
    torch.testing.assert_close(ntk.gram((model, values), x), kernel(other, x))
    prefixed = {f"_orig_mod.{name}": value for name, value in values.items()}
    torch.testing.assert_close(ntk.gram((model, prefixed), x), kernel(other, x))


@pytest.mark.parametrize("width", [20_000])
def test_float32_keeps_its_digits_over_long_sums(width, route):
    model, x = nn.Sequential(nn.Linear(9, width), nn.ReLU(), nn.Linear(width, 1)), torch.randn(6, 9)
    got = ntk.gram(model, x)
    want = kernel(model, x)
    assert got.dtype == torch.float32
    assert ((got - want).abs().max() / want.abs().max()) < 2e-6


@pytest.mark.parametrize("name", ["mlp", "fused attention", "halting"])
def test_derivative_with_respect_to_inputs(name):
    model, x1, x2 = draw(name, SEEDS[0])
    x1 = x1[:3].requires_grad_()
    for output in ("trace", "full"):
        k = ntk.gram(model, x1, x2[:2], output=output, create_graph=True)
        torch.testing.assert_close(
            k, kernel(model, x1, x2[:2], output=output), rtol=1e-9, atol=1e-11
        )
        weights = torch.randn_like(k)
        (got,) = torch.autograd.grad((k * weights).sum(), x1)
        direction, step = torch.randn_like(x1), 1e-5
        ahead, behind = (
            (kernel(model, x1.detach() + s * direction, x2[:2], output=output) * weights).sum()
            for s in (step, -step)
        )
        torch.testing.assert_close(
            (got * direction).sum(), ((ahead - behind) / (2 * step)).detach(), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("output", ["trace", "full"])
def test_gradcheck_with_respect_to_inputs_and_parameters(output):
    model, x, _ = draw("mlp", SEEDS[1])
    x = x[:3].requires_grad_()
    names = [name for name, _ in model.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in model.parameters())

    def of_inputs(x):
        return ntk.gram(model, x, output=output, create_graph=True)

    def of_parameters(*values):
        pair = (model, dict(zip(names, values, strict=True)))
        return ntk.gram(pair, x.detach(), output=output, create_graph=True)

    assert torch.autograd.gradcheck(of_inputs, (x,))
    assert torch.autograd.gradcheck(of_parameters, values)


def test_kernel_on_disk(tmp_path):
    model, x1, _ = draw("mlp", SEEDS[0])
    path = tmp_path / "kernel.npy"
    got = ntk.gram(model, x1, out=path, memory=1, output="full")
    torch.testing.assert_close(got, kernel(model, x1, output="full"))
    assert np.array_equal(np.load(path), got.numpy())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kernel.npy", "kernel.npy.manifest.json"]
    assert ntk.verify(path) == []


def test_wrapped_models():
    model, x, _ = draw("mlp", SEEDS[0])
    compiled: Any = torch.compile(model, backend="eager")
    compiled(x)
    torch.testing.assert_close(ntk.gram(compiled, x), kernel(model, x))
    first = nn.Linear(5, 4).double()
    part: Any = torch.compile(first, backend="eager")
    inner = nn.Sequential(part, nn.Tanh())
    inner(x)
    plain = nn.Sequential(first, nn.Tanh())
    torch.testing.assert_close(ntk.gram(inner, x), kernel(plain, x))


def test_works_inside_no_grad_and_inference_mode():
    model, x, _ = draw("mlp", SEEDS[0])
    want = kernel(model, x)
    with torch.no_grad():
        torch.testing.assert_close(ntk.gram(model, x), want)
    with torch.inference_mode():
        torch.testing.assert_close(ntk.gram(model, x.clone()), want)


def test_leaves_the_model_and_random_states_alone():
    first = nn.Linear(5, 4)
    norm = nn.InstanceNorm1d(3, track_running_stats=True)
    model = nn.Sequential(nn.Unflatten(1, (3, 5)), first, norm, nn.Flatten())
    x = torch.randn(4, 15)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first.weight.grad = torch.ones(4, 5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    ntk.gram(model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training and torch.equal(first.weight.grad, torch.ones(4, 5))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Centring(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(5, 2)

    def forward(self, x):
        return torch.tanh(self.net(x - x.mean(0)))


class Noisy(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.net, self.draw = nn.Linear(5, 2), draw

    def forward(self, x):
        return self.net(x) * self.draw()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.01)), "dropout '1' .*model.eval"),
        (nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)), "batch norm '1' .*model.eval"),
        (
            nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval(),
            "batch norm '1' .*running statistics",
        ),
        (Centring(), "other samples"),
        (Noisy(lambda: torch.rand(())), "random numbers"),
        (Noisy(partial(np.random.default_rng(0).uniform, 1, 2)), "differently"),
    ],
)
def test_forwards_without_a_kernel_are_refused(model, says):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        ntk.gram(model, torch.randn(6, 5))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    if not isinstance(model, (Centring, Noisy)) and "statistics" not in says:
        ntk.gram(model.eval(), torch.randn(6, 5))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"output": 3}, "output 3 does not exist; the model has 3"),
        ({"output": "sum"}, "no output 'sum'"),
        ({"method": "products", "create_graph": True}, "plain kernel in memory"),
        ({"method": "fastest"}, "no method 'fastest'"),
        ({"params": ["0.wieght"]}, "did you mean .*0.weight"),
        ({"params": []}, "empty"),
        ({"params": lambda n, p: False}, "accepts no trainable"),
        ({"x2": torch.zeros(2, 6)}, "shape"),
        ({"x1": torch.zeros(0, 5)}, "at least one sample"),
        ({"out": "kernel.txt"}, "npy"),
        ({"out": "kernel.npy", "create_graph": True}, "either out"),
        ({"output": lambda y: y.sum()}, "first axis must be the samples"),
    ],
)
def test_bad_input_is_one_sentence(arguments, says):
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=says) as caught:
        ntk.gram(**{"model": model, "x1": torch.randn(4, 5)} | arguments)
    assert "\n" not in str(caught.value)


def test_not_a_module_and_nothing_trainable():
    with pytest.raises(TypeError, match=r"not an nn\.Module"):
        ntk.gram(lambda x: x, torch.zeros(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no parameter is trainable"):
        ntk.gram(nn.Linear(3, 2).requires_grad_(False), torch.randn(2, 3))


def test_a_diverged_model_gives_nan_and_no_complaint():
    model = nn.Linear(3, 2)
    model.bias.data.fill_(torch.nan)
    model = nn.Sequential(model, nn.Softplus())
    assert ntk.gram(model, torch.randn(4, 3)).isnan().all()


def test_an_operation_torch_func_gets_wrong_is_seen():
    """Distances to learned centres: `torch.func` has given other gradients than autograd."""

    class Centres(nn.Module):
        def __init__(self):
            super().__init__()
            self.centres = nn.Parameter(torch.randn(6, 4, dtype=torch.float64))

        def forward(self, x):
            return torch.exp(-torch.cdist(x, self.centres))

    model, x = Centres(), torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(ntk.gram(model, x), kernel(model, x))
