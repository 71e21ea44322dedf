"""Barriers against networks copied, interpolated and evaluated one sample at a time in float64."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ntkscale import landscape
from ntkscale.landscape import model as model_module
from ntkscale.networks import CNN, MLP
from tests.reference.landscape import error_rates, on_the_line


def size(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()))


def mlp(inputs, classes):
    return partial(MLP, inputs, classes, width=size(3, 9), depth=2, bias=True, dtype=torch.float64)


def cnn(shape, classes):
    return partial(CNN, shape[0], shape[1:], classes, width=3, bias=True, dtype=torch.float64)


def normed_dense(inputs, classes):
    width = size(3, 8)

    def build(seed):
        return nn.Sequential(
            nn.Linear(inputs, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(width, classes),
        ).double()

    return build


def normed_images(shape, classes):
    def build(seed):
        return nn.Sequential(
            nn.Conv2d(shape[0], 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 3, 1),
            nn.BatchNorm2d(3, affine=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3 * (shape[1] - 2) * (shape[2] - 2), classes),
        ).double()

    return build


def problem(build, shape, classes, m):
    """A model, two state dicts with statistics of their own, and a set."""
    states = []
    for seed in (1, 2):
        net = build(seed=seed)
        net.train()
        with torch.no_grad():
            for _ in range(3):
                net(torch.randn(6, *shape, dtype=torch.float64) * size(1, 4) + 1)
        states.append(net.state_dict())
    x = torch.randn(m, *shape, dtype=torch.float64)
    return build(seed=3), *states, x, torch.randint(0, max(2, classes), (m,))


CASES = {
    "mlp": (mlp, (5,)),
    "cnn": (cnn, (2, 6, 5)),
    "dense batch norm": (normed_dense, (5,)),
    "images batch norm": (normed_images, (2, 5, 4)),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("batch_norm", ["keep", "recompute"])
def test_errors_are_those_of_networks_on_the_line(kind, batch_norm, monkeypatch):
    make, shape = CASES[kind]
    classes, m, points = size(2, 5), size(20, 40), size(3, 8)
    model, start, end, x, labels = problem(
        make(shape[0] if len(shape) == 1 else shape, classes), shape, classes, m
    )
    statistics = torch.randn(30, *shape, dtype=torch.float64)
    model.train()
    before = copy.deepcopy(model.state_dict())
    ends = copy.deepcopy((start, end))
    found = landscape.error_barrier(
        model,
        start,
        end,
        {"train": (x, labels), "test": (x[:9], labels[:9])},
        points=points,
        batch_norm=batch_norm,
        statistics_inputs=statistics,
    )
    normed = "batch norm" in kind
    assert found["train"].batch_norm == (batch_norm if normed else "none")
    anew = statistics if normed and batch_norm == "recompute" else None
    want = error_rates(model, start, end, x, labels, points, anew)
    np.testing.assert_allclose(found["train"].errors, want, atol=1e-12)
    np.testing.assert_allclose(found["train"].alphas, np.arange(points) / (points - 1))
    assert found["train"].barrier == pytest.approx(max(want) - (want[0] + want[-1]) / 2)
    want = error_rates(model, start, end, x[:9], labels[:9], points, anew)
    np.testing.assert_allclose(found["test"].errors, want, atol=1e-12)
    # Nothing that was given has moved, in bits, momenta or modes.
    assert all(part.training for part in model.modules())
    momenta = [p.momentum for p in model.modules() if isinstance(p, nn.BatchNorm1d)]
    assert set(momenta) <= {0.1}
    for now, then in zip((model.state_dict(), start, end), (before, *ends), strict=True):
        assert all(torch.equal(now[name], then[name]) for name in then)
    # Pieces change nothing but, under "recompute", what the statistics average over.
    if not normed or batch_norm == "keep":
        monkeypatch.setattr(model_module, "_MOST_SAMPLES", 7)
        again = landscape.error_barrier(model, start, end, {"train": (x, labels)}, points=points)[
            "train"
        ]
        np.testing.assert_array_equal(again.errors, found["train"].errors)


def test_statistics_average_over_pieces(monkeypatch):
    model, start, end, x, labels = problem(normed_dense(4, 3), (4,), 3, 20)
    monkeypatch.setattr(model_module, "_MOST_SAMPLES", 8)
    statistics = torch.randn(24, 4, dtype=torch.float64) * 3
    found = landscape.error_barrier(
        model,
        start,
        end,
        {"a": (x, labels)},
        points=3,
        batch_norm="recompute",
        statistics_inputs=statistics,
        measure=lambda outputs, _: outputs[:, 0],
    )["a"]
    half = on_the_line(model, start, end, 0.5)
    first, norm, _, _, last = half.children()
    assert isinstance(norm, nn.BatchNorm1d)
    h = first(statistics)
    mean = torch.stack([piece.mean(0) for piece in h.split(8)]).mean(0)
    variance = torch.stack([piece.var(0) for piece in h.split(8)]).mean(0)
    g = (first(x) - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    assert found.errors[1] == pytest.approx(last(g.relu())[:, 0].mean().item(), rel=1e-12)


@pytest.mark.parametrize("batch_norm", ["keep", "recompute"])
def test_no_barrier_between_a_network_and_itself(batch_norm):
    model, start, _, x, labels = problem(normed_images((1, 5, 5), 3), (1, 5, 5), 3, 31)
    model, start = model.float(), {name: value.float() for name, value in start.items()}
    found = landscape.error_barrier(
        model,
        start,
        start,
        {"a": (x.float(), labels)},
        batch_norm=batch_norm,
        statistics_inputs=x.float(),
        measure=partial(F.cross_entropy, reduction="none"),
    )["a"]
    assert len(found.errors) == 11
    assert found.barrier == 0.0


def test_a_measure_of_ones_own_and_one_output():
    model, start, end, x, labels = problem(mlp(4, 1), (4,), 1, 17)
    targets = torch.randn(17, 1, dtype=torch.float64)
    squares = landscape.error_barrier(
        model, start, end, {"a": (x, targets)}, points=3, measure=lambda f, y: ((f - y) ** 2).sum(1)
    )["a"].errors
    middle = on_the_line(model, start, end, 0.5)
    assert squares[1] == pytest.approx((middle(x) - targets).square().mean().item(), rel=1e-12)
    signs = landscape.error_barrier(model, start, end, {"a": (x, labels)}, points=5)["a"].errors
    np.testing.assert_allclose(signs, error_rates(model, start, end, x, labels, 5))


def test_tied_weights_and_buffers_that_are_not_saved():
    class Tied(nn.Module):
        calls: torch.Tensor
        total: torch.Tensor

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight
            self.register_buffer("calls", torch.zeros(()), persistent=False)
            self.register_buffer("total", torch.zeros(()))

        def forward(self, x):
            self.calls.add_(1)
            self.total.add_(1)
            return self.two(torch.relu(self.one(x)))

    model, other = Tied(), Tied()
    x, labels = torch.randn(9, 4), torch.randint(0, 4, (9,))
    states = model.state_dict(), other.state_dict()
    found = landscape.error_barrier(model, *states, {"a": (x, labels)}, points=3)["a"]
    assert float(model.calls) == float(model.total) == float(other.total) == 0
    middle = (model.one.weight + other.one.weight) / 2
    outputs = (x @ middle.T).relu() @ middle.T
    assert found.errors[1] == float((outputs.argmax(1) != labels).double().mean())
    landscape.outputs_at(model, states[1], x)
    assert float(model.calls) == float(model.total) == float(other.total) == 0


def test_whole_numbers_are_those_of_the_start():
    class Counting(nn.Module):
        count: torch.Tensor

        def __init__(self, count):
            super().__init__()
            self.register_buffer("count", torch.tensor(count))

        def forward(self, x):
            return x * self.count

    start, end = Counting(2), Counting(7)
    found = landscape.error_barrier(
        end,
        start.state_dict(),
        end.state_dict(),
        {"a": (torch.ones(4, 1), torch.zeros(4))},
        measure=lambda outputs, _: outputs[:, 0],
    )["a"]
    assert found.errors.tolist() == [2.0] * 11


def test_outputs_at_other_weights_and_error_rate():
    model, start, _, x, labels = problem(normed_dense(5, 3), (5,), 3, 23)
    outputs = landscape.outputs_at(model, start, x)
    want = on_the_line(model, start, start, 0.0)(x)
    torch.testing.assert_close(outputs, want, rtol=1e-12, atol=1e-12)
    assert not outputs.requires_grad
    rate = sum(int(o.argmax()) != int(y) for o, y in zip(want, labels, strict=True)) / 23
    assert landscape.error_rate(outputs, labels) == rate
    outputs[:] = torch.nan
    assert landscape.error_rate(outputs, labels) == 1.0
    assert landscape.chosen_class(torch.tensor([[0.1], [-2.0]])).tolist() == [1, 0]


def test_bad_input():
    model, start, end, x, labels = problem(normed_dense(5, 3), (5,), 3, 8)
    sets = {"test": (x, labels)}
    few = {name: value for name, value in end.items() if name != "0.bias"}
    wide = {**end, "0.bias": torch.zeros(99)}
    bad = [
        (lambda: landscape.error_barrier(model, start, few, sets), "end lacks '0.bias'"),
        (lambda: landscape.error_barrier(model, {**start, "q": x}, end, sets), "an entry 'q'"),
        (lambda: landscape.error_barrier(model, start, wide, sets), r"'0.bias' of shape \(99,\)"),
        (lambda: landscape.error_barrier(model, start, end, sets, points=2), "3 or more"),
        (lambda: landscape.error_barrier(model, start, end, {}), "no set"),
        (lambda: landscape.error_barrier(model, start, end, {"a": (x, labels[1:])}), "8 inputs"),
        (lambda: landscape.error_barrier(model, start, end, {"a": (x, labels + 3)}), "run from"),
        (lambda: landscape.error_barrier(model, start, end, {"a": (x, x)}), "one whole number"),
        (lambda: landscape.error_barrier(model, start, end, {"a": (x[:0], labels[:0])}), "sample"),
        (
            lambda: landscape.error_barrier(model, start, end, sets, batch_norm="recompute"),
            "needs statistics_inputs",
        ),
        (
            lambda: landscape.error_barrier(
                model, start, end, sets, batch_norm="recompute", statistics_inputs=x[:1]
            ),
            "two or more",
        ),
        (
            lambda: landscape.error_barrier(model, start, end, sets, measure=F.cross_entropy),
            "a value a sample",
        ),
        (lambda: landscape.outputs_at(nn.Flatten(0), {}, x), "one row of"),
    ]
    for call, says in bad:
        with pytest.raises(ValueError, match=says):
            call()
    options: list[dict[str, Any]] = [{"measure": "loss"}, {"batch_norm": "drop"}]
    for option in options:
        with pytest.raises(ValueError, match="unknown"):
            landscape.error_barrier(model, start, end, sets, **option)
    stateless = nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3))
    state = stateless.state_dict()
    with pytest.raises(ValueError, match="track_running_stats"):
        landscape.error_barrier(stateless, state, state, sets)
