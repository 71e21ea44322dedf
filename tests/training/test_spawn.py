import copy
import json
import random

import pytest
import torch
from problems import classification, images, network, regression

from ntkscale.training import Batches, Ensemble, Linearised, Optimisation, Trainer, spawn

_RUNS = {
    "flow": Optimisation(method="flow", steps=60, weight_decay=0.01),
    "sgd": Optimisation(steps=60, batch_size=7, schedule="cosine", warmup=5, augmentation="shift"),
    "momentum": Optimisation(method="momentum", steps=60, batch_size=9, learning_rate=0.02),
    "adam": Optimisation(method="adam", steps=60, batch_size=8, learning_rate=0.01),
}
_TIMES = [0.2, 0.5, 1.0, 3.0]


def _model(task, kind, seed=1):
    if kind == "ensemble":
        pairs = ((seed, 0.5), (seed + 1, 2.0))
        return Ensemble([network(task, seed=s, gamma0=g, bias=True) for s, g in pairs])
    net = network(task, seed=seed, gamma0=1.5, bias=True)
    return Linearised(net) if kind == "linearised" else net


def _train(trainer, moments=(), **options):
    """States of a whole run at the steps asked for."""
    kept = {}

    def keep(t):
        if t.step in moments:
            kept.setdefault(t.step, t.state())

    trainer.run(measure_at=_TIMES, checkpoint=keep, checkpoint_seconds=0.0, **options)
    return kept


def _assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(value, other[0][key]) for key, value in one[0].items())


@pytest.mark.parametrize("kind", ["network", "ensemble", "linearised"])
@pytest.mark.parametrize("name", list(_RUNS))
def test_with_the_parents_seed_a_child_repeats_it(name, kind):
    task = images(points=20, side=8, seed=3)
    parent = Trainer(_model(task, kind), task, _RUNS[name], seed=4)
    for state in _train(parent, random.sample(range(60), 2)).values():
        state = (state[0], json.loads(json.dumps(state[1], allow_nan=False)))
        child = spawn(_model(task, kind, seed=50), task, state, seed=4)
        assert (child.step, child.time) == (
            state[1]["step"],
            None if name == "adam" else state[1]["time"],
        )
        _train(child)
        _assert_same(child.state(), parent.state())


def test_children_go_on_with_their_own_order_and_the_momentum_of_the_parent():
    task = classification(points=23, inputs=4, classes=3, seed=1)
    options = Optimisation(
        method="momentum", steps=40, batch_size=5, learning_rate=0.03, schedule="linear"
    )
    parent = Trainer(network(task, gamma0=0.8, seed=2), task, options, seed=9)
    start = random.randrange(1, 39)
    state = _train(parent, [start])[start]
    tensors, meta = copy.deepcopy(state)
    ends = []
    for seed in (1, 2):
        child = spawn(network(task, gamma0=0.8, seed=7), task, state, seed=seed)
        twin = network(task, gamma0=0.8, seed=2)
        values = dict(twin.named_parameters())
        speed = {n: tensors[f"optimiser.{n}.momentum_buffer"].clone() for n in values}
        with torch.no_grad():
            for name, value in values.items():
                value.copy_(tensors[f"model.{name}"])
        order = Batches(task.inputs.shape, 5, seed=seed)
        assert task.labels is not None
        for step in range(start, 40):
            chosen = order.indices(step)
            out = twin(task.inputs[chosen])
            loss = torch.nn.functional.cross_entropy(out, task.labels[chosen])
            gradients = torch.autograd.grad(loss, list(values.values()))
            with torch.no_grad():
                for (name, value), gradient in zip(values.items(), gradients, strict=True):
                    speed[name] = 0.9 * speed[name] + twin.gamma**2 * gradient
                    value -= options.learning_rate_at(step) * speed[name]
        child.run()
        found = dict(child.network.named_parameters())
        assert all(torch.allclose(found[n], v, rtol=1e-9, atol=1e-12) for n, v in values.items())
        ends.append(found["readout"].detach())
    # Siblings differ, the parent's state is as it was.
    assert not torch.allclose(ends[0], ends[1], rtol=1e-6)
    _assert_same(state, (tensors, meta))


@pytest.mark.parametrize("name", list(_RUNS))
def test_a_child_resumes_bit_by_bit(name):
    task = images(points=20, side=8, seed=5)
    parent = Trainer(_model(task, "network"), task, _RUNS[name], seed=4)
    state = _train(parent, [17])[17]
    child = spawn(_model(task, "network"), task, state, seed=6)
    kept = _train(child, [33])[33]
    resumed = Trainer(_model(task, "network", seed=3), task, child.optimisation, seed=6)
    resumed.restore(*kept)
    _train(resumed)
    _assert_same(resumed.state(), child.state())


def test_a_child_measures_when_it_is_spawned_and_at_its_own_times():
    task = regression(points=12, inputs=3, outputs=1, seed=0)
    options = Optimisation(steps=50, learning_rate=0.1, batch_size=4)
    parent = Trainer(network(task), task, options)
    seen = []
    parent.run(
        measure_at=[0.5, 1.0, 2.0, 3.0, 4.0],
        on_measure=lambda t: seen.append((t.step, t.state())),
    )
    assert [step for step, _ in seen] == [0, 5, 10, 20, 30, 40, 50]
    for step, state in seen[:-1]:
        child, steps = spawn(network(task), task, state, seed=1, observed=5), []
        assert child.ended is None
        assert child.diverged_at == [None]
        child.run(measure_at=[4.5], on_measure=lambda t, steps=steps: steps.append(t.step))
        assert steps == [step, 45, 50]


def test_refuses_parents_that_are_over():
    task = regression(points=12, inputs=3, outputs=1, seed=0)

    def end(options, **how):
        trainer = Trainer(network(task, gamma0=1.0), task, options)
        return trainer, _train(trainer, [options.steps], **how)

    finished, states = end(Optimisation(steps=20))
    for state in (finished.state(), states[20]):
        with pytest.raises(ValueError, match="parent is finished at step 20"):
            spawn(network(task), task, state, seed=1)
    # A measuring time at the very end is seen before the run is marked as over.
    early = {**finished.state()[1], "ended": None}
    with pytest.raises(ValueError, match="parent is finished at step 20"):
        spawn(network(task), task, (finished.state()[0], early), seed=1)
    horizon, _ = end(Optimisation(steps=100, horizon=0.3))
    early = {**horizon.state()[1], "ended": None}
    with pytest.raises(ValueError, match="parent is finished at step 3"):
        spawn(network(task), task, (horizon.state()[0], early), seed=1)
    stopped, _ = end(Optimisation(steps=20), stop_below=1e9)
    with pytest.raises(ValueError, match="parent is stopped at step"):
        spawn(network(task), task, stopped.state(), seed=1)
    wild, _ = end(Optimisation(steps=100, learning_rate=1e4))
    for ended in ("diverged", None):
        with pytest.raises(ValueError, match="parent diverged at step"):
            state = (wild.state()[0], {**wild.state()[1], "ended": ended})
            spawn(network(task), task, state, seed=1)
    fresh = Trainer(network(task), task, Optimisation()).state()
    with pytest.raises(ValueError, match="made with gamma"):
        spawn(network(task, gamma0=2.0), task, fresh, seed=1)
