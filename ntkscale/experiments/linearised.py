"""The exact training and test curves of a network linearised at its start, all outputs coupled.

At finite width the kernel couples outputs: K(x, x') is a C x C matrix, near a multiple of the
identity only when the network is wide. This is the reference that a kernel traced over outputs is
an approximation of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale import ntk
from ntkscale.networks import Network
from ntkscale.tasks import Task
from ntkscale.tracking import MEMORY


@dataclass(frozen=True)
class Linearised:
    """Curves of f_0 + df/dtheta (theta - theta_0) under gradient flow.

    Attributes:
        times: flow times.
        mse: mean |y - f|^2 on the training points, without 1/2.
        test_mse: the same on the test points; None where there are none.
    """

    times: Float[Tensor, "T"]
    mse: Float[Tensor, "T"]
    test_mse: Float[Tensor, "T"] | None


def linearised(
    network: Network,
    task: Task,
    times: Sequence[float],
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Linearised:
    """Solve dr/dt = -K_0 r / P on the training points, and follow f on the test points.

    With K_0 / P = V diag(lambda) V^T over all P C outputs,

        f(x, t) = K_0(x, X) V (1 - exp(-lambda t)) / (P lambda) V^T (y - f_0) + f_0(x).

    Args:
        network: at its start, in float64.
        task: inputs, targets and perhaps test points, in float64, on the network's device.
        times: (T,) flow times, at least 0.
        progress: called with blocks of the kernels done and their total, see `ntk.gram`.

    Cost: the kernels with all outputs, (P + Q) x P x C^2 numbers, and (P C)^3 multiply-adds: 300
    points of ten outputs take seconds.
    """
    scale = float(network.gamma) ** 2
    points = len(task.targets)
    with torch.no_grad():
        start = task.targets - network(task.inputs)
    kernel = scale * ntk.gram(network, task.inputs, output="full", memory=MEMORY, progress=progress)
    values, vectors = ntk.eigensystem(_flat(kernel) / points)
    values = values.clamp(min=0)
    clock = torch.as_tensor(times, dtype=torch.float64, device=values.device)[:, None]
    along = vectors.T @ start.reshape(-1)
    mse = (torch.exp(-2 * clock * values) @ along.square()) / points
    if task.test_inputs is None or task.test_targets is None:
        return Linearised(clock[:, 0], mse, None)
    with torch.no_grad():
        left = (task.test_targets - network(task.test_inputs)).reshape(-1)
    across = scale * ntk.gram(
        network, task.test_inputs, task.inputs, output="full", memory=MEMORY, progress=progress
    )
    # (1 - exp(-lambda t)) / lambda, which is t where lambda is zero.
    learned = torch.where(values > 0, -torch.expm1(-clock * values) / values, clock)
    change = (learned * along) @ (_flat(across) @ vectors).T / points
    test_mse = (left - change).square().sum(dim=1) / len(task.test_targets)
    return Linearised(clock[:, 0], mse, test_mse)


def _flat(kernel: Float[Tensor, "n m C C"]) -> Float[Tensor, "nC mC"]:
    rows, columns, outputs, _ = kernel.shape
    return kernel.permute(0, 2, 1, 3).reshape(rows * outputs, columns * outputs)
