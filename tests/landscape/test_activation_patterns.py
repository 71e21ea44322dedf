"""Patterns against hooks on ReLU modules and against preactivations, one sample at a time."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ntkscale.landscape import activation_patterns, hamming_distance, pattern_distance
from ntkscale.landscape import model as model_module
from ntkscale.networks import CNN, MLP, ResNet
from tests.reference.landscape import patterns_by_hooks


def size(low: int, high: int) -> int:
    return int(torch.randint(low, high, ()))


def sequential(inplace=False):
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 1),
        nn.ReLU(inplace),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 5),
        nn.ReLU(inplace),
        nn.Linear(5, 3),
    ).double()


@pytest.mark.parametrize("inplace", [False, True])
def test_modules_against_hooks(inplace, monkeypatch):
    model = sequential(inplace).train()
    x = torch.randn(size(10, 20), 2, 4, 4, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    found = activation_patterns(model, x)
    assert found.dtype == torch.bool
    assert found.shape == (3 * 16 + 4 * 4 + 5, len(x))
    monkeypatch.setattr(model_module, "_MOST_SAMPLES", 3)
    assert torch.equal(activation_patterns(model, x), found)
    assert all(part.training for part in model.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(found, patterns_by_hooks(model.eval(), x))


RELUS = {
    "F.relu": F.relu,
    "F.relu in place": lambda h: F.relu(h, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda h: h.relu(),
    "clamp_min": lambda h: h.clamp_min(0),
    "clamp_min tensor": lambda h: h.clamp_min(torch.zeros((), dtype=h.dtype)),
    "clamp_min_": lambda h: h.clamp_min_(0.0),
    "clamp": lambda h: h.clamp(min=0),
    "clip": lambda h: torch.clip(h, 0),
    "maximum": lambda h: torch.maximum(h, torch.zeros_like(h)),
    "maximum reversed": lambda h: torch.maximum(h.new_zeros(()), h),
    "threshold": lambda h: F.threshold(h, 0, 0),
}
NO_RELUS = {
    "leaky": F.leaky_relu,
    "relu6": F.relu6,
    "clamp both": lambda h: h.clamp(0, 1),
    "clamp top": lambda h: h.clamp(max=0),
    "clamp one": lambda h: h.clamp_min(1),
    "threshold": lambda h: F.threshold(h, 0.5, 0),
    "maximum": lambda h: torch.maximum(h, h.flip(1)),
    "gelu": F.gelu,
}


class Functional(nn.Module):
    def __init__(self, phi, inputs, width):
        super().__init__()
        self.phi, self.first, self.second = phi, nn.Linear(inputs, width), nn.Linear(width, 2)

    def forward(self, x):
        return self.second(self.phi(self.first(x)))


@pytest.mark.parametrize("name", RELUS)
def test_every_way_to_write_a_relu(name):
    model = Functional(RELUS[name], size(2, 6), size(2, 6))
    x = torch.randn(size(2, 9), model.first.in_features)
    want = [[h > 0 for h in model.first(row).tolist()] for row in x]
    assert activation_patterns(model, x).T.tolist() == want


@pytest.mark.parametrize("name", NO_RELUS)
def test_what_is_no_relu(name):
    with pytest.raises(ValueError, match="no ReLU"):
        activation_patterns(Functional(NO_RELUS[name], 3, 4), torch.randn(5, 3))


@pytest.mark.parametrize("centered", [False, True])
def test_networks_by_what_their_activation_is_given(centered):
    networks = {
        (5,): MLP(5, 2, width=6, depth=3, bias=True, centered=centered),
        (1, 6, 6): CNN(1, 6, 2, width=3, bias=True, centered=centered),
        (2, 4, 4): ResNet(2, 3, width=4, blocks=2, activation="relu2", centered=centered),
    }
    for shape, net in networks.items():
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        x = torch.randn(size(2, 7), *shape)
        found = activation_patterns(net, x)
        phi, given = net.activation, []
        net.activation = replace(phi, function=lambda h, f=phi, g=given: (g.append(h > 0), f(h))[1])
        net(x)
        # The pass at the initial parameters comes second.
        present = given[: len(given) // 2] if centered else given
        assert torch.equal(found, torch.cat([on.flatten(1) for on in present], dim=1).T)


def test_fused_transformer_layers_do_not_hide_theirs():
    layer = nn.TransformerEncoderLayer(4, 2, 7, batch_first=True).double().eval()
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    found = activation_patterns(layer, x)
    seen = []
    # With a hook it is never fused.
    layer.linear1.register_forward_hook(lambda _m, _a, h: seen.append(h.flatten(1) > 0))
    layer(x)
    assert torch.equal(found, seen[0].T)
    assert torch.backends.mha.get_fastpath_enabled()


def test_distances(monkeypatch):
    model, other = sequential(), sequential()
    x = torch.randn(11, 2, 4, 4, dtype=torch.float64)
    a, b = activation_patterns(model, x), activation_patterns(other, x)
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    want = sum(i != j for i, j in pairs) / a.numel()
    assert hamming_distance(a, b) == pytest.approx(want)
    assert hamming_distance(a, ~a) == 1 and hamming_distance(a, a) == 0
    monkeypatch.setattr(model_module, "_MOST_SAMPLES", 4)
    states = model.state_dict(), other.state_dict()
    assert pattern_distance(sequential(), *states, x) == pytest.approx(want)
    assert pattern_distance(sequential(), states[0], states[0], x) == 0


def test_unrelated_networks_are_half_apart():
    a, b = (MLP(20, 2, width=400, depth=2, seed=size(0, 1 << 30)) for _ in range(2))
    x = torch.randn(50, 20)
    assert pattern_distance(a, a.state_dict(), b.state_dict(), x) == pytest.approx(0.5, abs=0.05)


def test_bad_input():
    net = MLP(3, 2, width=4)
    x = torch.randn(6, 3)
    flat = Functional(lambda h: F.relu(h.reshape(-1, 1)).reshape(h.shape), 3, 4)
    cases = [
        (lambda: activation_patterns(nn.Sequential(net, nn.Linear(2, 2)), x), "centred network"),
        (lambda: activation_patterns(flat, x), "first axis of every ReLU"),
        (lambda: activation_patterns(net, x[:0]), "at least one sample"),
        (lambda: hamming_distance(torch.ones(2, 2), torch.ones(2, 2)), "two bool patterns"),
        (lambda: hamming_distance(torch.ones(2, 2) > 0, torch.ones(2, 3) > 0), "two bool"),
        (lambda: pattern_distance(net, {}, net.state_dict(), x), "first lacks"),
    ]
    for call, says in cases:
        with pytest.raises(ValueError, match=says):
            call()
