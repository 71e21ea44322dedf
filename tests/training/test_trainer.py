import math
import os
import signal

import pytest
import torch
from problems import Linear, classification, network, regression

from ntkscale.tasks import Task
from ntkscale.training import Optimisation, Trainer


def _parameters(net):
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def _reference(net, task, options, order):
    """Every method written out once more, on autograd of the loss as it is defined."""
    gamma2 = float(net.gamma) ** 2
    values = list(net.parameters())
    first = [torch.zeros_like(v) for v in values]
    second = [torch.zeros_like(v) for v in values]
    for step in range(options.steps):
        chosen = order(step)
        x, y = task.inputs[chosen], task.targets[chosen]
        loss = (y - net(x)).pow(2).sum() / (2 * len(x))
        eta = options.learning_rate_at(step)
        with torch.no_grad():
            for i, (v, g) in enumerate(zip(values, torch.autograd.grad(loss, values), strict=True)):
                v -= eta * options.weight_decay * v
                g = gamma2 * g
                if options.method == "momentum":
                    first[i] = options.momentum * first[i] + g
                    g = first[i]
                elif options.method == "adam":
                    first[i] = 0.9 * first[i] + 0.1 * g
                    second[i] = 0.999 * second[i] + 0.001 * g**2
                    root = (second[i] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                    g = first[i] / (1 - 0.9 ** (step + 1)) / root
                v -= eta * g
    return values


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [None, 6])
def test_each_method_follows_its_definition(method, batch_size):
    task = regression(points=20, inputs=4, outputs=2, seed=11)
    options = Optimisation(
        method=method,
        steps=17,
        learning_rate=0.03,
        batch_size=batch_size,
        schedule="cosine",
        warmup=3,
        weight_decay=0.05,
    )
    net, twin = (network(task, gamma0=0.8, bias=True, seed=2) for _ in range(2))
    trainer = Trainer(net, task, options, seed=9)
    expected = _reference(twin, task, options, trainer._batches.indices)
    outcome = trainer.run()
    for mine, reference in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(mine, reference, rtol=1e-9, atol=1e-12)

    eta = sum(options.learning_rate_at(step) for step in range(17))
    time = {"sgd": eta, "momentum": eta / 0.1, "adam": None}[method]
    assert outcome.time == pytest.approx(time)
    assert outcome.step == 17


def test_cross_entropy_follows_autograd():
    task = classification(points=15, inputs=5, classes=3, seed=1)
    net, twin = (network(task) for _ in range(2))
    Trainer(net, task, Optimisation(steps=5, learning_rate=0.2)).run()
    for _ in range(5):
        assert task.labels is not None
        loss = torch.nn.functional.cross_entropy(twin(task.inputs), task.labels)
        values = list(twin.parameters())
        with torch.no_grad():
            for v, g in zip(values, torch.autograd.grad(loss, values), strict=True):
                v -= 0.2 * twin.gamma**2 * g
    for mine, reference in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine, reference, rtol=1e-9, atol=1e-12)


def test_measures_at_the_start_when_times_are_reached_and_at_the_end():
    task = regression(points=8, inputs=3, outputs=1, seed=0)
    seen = []
    trainer = Trainer(network(task), task, Optimisation(steps=30, learning_rate=0.1))
    trainer.run(
        measure_at=[2.0, 0.31, 0.35, 0.31, 1.0, 50.0], on_measure=lambda t: seen.append(t.step)
    )
    assert seen == [0, 4, 10, 20, 30]  # .31 and .35 fall into one step; 50 is never reached

    seen = []
    adam = Trainer(network(task), task, Optimisation(method="adam", steps=12, learning_rate=1e-3))
    outcome = adam.run(measure_at=[3, 7, 12], on_measure=lambda t: seen.append((t.step, t.time)))
    assert seen == [(0, None), (3, None), (7, None), (12, None)]
    assert outcome.time is None

    horizon = Trainer(network(task), task, Optimisation(steps=30, learning_rate=0.1, horizon=0.7))
    assert horizon.run().step == 7
    with pytest.raises(ValueError, match="measuring time -1"):
        trainer.run(measure_at=[-1.0])


def test_evaluate_reports_the_schema():
    task = classification(points=1203, inputs=5, classes=3, seed=1)  # several chunks
    assert task.labels is not None
    both = Task(
        "both", task.inputs, task.targets, "mse", task.labels,
        task.inputs[:7], task.targets[:7], task.labels[:7],
    )  # fmt: skip
    net = network(both, centered=False)
    row = Trainer(net, both, Optimisation()).evaluate()
    with torch.no_grad():
        f = net(task.inputs)
    mse = float((f - task.targets).pow(2).sum(1).mean())
    right = (f.argmax(1) == task.labels).double()
    assert row == pytest.approx(
        {
            "loss": mse / 2,
            "mse": mse,
            "accuracy": float(right.mean()),
            "test_mse": float((f - task.targets)[:7].pow(2).sum(1).mean()),
            "test_accuracy": float(right[:7].mean()),
        }
    )
    row = Trainer(net, task, Optimisation()).evaluate()
    loss = torch.nn.functional.cross_entropy(f, task.labels)
    assert row == pytest.approx({"loss": float(loss), "accuracy": float(right.mean())})

    sign = Task("two", both.inputs, torch.where(task.labels[:, None] > 0, 1.0, -1.0).double(),
                "mse", (task.labels > 0).long())  # fmt: skip
    one = network(sign, centered=False)
    with torch.no_grad():
        right = (one(sign.inputs).sign() == sign.targets).double().mean()
    assert Trainer(one, sign, Optimisation()).evaluate()["accuracy"] == pytest.approx(float(right))


def test_evaluation_leaves_modes_alone():
    task = regression(points=8, inputs=3, outputs=1, seed=0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    net = net.double()
    net[1].eval()
    trainer = Trainer(net, task, Optimisation())
    assert trainer.evaluate() == trainer.evaluate()
    assert [module.training for module in net.modules()] == [True, True, False, True]


@pytest.mark.parametrize("method", ["sgd", "momentum"])
def test_divergence_is_a_result(method):
    task = regression(points=8, inputs=3, outputs=1, seed=0)
    rows = []
    options = Optimisation(method=method, steps=10**4, learning_rate=50.0)
    trainer = Trainer(Linear(3, 1), task, options)
    outcome = trainer.run(on_measure=lambda t: rows.append((t.step, t.evaluate())))
    assert outcome.status == "diverged"
    assert outcome.step < 100
    assert outcome.diverged_at == (outcome.step,)
    assert [step for step, _ in rows] == [0, outcome.step]
    assert outcome.time is not None
    assert math.isfinite(outcome.time)
    assert trainer.run().status == "diverged"  # a run that is over stays over

    late = Trainer(Linear(3, 1), task, Optimisation(steps=9, learning_rate=500.0))
    assert late.run().status == "diverged"  # between two looks, seen at the end


def test_flow_of_a_kernel_that_is_not_finite_diverges():
    class Root(Linear):
        def forward(self, x):
            return super().forward(x).abs().sqrt()  # infinite slope at 0

    task = regression(points=8, inputs=3, outputs=1, seed=0)
    outcome = Trainer(Root(3, 1), task, Optimisation(method="flow")).run()
    assert outcome.status == "diverged"
    assert outcome.step == 0


@pytest.mark.parametrize("batch_size", [None, 5])
def test_stops_below_an_mse(batch_size):
    task = regression(points=10, inputs=12, outputs=1, seed=0)
    options = Optimisation(steps=10**4, learning_rate=0.1, batch_size=batch_size)
    trainer = Trainer(Linear(12, 1), task, options)
    outcome = trainer.run(stop_below=0.05)
    assert outcome.status == "stopped"
    assert 0.02 < trainer.evaluate()["mse"] < 0.05


def test_interrupt_finishes_the_step_and_writes_a_checkpoint():
    task = regression(points=10, inputs=4, outputs=1, seed=0)
    options = Optimisation(steps=60, learning_rate=0.1)
    whole, rows = Trainer(network(task), task, options), []
    whole.run(measure_at=[1.0], on_measure=lambda t: rows.append(t.step))

    saved, seen, before = [], [], signal.getsignal(signal.SIGINT)
    trainer = Trainer(network(task), task, options)

    def press(trainer):
        if trainer.step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(trainer.step)

    outcome = trainer.run(
        measure_at=[1.0], on_measure=press, checkpoint=lambda t: saved.append(t.state())
    )
    assert outcome.status == "interrupted"
    assert outcome.step == 10
    assert signal.getsignal(signal.SIGINT) is before

    again = Trainer(network(task, seed=5), task, options)
    again.restore(*saved[-1])
    assert again.run(measure_at=[1.0], on_measure=press).status == "finished"
    assert seen == rows == [0, 10, 60]
    for a, b in zip(again.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_data_order_does_not_depend_on_width_or_richness():
    task = regression(points=40, inputs=4, outputs=1, seed=0)
    options = Optimisation(steps=5, batch_size=7)
    one = Trainer(network(task, width=8, gamma0=0.1), task, options, seed=3)
    other = Trainer(network(task, width=64, gamma0=2.0), task, options, seed=3)
    for step in range(12):
        assert torch.equal(one._batches.indices(step), other._batches.indices(step))


@pytest.mark.parametrize("method", ["flow", "sgd"])
def test_a_compiled_model_trains_the_same(method):
    task = regression(points=10, inputs=4, outputs=1, seed=0)
    options = Optimisation(method=method, steps=12)
    plain, inner = network(task, gamma0=0.6), network(task, gamma0=0.6)
    Trainer(plain, task, options).run()
    trainer = Trainer(torch.compile(inner, backend="eager"), task, options)  # pyright: ignore
    trainer.run()
    assert trainer.network is inner
    for a, b in zip(plain.parameters(), inner.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-10)


def test_frozen_parameters_stay_and_nothing_to_train_is_refused():
    task = regression(points=10, inputs=4, outputs=1, seed=0)
    net = network(task)
    net.get_parameter("readout").requires_grad_(False)
    before = _parameters(net)
    Trainer(net, task, Optimisation(method="flow", steps=5)).run()
    after = _parameters(net)
    assert torch.equal(before["readout"], after["readout"])
    assert not torch.equal(before["hidden1"], after["hidden1"])
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        Trainer(net.requires_grad_(False), task, Optimisation())


def test_callbacks_for_progress_and_timed_checkpoints():
    task = regression(points=10, inputs=4, outputs=1, seed=0)
    shown, saved = [], []
    trainer = Trainer(network(task), task, Optimisation(steps=10**6, horizon=150.0))
    trainer.run(
        progress=lambda t: shown.append(t.recent_loss),
        checkpoint=lambda t: saved.append(t.step),
        checkpoint_seconds=0.05,
    )
    assert len(saved) >= 2
    assert saved[-1] == trainer.step
    assert all(math.isfinite(loss[0]) for loss in shown)
