"""Networks of which one hidden layer is trained, in three scalings, with signs for read-outs."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from ntkscale import ntk
from ntkscale.networks import CNN, MLP, ResNet
from ntkscale.tasks import Task
from ntkscale.training import Ensemble, Optimisation, Trainer
from tests.reference.partially_trained import descend, outputs

SCALINGS = {"mean-field": (1.0, 0.5), "ntk": (0.5, 0.5), "full-mean-field": (1.0, 1.0)}


def fresh() -> int:
    return int(torch.randint(10**6, ()))


def value(net: MLP, name: str) -> Tensor:
    return net.get_parameter(name).detach()


def network(parameterization: Any = "mean-field", **more: Any) -> MLP:
    options: dict[str, Any] = {"width": (9, 14), "depth": 2, "bias": 0.5, "init": "paired-signs"}
    options |= more
    return MLP(
        5, 1, trained="last-hidden", parameterization=parameterization,
        dtype=torch.float64, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_training_is_gradient_descent_in_the_table_of_scalings(name: str, activation: str) -> None:
    """With a, b and the multiplier g of the table, g = m2, 1, m1 m2."""
    a, b = SCALINGS[name]
    net = network(name, activation=activation, seed=fresh())
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    hidden = x @ value(net, "hidden1").T / 5**0.5 + value(net, "bias1")
    frozen = net.activation(hidden).detach()
    m1, m2 = 9, 14
    start = value(net, "hidden2").clone()
    expected = outputs(start, frozen, value(net, "readout")[0].detach(), net.activation, a, b)
    torch.testing.assert_close(net(x)[:, 0], expected, atol=1e-14, rtol=0)
    g = {"mean-field": m2, "ntk": 1, "full-mean-field": m1 * m2}[name]
    torch.testing.assert_close(float(net.gamma) ** 2, float(g))
    c = value(net, "readout")[0]
    last = descend(start, frozen, c, y[:, 0], net.activation, a, b, 0.3 * g, 7)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    Trainer(net, Task("own", x, y), Optimisation(steps=7, learning_rate=0.3)).run()
    torch.testing.assert_close(value(net, "hidden2"), last, rtol=1e-9, atol=1e-11)
    assert not torch.equal(value(net, "hidden2"), before["hidden2"])
    for frozen_name in ("hidden1", "bias1", "readout"):
        assert torch.equal(net.get_parameter(frozen_name), before[frozen_name])


def test_scalings_of_one_seed_share_numbers_and_their_kernel() -> None:
    seed, x = fresh(), torch.randn(4, 5, dtype=torch.float64)
    nets = {name: network(name, seed=seed, activation="linear") for name in SCALINGS}
    first = nets["mean-field"].state_dict()
    for net in nets.values():
        own = net.state_dict()
        assert all(torch.equal(own[k], first[k]) for k in ("hidden1", "hidden2", "readout"))
    # sigma' is constant, so that all three have one kernel.
    kernels = [float(net.gamma) ** 2 * ntk.gram(net, x) for net in nets.values()]
    for kernel in kernels[1:]:
        torch.testing.assert_close(kernel, kernels[0])
    relu = [network(name, seed=seed) for name in ("mean-field", "ntk")]
    kernels = [float(net.gamma) ** 2 * ntk.gram(net, x) for net in relu]
    torch.testing.assert_close(*kernels)
    u = relu[0].last_inputs(x)
    slopes = (u @ value(relu[0], "hidden2").T > 0).double()
    torch.testing.assert_close(kernels[0], (slopes @ slopes.T / 14 * (u @ u.T)).detach())


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_last_inputs_are_what_the_last_weights_multiply(depth: int) -> None:
    net = MLP(5, 2, width=8, depth=depth, activation="tanh", bias=True, seed=fresh())
    x = torch.randn(3, 5)
    last = net.last_inputs(x) @ net.get_parameter(f"hidden{depth}").T
    last = last + net.get_parameter(f"bias{depth}")
    torch.testing.assert_close(net.preactivations(x)[f"hidden{depth}"], last)


def test_signs_and_pairs() -> None:
    seed, x = fresh(), torch.randn(7, 5, dtype=torch.float64)
    plain, signs, pairs = (
        MLP(5, 2, width=12, depth=2, bias=True, init=init, seed=seed, dtype=torch.float64)
        for init in ("gaussian", "signs", "paired-signs")
    )
    assert torch.equal(value(signs, "readout"), value(plain, "readout").sign())
    assert torch.equal(value(signs, "hidden2"), value(plain, "hidden2"))
    assert torch.equal(value(pairs, "hidden2")[:6], value(pairs, "hidden2")[6:])
    assert torch.equal(value(pairs, "bias2")[:6], value(pairs, "bias2")[6:])
    assert torch.equal(value(pairs, "readout")[:, :6], -value(pairs, "readout")[:, 6:])
    assert float(pairs(x).detach().abs().max()) < 1e-14
    assert not any(name.startswith("initial_") for name, _ in pairs.named_buffers())
    spread = value(MLP(5, 1, width=40_000, bias=0.25, seed=seed), "bias1").std()
    assert float(spread) == pytest.approx(0.25, rel=0.03)
    standard = MLP(5, 1, width=16, init="signs", parameterization="standard")
    torch.testing.assert_close(value(standard, "readout").abs(), torch.full((1, 16), 0.25))


def test_one_width_for_all_is_the_same_as_each() -> None:
    seed, x = fresh(), torch.randn(3, 5)
    nets = [MLP(5, 1, width=w, depth=3, bias=b, seed=seed) for w, b in ((7, True), ([7] * 3, 1.0))]
    assert torch.equal(nets[0](x), nets[1](x))
    uneven = MLP(5, 1, width=(4, 6, 3), depth=3)
    assert [tuple(p.shape) for p in uneven.parameters()] == [(4, 5), (6, 4), (3, 6), (1, 3)]
    assert uneven.width == uneven.readout_fan_in == 3 and "4 x 6 x 3" in repr(uneven)


def test_an_ensemble_trains_what_its_members_train() -> None:
    nets = [network(seed=fresh()) for _ in range(2)]
    alone = network(seed=0)
    alone.load_state_dict(nets[1].state_dict())
    x, y = (torch.randn(6, k, dtype=torch.float64) for k in (5, 1))
    task = Task("own", x, y)
    how = Optimisation(steps=5, learning_rate=0.3)
    Trainer(Ensemble(nets), task, how).run()
    Trainer(alone, task, how).run()
    torch.testing.assert_close(value(nets[1], "hidden2"), value(alone, "hidden2"))
    assert not nets[0].get_parameter("readout").requires_grad


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: MLP(5, 1, width=(3, 4)), "1 hidden layers need 1 widths"),
        (lambda: MLP(5, 1, width=3, trained=cast(Any, "some")), "unknown trained 'some'"),
        (lambda: MLP(5, 1, width=3, bias=-1.0), "bias -1.0"),
        (lambda: MLP(5, 1, width=3, bias=True, trained="last-hidden"), "leave bias out"),
        (lambda: MLP(5, 1, width=3, init="paired-signs"), "even width, got 3"),
        (lambda: MLP(5, 1, width=3, init=cast(Any, "pairs")), "unknown init 'pairs'"),
        (lambda: MLP(5, 1, width=3, depth=2, parameterization="full-mean-field"), "trained="),
        (
            lambda: MLP(5, 1, width=3, parameterization="full-mean-field", trained="last-hidden"),
            "two hidden layers",
        ),
        (lambda: CNN(1, 4, 1, width=3, parameterization="full-mean-field"), "choose mean-field"),
        (lambda: ResNet(1, 1, width=3, parameterization="full-mean-field"), "choose mean-field"),
    ],
)
def test_what_excludes_each_other_is_one_sentence(build, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()
