import contextlib
import json

import pytest
import torch
from problems import images, network, regression

from ntkscale.networks import MLP
from ntkscale.training import Ensemble, Optimisation, Trainer

_RUNS = {
    "flow": Optimisation(method="flow", steps=90, weight_decay=0.01),
    "sgd": Optimisation(steps=90, batch_size=7, schedule="cosine", warmup=5, augmentation="shift"),
    "momentum": Optimisation(method="momentum", steps=90, batch_size=9, learning_rate=0.02),
    "adam": Optimisation(method="adam", steps=90, batch_size=8, learning_rate=0.01),
}
_TIMES = {"adam": [4, 9, 33, 60]}


def _model(task, ensemble, seed):
    if not ensemble:
        return network(task, seed=seed, gamma0=1.5, bias=True)
    pairs = ((seed, 0.5), (seed + 1, 1.0), (seed + 2, 2.0))
    return Ensemble([network(task, seed=s, gamma0=g, bias=True) for s, g in pairs])


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("name", list(_RUNS))
def test_resuming_anywhere_is_bitwise(name, ensemble):
    task = images(points=20, side=8, seed=3)
    times = _TIMES.get(name, [0.2, 0.5, 1.0, 3.0])

    def train(model, kept=None, stop=None):
        trainer = Trainer(model, task, _RUNS[name], seed=4)
        if kept is not None:
            trainer.restore(*kept)
        rows, states = [], []

        def halt(trainer):
            if trainer.step == stop:
                states.append(trainer.state())
                raise StopIteration

        with contextlib.suppress(StopIteration):
            trainer.run(
                measure_at=times,
                on_measure=lambda t: rows.append(
                    (t.step, t.time, str(t.learning_rate), str(t.evaluate()))
                ),
                checkpoint=halt if stop is not None else lambda t: t.state(),
                checkpoint_seconds=0.0,
            )
        return trainer, rows, states

    whole, expected, _ = train(_model(task, ensemble, seed=1))
    for stop in torch.randint(0, 90, (3,)).tolist():
        _, before, states = train(_model(task, ensemble, seed=1), stop=stop)
        ((tensors, meta),) = states
        meta = json.loads(json.dumps(meta, allow_nan=False))
        # Another seed: every number has to come from the checkpoint.
        model = _model(task, ensemble, seed=50)
        resumed, after, _ = train(model, kept=(tensors, meta))
        assert before + after == expected
        mine, theirs = resumed.state(), whole.state()
        assert mine[1] == theirs[1]
        assert mine[0].keys() == theirs[0].keys()
        assert all(torch.equal(value, theirs[0][key]) for key, value in mine[0].items())


def test_a_state_is_a_copy():
    task = regression(points=10, inputs=3, outputs=1, seed=0)
    trainer = Trainer(network(task), task, Optimisation(method="momentum", steps=5))
    trainer.run()
    tensors, _ = trainer.state()
    kept = {name: value.clone() for name, value in tensors.items()}
    trainer.step = 0
    trainer.ended = None
    trainer.run()
    assert all(torch.equal(value, kept[name]) for name, value in tensors.items())
    assert any(not torch.equal(v, kept[name]) for name, v in trainer.state()[0].items())


def test_foreign_checkpoints_are_refused():
    task = regression(points=10, inputs=3, outputs=1, seed=0)
    options = Optimisation(steps=5)
    state = Trainer(network(task), task, options).state()
    with pytest.raises(ValueError, match="made with optimisation"):
        Trainer(network(task), task, Optimisation(steps=6)).restore(*state)
    with pytest.raises(ValueError, match="made with seed 0"):
        Trainer(network(task), task, options, seed=1).restore(*state)
    with pytest.raises(ValueError, match="made with gamma"):
        Trainer(network(task, gamma0=2.0), task, options).restore(*state)
    with pytest.raises(ValueError, match="has no hidden1"):
        other = MLP(4, 1, width=16, dtype=torch.float64)
        wide = regression(points=10, inputs=4, outputs=1, seed=0)
        Trainer(other, wide, options).restore(*state)
