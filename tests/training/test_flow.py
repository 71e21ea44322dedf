import itertools
import math

import pytest
import torch
from problems import Linear, classification, network, regression

from ntkscale.networks import MLP
from ntkscale.tasks import Task, circle
from ntkscale.training import Ensemble, Optimisation, Trainer


def _residual(trainer):
    with torch.no_grad():
        return trainer.task.targets - trainer.network(trainer.task.inputs)


def _lambda_max(net, inputs):
    """Largest eigenvalue of gamma^2 J J^T / P, from one backward pass per output."""
    outputs = net(inputs).reshape(-1)
    rows = []
    for f in outputs.unbind():
        gradients = torch.autograd.grad(f, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    jacobian = torch.stack(rows)
    largest = torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1]
    return float(largest * net.gamma.detach() ** 2 / len(inputs))


def test_first_order_convergence_to_the_exact_flow_of_a_linear_model():
    task = regression(points=15, inputs=6, outputs=2, seed=1)
    times = [0.4, 1.5, 6.0]
    gram = task.inputs @ task.inputs.T
    exact = [torch.linalg.matrix_exp(-gram * t / 15) @ task.targets for t in times]
    errors = []
    for fraction in (0.08, 0.04, 0.02):
        residuals = []
        options = Optimisation(
            method="flow", steps=10**5, horizon=times[-1], step_fraction=fraction
        )
        trainer = Trainer(Linear(6, 2), task, options)
        trainer.run(
            measure_at=times,
            on_measure=lambda t, r=residuals: r.append(_residual(t)),
        )
        pairs = zip(residuals[1:], exact, strict=True)
        errors.append(max(float((a - b).norm()) for a, b in pairs))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(order - 1) < 0.15 for order in orders), (errors, orders)


def test_times_are_landed_on_exactly():
    task = regression(points=10, inputs=3, outputs=1, seed=2)
    times = [0.1, 1 / 3, 1 / 3 + 1e-7, math.pi, 7.7]
    for seed in (0, 1):
        seen = []
        net = network(task, seed=seed, gamma0=0.7 + seed)
        trainer = Trainer(net, task, Optimisation(method="flow", steps=10**4, horizon=9.25))
        outcome = trainer.run(measure_at=times, on_measure=lambda t, s=seen: s.append(t.time))
        assert seen == [0.0, *times, 9.25]
        assert outcome.status == "finished"
        assert outcome.time == 9.25


@pytest.mark.parametrize("bias", [False, True])
def test_stays_below_the_edge_of_stability_while_a_rich_kernel_grows(bias):
    task = circle(q=0.75, points=24, dtype=torch.float64)
    net = MLP(2, 1, width=48, depth=2, bias=bias, gamma0=3.0, dtype=torch.float64)
    trainer = Trainer(net, task, Optimisation(method="flow", steps=200))
    products, largest = [], []
    advance = trainer._advance

    def watched(target):
        largest.append(_lambda_max(net, task.inputs))
        advance(target)
        products.append(largest[-1] * trainer.learning_rate)

    trainer._advance = watched
    trainer.run()
    assert largest[-1] > 2 * largest[0], "the kernel must grow for this to test anything"
    assert max(products) < 0.6
    assert sum(products) / len(products) > 0.4  # and the step is not needlessly small


def test_lambda_max_is_that_of_the_kernel_for_networks_and_ensembles():
    task = regression(points=14, inputs=5, outputs=3, seed=8)
    nets = [network(task, seed=s, gamma0=g) for s, g in ((0, 0.5), (1, 2.0), (2, 1.0))]
    exact = [_lambda_max(net, task.inputs) for net in nets]
    for net, value in zip(nets, exact, strict=True):
        trainer = Trainer(net, task, Optimisation(method="flow", steps=1))
        assert trainer._flow is not None
        assert trainer._flow.eta(0) == pytest.approx(0.5 / value, rel=0.01)
    trainer = Trainer(Ensemble(nets), task, Optimisation(method="flow", steps=1))
    assert trainer._flow is not None
    assert trainer._flow.eta(0) == pytest.approx(0.5 / max(exact), rel=0.01)


def test_cross_entropy_flow_uses_its_own_curvature_and_descends():
    task = classification(points=20, inputs=6, classes=4, seed=3)
    net = network(task)
    trainer = Trainer(net, task, Optimisation(method="flow", steps=200, step_fraction=1.0))
    losses = []
    trainer.run(
        measure_at=[0.5 * i for i in range(40)],
        on_measure=lambda t: losses.append(t.evaluate()["loss"]),
    )
    assert losses[0] == pytest.approx(math.log(4))
    assert all(b < a for a, b in itertools.pairwise(losses))


def test_weight_decay_flow_reaches_ridge_regression():
    task = regression(points=30, inputs=4, outputs=1, seed=4)
    trainer = Trainer(
        Linear(4, 1),
        task,
        Optimisation(method="flow", steps=10**4, horizon=200.0, weight_decay=0.2),
    )
    trainer.run()
    x, y = task.inputs, task.targets
    ridge = torch.linalg.solve(x.T @ x / 30 + 0.2 * torch.eye(4, dtype=x.dtype), x.T @ y / 30)
    assert torch.allclose(trainer.network.get_parameter("theta"), ridge, atol=1e-10)


def test_a_kernel_of_zero_is_refused():
    task = Task("zeros", torch.zeros(5, 3), torch.ones(5, 1))
    model = torch.nn.Linear(3, 1, bias=False)
    with pytest.raises(ValueError, match="kernel is zero"):
        Trainer(model, task, Optimisation(method="flow")).run()
