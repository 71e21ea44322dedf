import pytest
import torch
from problems import network, regression

from ntkscale import ntk
from ntkscale.training import Optimisation, Trainer, lazy_flow


def _kernel(points, rank, seed):
    torch.manual_seed(seed)
    factor = torch.randn(points, rank, dtype=torch.float64)
    return factor @ factor.T


def test_agrees_with_the_matrix_exponential():
    kernel, residual = _kernel(9, 5, 1), torch.randn(9, 2, dtype=torch.float64)
    times = [0.0, 0.3, 2.0, 50.0]
    flow = lazy_flow(kernel, residual, times, residuals=True)
    assert flow.residuals is not None
    for i, t in enumerate(times):
        expected = torch.linalg.matrix_exp(-kernel * t / 9) @ residual
        assert torch.allclose(flow.residuals[i], expected, atol=1e-12)
        assert flow.mse[i] == pytest.approx(float(expected.square().sum() / 9))


def test_full_kernel_couples_the_outputs():
    torch.manual_seed(2)
    jacobian = torch.randn(4, 3, 20, dtype=torch.float64)
    kernel = torch.einsum("acp,bdp->abcd", jacobian, jacobian)
    residual = torch.randn(4, 3, dtype=torch.float64)
    flow = lazy_flow(kernel, residual, [0.7], residuals=True)
    flat = jacobian.reshape(12, 20)
    expected = torch.linalg.matrix_exp(-flat @ flat.T * 0.7 / 4) @ residual.reshape(12)
    assert flow.residuals is not None
    assert torch.allclose(flow.residuals[0], expected.reshape(4, 3), atol=1e-12)


def test_discrete_steps_are_those_of_gradient_descent():
    kernel, residual = _kernel(6, 6, 4), torch.randn(6, 1, dtype=torch.float64)
    eta = 1.2 * 6 / float(torch.linalg.eigvalsh(kernel)[-1])  # the leading mode alternates in sign
    now = residual
    for _ in range(5):
        now = now - eta * kernel @ now / 6
    flow = lazy_flow(kernel, residual, [0.0, 5 * eta], learning_rate=eta, residuals=True)
    assert flow.residuals is not None
    assert torch.allclose(flow.residuals[1], now, atol=1e-12)


def test_refuses_what_does_not_fit():
    kernel, residual = _kernel(4, 4, 0), torch.ones(4, 1)
    with pytest.raises(ValueError, match=r"\(3, 3\), but 4 points"):
        lazy_flow(kernel[:3, :3], residual, [1.0])
    with pytest.raises(ValueError, match="none below 0"):
        lazy_flow(kernel, residual, [-1.0])
    with pytest.raises(ValueError, match="between two steps"):
        lazy_flow(kernel, residual, [0.25], learning_rate=0.1)
    with pytest.raises(ValueError, match="not finite"):
        lazy_flow(kernel, residual * torch.nan, [1.0])


def test_a_network_of_tiny_richness_follows_it():
    task = regression(points=12, inputs=4, outputs=2, seed=5)
    times = [0.5, 2.0, 8.0]
    net = network(task, width=24, depth=2, gamma0=1e-4, seed=3)
    kernel = ntk.gram(net, task.inputs, output="full") * net.gamma.detach() ** 2
    exact = lazy_flow(kernel, task.targets, [0.0, *times]).mse
    curve = []
    options = Optimisation(method="flow", steps=10**5, step_fraction=0.02, horizon=times[-1])
    Trainer(net, task, options).run(
        measure_at=times, on_measure=lambda t: curve.append(t.evaluate()["mse"])
    )
    assert torch.allclose(torch.tensor(curve, dtype=torch.float64), exact, rtol=0.01)
    assert curve[-1] < 0.8 * curve[0]
