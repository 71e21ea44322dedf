"""Adversarial training: what a step sees, for whom, and resumed."""

import contextlib
import random

import pytest
import torch
from problems import classification, images, network, regression
from torch import nn

from ntkscale.networks import CNN, MLP
from ntkscale.tasks import Task, centred_one_hot
from ntkscale.training import Ensemble, Linearised, Optimisation, Trainer
from tests.reference.linearised import outputs_jacobian


def sign_step(model, x, labels):
    """One step of .1 along the sign of the gradient of cross-entropy."""
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    return x + 0.1 * gradient.sign()


def signed_task(points, seed):
    task = classification(points, inputs=5, classes=2, seed=seed)
    assert task.labels is not None
    return Task("signs", task.inputs, 2.0 * task.labels[:, None] - 1, "mse", task.labels)


def flattened(model):
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("batch", [None, 6])
def test_a_step_sees_what_the_adversary_makes_of_its_batch(batch):
    task = classification(points=20, inputs=5, classes=3, seed=random.randrange(1000))
    net, twin = network(task, bias=True, seed=2), network(task, bias=True, seed=2)
    options = Optimisation(steps=12, batch_size=batch, learning_rate=0.3)
    trainer = Trainer(net, task, options, seed=1, adversary=sign_step)
    for step in range(12):
        chosen = trainer._batches.indices(step)
        assert task.labels is not None
        x, labels = task.inputs[chosen], task.labels[chosen]
        loss = nn.functional.cross_entropy(twin(sign_step(twin, x, labels)), labels)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, g in zip(twin.parameters(), gradients, strict=True):
                p -= 0.3 * twin.gamma**2 * g
    assert trainer.run().status == "finished"
    torch.testing.assert_close(flattened(net), flattened(twin), rtol=1e-9, atol=1e-12)


def test_the_mse_of_two_classes_hands_over_labels():
    task, seen = signed_task(14, seed=3), []

    def adversary(model, x, labels):
        seen.append((model, x, labels))
        return x

    net = network(task, seed=1)
    trainer = Trainer(net, task, Optimisation(steps=5, batch_size=4), seed=7, adversary=adversary)
    trainer.run()
    plain = network(task, seed=1)
    Trainer(plain, task, Optimisation(steps=5, batch_size=4), seed=7).run()
    assert torch.equal(flattened(net), flattened(plain))
    assert len(seen) == 5 and all(model is net for model, _, _ in seen)
    assert task.labels is not None
    for step, (_, x, labels) in enumerate(seen):
        chosen = trainer._batches.indices(step)
        assert torch.equal(x, task.inputs[chosen]) and torch.equal(labels, task.labels[chosen])


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_resuming_is_bitwise(method):
    task = images(points=20, side=8, seed=3)
    labels = torch.randint(2, (20,), generator=torch.Generator().manual_seed(1))
    task = Task("images", task.inputs, centred_one_hot(labels, 2), "cross-entropy", labels)
    options = Optimisation(
        method=method, steps=30, batch_size=7, learning_rate=0.02, augmentation="flip"
    )

    def train(net, kept=None, stop=None):
        trainer = Trainer(net, task, options, seed=4, adversary=sign_step)
        if kept is not None:
            trainer.restore(*kept)
        states = []

        def halt(now):
            if now.step == stop:
                states.append(now.state())
                raise StopIteration

        with contextlib.suppress(StopIteration):
            trainer.run(checkpoint=halt, checkpoint_seconds=0.0)
        return trainer, states

    whole, _ = train(network(task, seed=1))
    _, (state,) = train(network(task, seed=1), stop=random.randrange(1, 30))
    resumed, _ = train(network(task, seed=50), kept=state)
    mine, theirs = resumed.state(), whole.state()
    assert mine[1] == theirs[1]
    assert all(torch.equal(value, theirs[0][key]) for key, value in mine[0].items())


@pytest.mark.parametrize("name", ["mlp", "cnn", "centred"])
def test_the_attack_on_a_linearised_network_is_on_its_expansion(name):
    """f(x; w) + J(x; w) d with ReLU, J and its derivative in x by the explicit Jacobian."""
    seed = random.randrange(1000)
    torch.manual_seed(seed)
    common = {"width": 7, "bias": True, "seed": seed, "dtype": torch.float64}
    if name == "cnn":
        net, x = CNN(1, 6, 3, **common), torch.rand(5, 1, 6, 6, dtype=torch.float64)
    else:
        net, x = MLP(6, 3, depth=2, **common), torch.rand(5, 6, dtype=torch.float64)
    model = Linearised(net, mode="centred" if name == "centred" else "linear")
    with torch.no_grad():
        for p in net.parameters():
            p.requires_grad_()
        for d in model.displacements.values():
            d.normal_()
    d = torch.cat([part.detach().flatten() for part in model.displacements.values()])
    labels = torch.randint(3, (5,))

    def loss(moved):
        value, jacobian = outputs_jacobian(net, moved)
        out = jacobian @ d + (0 if name == "centred" else value)
        return float(nn.functional.cross_entropy(out.detach(), labels, reduction="sum"))

    leaf = x.clone().requires_grad_()
    outputs = model(leaf)
    by_autograd = torch.autograd.grad(
        nn.functional.cross_entropy(outputs, labels, reduction="sum"), leaf
    )[0]
    found, pull = model.pullback(x)
    error = found.softmax(-1) - nn.functional.one_hot(labels, 3)
    torch.testing.assert_close(found, outputs.detach())
    torch.testing.assert_close(pull(error), by_autograd, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pull(2 * error), 2 * by_autograd, rtol=1e-9, atol=1e-12)
    h, direction = 1e-6, torch.randn_like(x)
    slope = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    assert float((by_autograd * direction).sum()) == pytest.approx(slope, rel=1e-5)
    assert all(part.grad is None for part in model.parameters())


def test_linearised_training_attacks_the_linearised_network():
    task = classification(points=18, inputs=5, classes=3, seed=5)
    net = network(task, bias=True, activation="relu", seed=2)
    options = Optimisation(steps=8, batch_size=6, learning_rate=0.3)
    seen = []

    def adversary(model, x, labels):
        seen.append(model)
        return sign_step(model, x, labels)

    model = Linearised(net)
    trainer = Trainer(model, task, options, seed=3, adversary=adversary)
    trainer.run()
    assert all(one is model for one in seen) and len(seen) == 8
    d = torch.zeros(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    assert task.labels is not None
    for step in range(8):
        chosen = trainer._batches.indices(step)
        x, labels = task.inputs[chosen], task.labels[chosen]
        # The expansion's own gradient in x, by central differences of its loss.
        gradient = torch.zeros_like(x)
        for entry in range(x.numel()):
            sides = []
            for sign in (1, -1):
                moved = x.clone()
                moved.view(-1)[entry] += sign * 1e-6
                value, jacobian = outputs_jacobian(net, moved)
                out = (value + jacobian @ d).detach()
                sides.append(nn.functional.cross_entropy(out, labels, reduction="sum"))
            gradient.view(-1)[entry] = sides[0] - sides[1]
        value, jacobian = outputs_jacobian(net, x + 0.1 * gradient.sign())
        error = (value + jacobian @ d).softmax(-1) - nn.functional.one_hot(labels, 3)
        push = torch.einsum("nc,ncd->d", error, jacobian) / 6
        d = (d - 0.3 * float(net.gamma) ** 2 * push).detach()
    found = torch.cat([part.detach().flatten() for part in model.displacements.values()])
    torch.testing.assert_close(found, d, rtol=1e-8, atol=1e-10)


def test_what_is_refused():
    task = classification(points=8, inputs=3, classes=2, seed=0)
    nameless = regression(points=8, inputs=3, outputs=2, seed=0)
    with pytest.raises(ValueError, match="give it labels"):
        Trainer(network(nameless), nameless, Optimisation(steps=2), adversary=sign_step)
    with pytest.raises(ValueError, match="gradient flow has no adversary"):
        Trainer(network(task), task, Optimisation(method="flow"), adversary=sign_step)
    with pytest.raises(ValueError, match="one by one"):
        Trainer(Ensemble([network(task)]), task, Optimisation(steps=2), adversary=sign_step)
    short = Trainer(
        network(task), task, Optimisation(steps=2), adversary=lambda model, x, labels: x[:2]
    )
    with pytest.raises(ValueError, match="one input for each"):
        short.run()
