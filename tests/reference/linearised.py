"""Linearised training, slow and obvious: Jacobians sample by sample, one matrix exponential a time.

With residuals r on the P training points and s on the test points, d(r, s)/dt = -(K r, K' r) / P.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def jacobian(network: nn.Module, inputs: Tensor) -> Tensor:
    """Gradients of the one output with respect to all parameters, a row a sample."""
    rows = []
    for x in inputs:
        network.zero_grad()
        network(x[None]).sum().backward()
        parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def linearised_mse(
    network: nn.Module,
    gamma: float,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    times: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Training and test mse of the linearised network, whose output is zero at the start."""
    seen, unseen = jacobian(network, train[0]), jacobian(network, test[0])
    points = len(seen)
    rate = gamma**2 * torch.cat([seen, unseen]) @ seen.T / points
    generator = torch.zeros(len(rate), len(rate), dtype=rate.dtype)
    generator[:, :points] = -rate
    start = torch.cat([train[1], test[1]])[:, 0]
    found: tuple[list[float], list[float]] = ([], [])
    for time in times:
        residual = torch.linalg.matrix_exp(time * generator) @ start
        found[0].append(float(residual[:points].square().mean()))
        found[1].append(float(residual[points:].square().mean()))
    return found


def outputs_jacobian(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (n, C) and their Jacobian (n, C, D) in all trainable parameters, entry by entry."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    outputs = network(inputs)
    rows = []
    for entry in outputs.flatten():
        parts = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
        filled = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, parts, strict=True)
        ]
        rows.append(torch.cat([g.flatten() for g in filled]))
    return outputs.detach(), torch.stack(rows).reshape(*outputs.shape, -1)


def integrated(
    jacobian: Tensor, start: Tensor, targets: Tensor, gamma: float, time: float, steps: int
) -> Tensor:
    """d(time) (D,) of dd/dt = gamma^2 J^T (y - f_0 - J d) / P from 0: fourth-order Runge-Kutta."""

    def slope(d: Tensor) -> Tensor:
        residual = targets - start - jacobian @ d
        return gamma**2 * torch.einsum("nc,ncd->d", residual, jacobian) / len(targets)

    d, h = torch.zeros(jacobian.shape[-1], dtype=jacobian.dtype), time / steps
    for _ in range(steps):
        a = slope(d)
        b = slope(d + h / 2 * a)
        c = slope(d + h / 2 * b)
        d = d + h / 6 * (a + 2 * b + 2 * c + slope(d + h * c))
    return d
