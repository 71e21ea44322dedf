import math

import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from ntkscale.networks import MLP
from ntkscale.theory.infinite_width import kernels, lazy_flow, posterior
from ntkscale.training import lazy_flow as of_networks
from tests.reference import neural_tangents_values as printed


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_values_of_neural_tangents() -> None:
    x, x_test = (torch.tensor(v, dtype=torch.float64) for v in (printed.X1, printed.X2))
    options = {"depth": 1, "activation": "erf", "weight_variance": 1.5, "bias_variance": 0.3}
    train, cross, test = (kernels(*inputs, **options) for inputs in ((x,), (x_test, x), (x_test,)))
    targets = torch.tensor(printed.TARGETS, dtype=torch.float64)
    found = lazy_flow(
        train.ntk,
        targets,
        list(printed.ENSEMBLE),
        cross=cross.ntk,
        nngp=(train.nngp, cross.nngp, test.nngp.diagonal()),
    )
    for i, (mean, covariance) in enumerate(printed.ENSEMBLE.values()):
        torch.testing.assert_close(found.mean[i], torch.tensor(mean, dtype=torch.float64))
        variance = torch.tensor(covariance, dtype=torch.float64).diagonal()
        torch.testing.assert_close(found.variance[i], variance)
    # It starts as the prior and ends on the targets.
    start = lazy_flow(
        train.ntk,
        targets,
        [0.0, math.inf],
        cross=train.ntk,
        nngp=(train.nngp, train.nngp, train.nngp.diagonal()),
    )
    torch.testing.assert_close(start.variance[0], train.nngp.diagonal())
    torch.testing.assert_close(start.mean[1], targets)
    assert float(start.variance[1].max()) < 1e-9 and float(start.train_mse[1]) < 1e-9
    expected = (targets.square() + train.nngp.diagonal()).mean()
    assert float(start.train_mse[0]) == pytest.approx(float(expected))


def test_is_the_flow_by_the_matrix_exponential() -> None:
    points, n, outputs = 6, 4, 3
    inputs = drawn(points + n, 5)
    whole = kernels(inputs, depth=2, activation="tanh", bias_variance=0.5)
    train, cross = whole.ntk[:points, :points], whole.ntk[points:, :points]
    y = drawn(points, outputs)
    nngp = whole.nngp
    found = lazy_flow(
        train,
        y,
        [0.3, 4.0],
        cross=cross,
        nngp=(nngp[:points, :points], nngp[points:, :points], nngp.diagonal()[points:]),
    )
    for i, t in enumerate((0.3, 4.0)):
        left = torch.from_numpy(expm(-train.numpy() * t / points))
        forward = cross @ torch.linalg.solve(train, torch.eye(points) - left)
        torch.testing.assert_close(found.mean[i], forward @ y)
        # f(t) = F y + (1, -F) (f_0 of further, of training inputs): a linear map of a Gaussian.
        onto = torch.cat((-forward, torch.eye(n, dtype=torch.float64)), dim=1)
        torch.testing.assert_close(found.variance[i], (onto @ nngp @ onto.T).diagonal())
        loss = (left @ y).square().sum() / points
        loss = loss + outputs * (left @ nngp[:points, :points] @ left).trace() / points
        assert float(found.train_mse[i]) == pytest.approx(float(loss))
    centred = lazy_flow(train, y, [0.3, 4.0], cross=cross)
    assert float(centred.variance.abs().max()) == 0
    torch.testing.assert_close(centred.mean, found.mean)
    torch.testing.assert_close(centred.train_mse, of_networks(train, y, [0.3, 4.0]).mse)


def test_equal_inputs_stay_finite() -> None:
    x = drawn(3, 2)
    x = torch.cat((x, x[:1]))
    train = kernels(x, depth=1, activation="erf").ntk
    found = lazy_flow(train, torch.tensor([1.0, -1.0, 0.5, 1.0]), [math.inf], cross=train)
    torch.testing.assert_close(found.mean[0], torch.tensor([1.0, -1, 0.5, 1], dtype=torch.float64))


def test_an_ensemble_of_wide_networks() -> None:
    x, x_test, y = drawn(4, 3), drawn(3, 3), drawn(4)
    options = {"depth": 1, "activation": "erf", "bias_variance": 1.0}
    train, cross, test = (kernels(*z, **options) for z in ((x,), (x_test, x), (x_test,)))
    time, members = 3.0, 200
    found = lazy_flow(
        train.ntk,
        y,
        [time],
        cross=cross.ntk,
        nngp=(train.nngp, cross.nngp, test.nngp.diagonal()),
    )
    outputs = torch.stack([_trained(x, y, x_test, time, seed) for seed in range(members)])
    error = outputs.std(0) / members**0.5
    assert bool(((outputs.mean(0) - found.mean[0]).abs() < 4 * error + 0.03).all())
    ratio = outputs.var(0) / found.variance[0]
    assert bool(((ratio - 1).abs() < 4 * (2 / members) ** 0.5 + 0.05).all())


def _trained(x: Tensor, y: Tensor, x_test: Tensor, time: float, seed: int) -> Tensor:
    """Output of a two-layer network in the NTK parameterization after that much flow time."""
    net = MLP(
        3,
        1,
        width=256,
        activation="erf",
        bias=True,
        parameterization="ntk",
        centered=False,
        seed=seed,
        dtype=torch.float64,
    )
    steps = 25
    for _ in range(steps):
        loss = (y - net(x)[:, 0]).square().mean() / 2
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= time / steps * gradient
    return net(x_test)[:, 0].detach()


def test_posterior_is_the_conditioned_gaussian() -> None:
    points, n = 5, 3
    whole = kernels(drawn(points + n, 4), depth=2, activation="gelu", bias_variance=0.3).nngp
    blocks = (whole[:points, :points], whole[points:, :points], whole[points:, points:])
    y, noise = drawn(points, 2), 0.1
    found = posterior(blocks[0], y, blocks[1], blocks[2], noise=noise)
    # The precision of the joint Gaussian, whose block is the conditional precision.
    joint = whole.clone()
    joint.diagonal()[:points] += noise
    precision = torch.linalg.inv(joint)
    inner = torch.linalg.inv(precision[points:, points:])
    torch.testing.assert_close(found.covariance, inner)
    torch.testing.assert_close(found.mean, -inner @ precision[points:, :points] @ y)
    evidence = torch.distributions.MultivariateNormal(
        torch.zeros(points, dtype=torch.float64), joint[:points, :points]
    ).log_prob(y.T)
    assert found.log_evidence == pytest.approx(float(evidence.sum()))
    one = posterior(blocks[0], y[:, 0], blocks[1], blocks[2], noise=noise)
    torch.testing.assert_close(one.mean, found.mean[:, 0])
    # Kernel regression with the NTK is where its flow ends.
    exact = posterior(blocks[0], y, blocks[1], blocks[2])
    flow = lazy_flow(blocks[0], y, [math.inf], cross=blocks[1])
    torch.testing.assert_close(exact.mean, flow.mean[0])


def test_bad_input_is_one_sentence() -> None:
    kernel, y = torch.eye(3), torch.ones(3)
    with pytest.raises(ValueError, match="need kernels"):
        posterior(kernel, torch.ones(2), torch.ones(1, 3), torch.ones(1, 1))
    with pytest.raises(ValueError, match="noise must be at least 0"):
        posterior(kernel, y, torch.ones(1, 3), torch.ones(1, 1), noise=-1.0)
    with pytest.raises(ValueError, match="give noise="):
        posterior(torch.ones(3, 3), y, torch.ones(1, 3), torch.ones(1, 1))
    with pytest.raises(ValueError, match="none below 0"):
        lazy_flow(kernel, y, [-1.0], cross=kernel)
    with pytest.raises(ValueError, match="need kernels"):
        lazy_flow(kernel, y, [1.0], cross=torch.ones(2, 2))
    with pytest.raises(ValueError, match="nngp holds shapes"):
        lazy_flow(kernel, y, [1.0], cross=kernel, nngp=(kernel, kernel, kernel))
    with pytest.raises(ValueError, match="not finite"):
        lazy_flow(kernel * math.nan, y, [1.0], cross=kernel)
    nan = torch.full((1, 3), math.nan)
    with pytest.raises(ValueError, match="cross has entries that are not finite"):
        posterior(kernel, y, nan, torch.ones(1, 1))
    with pytest.raises(ValueError, match="second of nngp has entries that are not finite"):
        lazy_flow(kernel, y, [1.0], cross=kernel[:1], nngp=(kernel, nan, kernel[0, :1]))
    with pytest.raises(ValueError, match="none below 0"):
        lazy_flow(kernel, y, [math.nan], cross=kernel)


def test_arrays_of_numpy() -> None:
    kernel, y = 3 * torch.eye(3, dtype=torch.float64), drawn(3)
    flow = lazy_flow(kernel.numpy(), y.numpy(), [0.5], cross=kernel.numpy())
    torch.testing.assert_close(flow.mean, lazy_flow(kernel, y, [0.5], cross=kernel).mean)
    mean = posterior(kernel.numpy(), y.tolist(), kernel.numpy(), kernel.numpy()).mean
    torch.testing.assert_close(mean, y)
