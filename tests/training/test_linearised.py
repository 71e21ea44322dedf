import contextlib
import math
import random

import pytest
import torch
from problems import classification, images, network, regression
from torch import nn

from ntkscale import ntk
from ntkscale.networks import CNN, MLP, ResNet
from ntkscale.tasks import Task
from ntkscale.training import (
    Ensemble,
    Linearised,
    Optimisation,
    Trainer,
    lazy_flow,
    linearised_flow,
)
from tests.reference.linearised import integrated, outputs_jacobian


class _NoForwardRule(torch.autograd.Function):
    """x^3, which only reverse mode can differentiate."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x**2


class _WrongForwardRule(_NoForwardRule):
    @staticmethod
    def jvp(ctx, *tangents):
        return 0 * tangents[0]


class _Cube(nn.Module):
    def __init__(self, rule=_NoForwardRule):
        super().__init__()
        self.into, self.unused = nn.Linear(5, 4), nn.Parameter(torch.ones(2))
        self.rule = rule

    def forward(self, x):
        return self.rule.apply(self.into(x)) @ self.into.weight  # a tied weight


class _Batchnorm(nn.Module):
    """In training mode it would mix samples, drop units and move its statistics."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.readout = nn.Linear(16, 2)
        self.readout.weight.requires_grad_(False)
        for buffer in self.norm.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)

    def forward(self, x):
        h = nn.functional.dropout(torch.tanh(self.norm(self.conv(x))), 0.5, self.training)
        return self.readout(nn.functional.avg_pool2d(h, 2).flatten(1))


def _case(name, seed):
    """A network in float64 away from its start, and nine inputs."""
    torch.manual_seed(seed)
    options = {"width": 6, "bias": True, "gamma0": 1.7, "seed": seed, "dtype": torch.float64}
    pictures, rows = (9, 1, 6, 6), (9, 5)
    net, shape = {
        "mlp": (lambda: MLP(5, 3, depth=2, activation="gelu", **options), rows),
        "cnn": (lambda: CNN(1, 6, 2, **options), pictures),
        "resnet": (lambda: ResNet(1, 2, blocks=2, **options), pictures),
        "batchnorm": (_Batchnorm, pictures),
        "no forward rule": (_Cube, rows),
        "wrong forward rule": (lambda: _Cube(_WrongForwardRule), rows),
    }[name]
    net = net().double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
    return net, torch.randn(shape, dtype=torch.float64)


def _displace(model):
    """Random displacements, also as one vector."""
    with torch.no_grad():
        for d in model.displacements.values():
            d.normal_()
    return torch.cat([d.detach().flatten() for d in model.displacements.values()])


def _flat_gradient(model):
    parts = [torch.zeros_like(d) if d.grad is None else d.grad for d in _trained(model)]
    return torch.cat([g.flatten() for g in parts])


def _trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def _close(found, expected, tolerance=1e-10):
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize("mode", ["linear", "centred"])
@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "resnet", "batchnorm", "no forward rule", "wrong forward rule"]
)
def test_outputs_and_gradients_are_those_of_the_explicit_jacobian(name, mode):
    net, x = _case(name, seed=random.randrange(1000))
    held = {key: value.clone() for key, value in net.state_dict().items()}
    model = Linearised(net.train(), mode=mode).train()  # its network is in evaluation mode anyway
    value, jacobian = outputs_jacobian(net.eval(), x)
    at_start = model(x)
    assert torch.equal(at_start, value if mode == "linear" else torch.zeros_like(value))

    d = _displace(model)
    expected = jacobian @ d + (value if mode == "linear" else 0)
    found = model(x)
    assert _close(found, expected)
    with torch.no_grad():
        assert torch.equal(model(x), found)
    v = torch.randn_like(found)
    found.backward(v)
    assert _close(_flat_gradient(model), torch.einsum("nc,ncd->d", v, jacobian))
    for key, value in held.items():
        assert torch.equal(net.state_dict()[key], value)
        assert torch.equal(model.network.state_dict()[key], value)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["mlp", "batchnorm", "no forward rule"])
def test_second_derivatives_and_those_in_the_inputs(name):
    net, x = _case(name, seed=3)
    model, x = Linearised(net), x[:3].requires_grad_()
    d = _displace(model)
    _, jacobian = outputs_jacobian(net.eval(), x.detach())
    out = model(x.detach())
    v = torch.randn_like(out, requires_grad=True)
    pulled = torch.autograd.grad(out, _trained(model), v, create_graph=True)
    u = [torch.randn_like(g) for g in pulled]
    (pushed,) = torch.autograd.grad(pulled, v, u)
    assert _close(pushed, jacobian @ torch.cat([t.flatten() for t in u]))

    def moved(step):
        value, jacobian = outputs_jacobian(net, (x + step).detach())
        return ((value + jacobian @ d) * v).sum().detach()

    (found,) = torch.autograd.grad((model(x) * v).sum(), x, create_graph=True)
    direction = torch.randn_like(x)
    h = 1e-4
    slope = (moved(h * direction) - moved(-h * direction)) / (2 * h)
    assert float((found * direction).sum().detach()) == pytest.approx(float(slope), rel=1e-6)
    # d (x-gradient . direction) / dd, against the same difference of J^T v
    mixed = torch.autograd.grad((found * direction).sum(), _trained(model), allow_unused=True)
    sides = [
        torch.einsum("nc,ncd->d", v, outputs_jacobian(net, (x + s * direction).detach())[1])
        for s in (h, -h)
    ]
    flat = [
        torch.zeros_like(p) if g is None else g for p, g in zip(_trained(model), mixed, strict=True)
    ]
    expected = (sides[0] - sides[1]).detach() / (2 * h)
    assert _close(torch.cat([g.flatten() for g in flat]), expected, 1e-6)


@pytest.mark.parametrize("method", ["sgd", "momentum"])
@pytest.mark.parametrize("mode", ["linear", "centred"])
def test_training_is_that_of_the_explicit_linear_model(method, mode):
    task = classification(points=20, inputs=5, classes=3, seed=8)
    net = network(task, gamma0=0.6, bias=True, depth=2, seed=5)
    model = Linearised(net, mode=mode)
    options = Optimisation(
        method=method, steps=20, batch_size=6, learning_rate=0.05, schedule="cosine"
    )
    trainer = Trainer(model, task, options, seed=3)
    value, jacobian = outputs_jacobian(net, task.inputs)
    d, speed = torch.zeros(jacobian.shape[-1], dtype=torch.float64), 0.0
    for step in range(20):
        chosen = trainer._batches.indices(step)
        out = jacobian[chosen] @ d + (value[chosen] if mode == "linear" else 0)
        assert task.labels is not None
        error = out.softmax(-1) - nn.functional.one_hot(task.labels[chosen], 3)
        speed = options.momentum * speed if method == "momentum" else 0.0
        speed = speed + net.gamma**2 * torch.einsum("nc,ncd->d", error, jacobian[chosen]) / 6
        d = d - options.learning_rate_at(step) * speed
    before = [p.detach().clone() for p in net.parameters()]
    assert trainer.run().status == "finished"
    assert trainer.time is not None
    found = torch.cat([p.detach().flatten() for p in model.displacements.values()])
    assert _close(found, d.detach())
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_gradient_descent_is_the_discrete_lazy_flow():
    task = regression(points=15, inputs=4, outputs=3, seed=2)
    net = network(task, gamma0=1.3, depth=2, seed=1)
    kernel = ntk.gram(net, task.inputs, output="full") * net.gamma.detach() ** 2
    trainer = Trainer(Linearised(net), task, Optimisation(steps=40, learning_rate=0.2))
    times, curve = [1.0, 3.0, 8.0], []
    trainer.run(measure_at=times, on_measure=lambda t: curve.append(t.evaluate()["mse"]))
    exact = lazy_flow(kernel, task.targets, [0.0, *times], learning_rate=0.2).mse
    assert curve == pytest.approx(exact.tolist(), rel=1e-10)
    assert curve[-1] < 0.8 * curve[0]


def test_gradient_flow_follows_the_exact_one():
    task = regression(points=12, inputs=4, outputs=2, seed=7)
    task = Task("", task.inputs[:8], task.targets[:8], "mse", None, *_held_out(task, 8))
    net = _moved(network(task, gamma0=1.0, bias=True, seed=4))
    times = [0.0, 0.3, 1.0, 4.0]
    exact = linearised_flow(net, task, times)
    assert exact.test_mse is not None
    gaps = []
    for fraction in (0.1, 0.05):
        options = Optimisation(
            method="flow", steps=10**5, step_fraction=fraction, horizon=times[-1]
        )
        rows = []
        trainer = Trainer(Linearised(net), task, options)
        trainer.run(measure_at=times, on_measure=lambda t, rows=rows: rows.append(t.evaluate()))
        for key, wanted in (("mse", exact.mse), ("test_mse", exact.test_mse)):
            curve = torch.tensor([row[key] for row in rows], dtype=torch.float64)
            assert torch.allclose(curve, wanted, rtol=0.1)
            gaps.append(float((curve - wanted).abs().max()))
    assert gaps[2] / gaps[0] == pytest.approx(0.5, abs=0.05)  # first order in the step
    assert gaps[3] / gaps[1] == pytest.approx(0.5, abs=0.05)


def _held_out(task, first):
    return task.inputs[first:], task.targets[first:]


def _moved(net):
    with torch.no_grad():
        for p in net.parameters():
            p += 0.2 * torch.randn_like(p)
    return net


@pytest.mark.parametrize("method", ["flow", "sgd", "momentum", "adam"])
def test_it_resumes_bit_by_bit(method):
    task = images(points=20, side=6, seed=1)
    torch.manual_seed(0)
    batch = None if method == "flow" else 6
    options = Optimisation(method=method, steps=24, learning_rate=0.01, batch_size=batch)
    net = _Batchnorm().double()

    def train(trainer, until):
        def halt(t):
            if t.step == until:
                kept.append(t.state())
                raise StopIteration

        with contextlib.suppress(StopIteration):
            trainer.run(checkpoint=halt, checkpoint_seconds=0.0)
        return trainer

    kept = []
    whole = train(Trainer(Linearised(net), task, options, seed=2), None)
    train(Trainer(Linearised(net), task, options, seed=2), 11)
    # Weights, buffers and displacements all come out of the state.
    resumed = Trainer(Linearised(_moved(_Batchnorm().double())), task, options, seed=2)
    resumed.restore(*kept[0])
    train(resumed, None)
    for (name, value), other in zip(
        resumed.state()[0].items(), whole.state()[0].values(), strict=True
    ):
        assert torch.equal(value, other), name
    assert resumed.state()[1] == whole.state()[1]
    moved = [v for n, v in resumed.state()[0].items() if "model.displacement/" in n]
    assert len(moved) == 4  # convolution, scale and shift, bias; the read-out's weight is frozen
    assert all(float(d.norm()) > 0 for d in moved)


def test_sets_larger_than_a_chunk_and_single_precision():
    task = regression(points=1203, inputs=4, outputs=2, seed=2)
    net = network(task, width=8, gamma0=0.7, seed=3)
    double, single = Linearised(net), Linearised(network(task, width=8, gamma0=0.7, seed=3).float())
    for model in (double, single):
        torch.manual_seed(1)
        d = _displace(model)
    expected = 0.0
    for x, y in zip(task.inputs.split(9), task.targets.split(9), strict=True):
        value, jacobian = outputs_jacobian(net, x)
        expected += float((y - value - jacobian @ d.double()).square().sum()) / 1203
    with torch.no_grad():
        for p, q in zip(double.displacements.values(), single.displacements.values(), strict=True):
            p.copy_(q)
    for model, tolerance in ((double, 1e-10), (single, 1e-5)):
        trainer = Trainer(model, task, Optimisation(steps=1))
        assert trainer.evaluate()["mse"] == pytest.approx(expected, rel=tolerance)
    assert single(task.inputs[:2].float()).dtype == torch.float32


def test_the_engine_takes_the_kernel_of_a_linearised_network():
    net, x = _case("resnet", seed=2)
    model = Linearised(net)
    _displace(model)
    for method in ("auto", "jacobian", "products"):
        kernel = ntk.gram(net, x, output="full", method=method)
        assert _close(ntk.gram(model, x, output="full", method=method), kernel)
    again = Linearised(model)  # a linear model is its own linearisation
    assert _close(again(x), model(x).detach())


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("mode", ["linear", "centred"])
def test_exact_flow_on_training_and_test_points(mode, repeated):
    drawn = regression(points=11, inputs=3, outputs=2, seed=random.randrange(1000))
    inputs, targets = drawn.inputs[:7].clone(), drawn.targets[:7]
    if repeated:
        inputs[1] = inputs[0]  # one input with two targets: the kernel has a null space
    task = Task("", inputs, targets, "mse", None, *_held_out(drawn, 7))
    net = _moved(network(task, gamma0=0.9, bias=True, seed=4))
    assert task.test_inputs is not None
    assert task.test_targets is not None
    times = [0.0, 0.7, 5.0, math.inf]
    flow = linearised_flow(net, task, times, mode=mode)
    value, jacobian = outputs_jacobian(net, inputs)
    tested, unseen = outputs_jacobian(net, task.test_inputs)
    if mode == "centred":
        value, tested = torch.zeros_like(value), torch.zeros_like(tested)
    flat = jacobian.reshape(-1, jacobian.shape[-1])
    assert flow.test_outputs is not None
    assert flow.test_mse is not None
    for i, time in enumerate(times):
        if math.isinf(time):
            d = torch.linalg.pinv(flat, rtol=1e-10) @ (targets - value).reshape(-1)
        else:
            d = integrated(jacobian, value, targets, float(net.gamma), time, steps=1000)
        residual, outputs = targets - value - jacobian @ d, tested + unseen @ d
        assert torch.allclose(flow.residuals[i], residual, rtol=0, atol=1e-7)
        assert torch.allclose(flow.test_outputs[i], outputs, rtol=0, atol=1e-6)
        assert float(flow.mse[i]) == pytest.approx(float(residual.square().sum()) / 7, abs=1e-9)
        mse = (task.test_targets - outputs).square().sum() / 4
        assert float(flow.test_mse[i]) == pytest.approx(float(mse), rel=1e-5)
    assert (flow.mse[-1] > 1e-3) == repeated
    late = linearised_flow(net, task, [1e12], mode=mode)
    assert torch.allclose(late.residuals[0], flow.residuals[-1], atol=1e-6)


def test_exact_flow_of_a_part_of_a_network_in_single_precision():
    task = images(points=6, side=6, seed=4)
    torch.manual_seed(5)
    net = _Batchnorm().float()
    flow = linearised_flow(net, task, [2.0])
    value, jacobian = outputs_jacobian(net.double().eval(), task.inputs)
    d = integrated(jacobian, value, task.targets, 1.0, 2.0, steps=500)
    assert torch.allclose(flow.residuals[0], task.targets - value - jacobian @ d, atol=1e-8)
    assert flow.test_outputs is None
    assert flow.test_mse is None


def test_refuses_what_it_cannot_linearise():
    task = regression(points=4, inputs=5, outputs=2, seed=0)
    net = network(task)
    with pytest.raises(ValueError, match="ensemble cannot be linearised"):
        Linearised(Ensemble([net]))
    with pytest.raises(ValueError, match="unknown mode 'centered'"):
        Linearised(net, mode="centered")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unfreeze one"):
        Linearised(network(task).requires_grad_(False))

    class Random(nn.Linear):
        def forward(self, input):
            return nn.functional.dropout(super().forward(input), 0.5, training=True)

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 2)

        def forward(self, x):
            return self.linear(x), x

    with pytest.raises(ValueError, match="draws random numbers"):
        Linearised(Random(5, 2).double())(task.inputs)
    with pytest.raises(ValueError, match="returns a tuple, not a tensor"):
        Linearised(Pair().double())(task.inputs)
    with pytest.raises(ValueError, match="known for the mse alone"):
        linearised_flow(net, classification(points=4, inputs=5, classes=2, seed=0), [1.0])
    for times in ([-1.0], [math.nan]):
        with pytest.raises(ValueError, match="none below 0"):
            linearised_flow(net, task, times)
