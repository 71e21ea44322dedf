import pytest
import torch
from problems import Linear, network, regression
from torch.func import functional_call

from ntkscale.networks import CNN
from ntkscale.training import Ensemble, Optimisation, Trainer


def _networks(task, **options):
    pairs = ((3, 0.3), (4, 1.0), (3, 2.0))
    return [network(task, seed=seed, gamma0=gamma0, **options) for seed, gamma0 in pairs]


def test_outputs_and_gamma_are_the_members():
    task = regression(points=9, inputs=4, outputs=2, seed=0)
    nets = _networks(task, depth=2, bias=True)
    expected = torch.stack([net(task.inputs) for net in nets])
    ensemble = Ensemble(nets)
    assert torch.allclose(ensemble(task.inputs), expected, atol=1e-14)
    assert torch.equal(ensemble.gamma, torch.stack([net.gamma for net in nets]).double())
    with torch.no_grad():
        ensemble.stack("hidden1").mul_(1.1)
    together = ensemble(task.inputs)
    for index in range(3):
        model, parameters = ensemble.member(index)
        assert torch.allclose(model(task.inputs), together[index], atol=1e-13)
        called = functional_call(model, parameters, (task.inputs,))
        assert torch.allclose(called, together[index], atol=1e-13)


def test_members_follow_the_ensemble_to_another_dtype():
    task = regression(points=9, inputs=4, outputs=1, seed=0)
    ensemble = Ensemble(_networks(task)).float()
    model, parameters = ensemble.member(1)
    assert all(value.dtype == torch.float32 for value in parameters.values())
    with torch.no_grad():
        ensemble.stack("readout").zero_()
    assert not model.get_parameter("readout").any()


@pytest.mark.parametrize(
    "options",
    [
        Optimisation(steps=40, batch_size=8, weight_decay=0.1, schedule="linear"),
        Optimisation(method="momentum", steps=40, learning_rate=0.02),
        Optimisation(method="adam", steps=40, learning_rate=0.01, batch_size=5),
    ],
)
def test_each_member_trains_as_it_would_alone(options):
    task = regression(points=20, inputs=4, outputs=2, seed=1)
    nets, twins = _networks(task), _networks(task)
    together = Trainer(Ensemble(nets), task, options, seed=6)
    outcome = together.run(measure_at=[0.5])
    assert outcome.diverged_at == (None, None, None)
    rows = together.evaluate()
    for index, (net, twin) in enumerate(zip(nets, twins, strict=True)):
        alone = Trainer(twin, task, options, seed=6)
        alone.run(measure_at=[0.5])
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)
        for name, value in alone.evaluate().items():
            assert rows[name][index] == pytest.approx(value)


def test_flow_members_share_one_time_and_agree_with_their_own_runs_to_first_order():
    task = regression(points=16, inputs=4, outputs=1, seed=2)
    gaps = []
    for fraction in (0.2, 0.1):
        options = Optimisation(method="flow", steps=10**5, horizon=3.0, step_fraction=fraction)
        nets, twins = _networks(task), _networks(task)
        assert Trainer(Ensemble(nets), task, options).run().time == 3.0
        gap = 0.0
        for net, twin in zip(nets, twins, strict=True):
            Trainer(twin, task, options).run()
            with torch.no_grad():
                gap = max(gap, float((net(task.inputs) - twin(task.inputs)).abs().max()))
        gaps.append(gap)
    assert gaps[0] < 0.05
    assert gaps[1] < 0.65 * gaps[0]


@pytest.mark.parametrize("method", ["sgd", "momentum", "adam"])
def test_a_member_that_diverges_is_frozen_and_leaves_the_others_alone(method):
    task = regression(points=8, inputs=3, outputs=1, seed=0)
    options = Optimisation(method=method, steps=60, learning_rate=1e-2, weight_decay=0.1)
    nets, twins = _networks(task), _networks(task)
    ensemble = Ensemble(nets)

    def spoil(trainer):
        if 0 < trainer.step < 60:
            with torch.no_grad():
                ensemble.stack("readout")[1].fill_(1e200)

    trainer = Trainer(ensemble, task, options)
    moment = {"adam": 15, "sgd": 0.15, "momentum": 1.5}[method]
    outcome = trainer.run(measure_at=[moment], on_measure=spoil)
    assert outcome.status == "finished"
    assert outcome.diverged_at == (None, 20, None)  # the next look after step 15
    for index in (0, 2):
        Trainer(twins[index], task, options).run()
        for a, b in zip(nets[index].parameters(), twins[index].parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)

    frozen = [value.detach().clone() for value in nets[1].parameters()]
    kept = trainer.state()
    trainer.step, trainer.ended = 30, None
    trainer.run()
    for now, before in zip(nets[1].parameters(), frozen, strict=True):
        assert torch.equal(now.nan_to_num(7.0), before.nan_to_num(7.0))
    trainer.restore(*kept)
    assert trainer.running == [True, False, True]


def test_flow_goes_on_when_a_members_kernel_is_not_finite():
    class Rooted(Linear):
        def __init__(self, share):
            super().__init__(3, 1)
            self.register_buffer("share", torch.tensor(share, dtype=torch.float64))

        def forward(self, x):
            f = super().forward(x)
            return f + self.get_buffer("share") * f.abs().sqrt()

    task = regression(points=8, inputs=3, outputs=1, seed=0)
    nets = [Rooted(1.0), Rooted(1.0)]
    nets[1].theta.data.fill_(1.0)
    trainer = Trainer(Ensemble(nets), task, Optimisation(method="flow", steps=5))
    outcome = trainer.run()
    assert outcome.diverged_at == (0, None)
    assert outcome.status == "finished"
    assert not torch.equal(nets[1].theta, torch.ones_like(nets[1].theta))
    assert not nets[0].theta.any()


def test_convolutions_can_be_stacked():
    nets = [
        CNN(1, 8, 2, width=4, gamma0=g, seed=s, dtype=torch.float64) for g, s in ((1, 0), (2, 5))
    ]
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    expected = torch.stack([net(x) for net in nets])
    assert torch.allclose(Ensemble(nets)(x), expected, atol=1e-13)


def test_refuses_networks_that_differ():
    task = regression(points=8, inputs=3, outputs=1, seed=0)
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])
    with pytest.raises(ValueError, match="other shapes"):
        Ensemble([network(task, width=8), network(task, width=16)])
    with pytest.raises(ValueError, match="one kind"):
        Ensemble([network(task), Linear(3, 1)])
    with pytest.raises(KeyError, match="no parameter or buffer 'nothing'"):
        Ensemble([network(task)]).stack("nothing")
