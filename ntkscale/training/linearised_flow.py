"""The exact flow of a linearised network on a mean squared error, all outputs coupled.

At finite width the kernel couples outputs: K(x, x') is a C x C matrix, near a multiple of the
identity only when the network is wide. `lazy_flow` solves what a given kernel does; this takes the
network, and follows its test points too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntkscale import ntk
from ntkscale.tasks import Task
from ntkscale.training.evaluation import outputs_on
from ntkscale.training.linearised import Linearised, Mode


@dataclass(frozen=True)
class LinearisedFlow:
    """Gradient flow of a linearised network on a mean squared error, solved exactly.

    Attributes:
        times: (T,) float64, flow time.
        mse: (T,) float64, mean over the P points of |y - f|^2, without 1/2.
        residuals: (T, P, C) float64, y - f on the training points.
        test_mse: (T,) float64, mse on the test points; None where there are none.
        test_outputs: (T, Q, C) float64, f on the test points; None where there are none.
    """

    times: Float[Tensor, "T"]
    mse: Float[Tensor, "T"]
    residuals: Float[Tensor, "T P C"]
    test_mse: Float[Tensor, "T"] | None
    test_outputs: Float[Tensor, "T Q C"] | None


def linearised_flow(
    model: nn.Module,
    task: Task,
    times: Sequence[float] | Float[Tensor, "T"],
    *,
    mode: Mode = "linear",
    memory: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> LinearisedFlow:
    """Solve dd/dt = gamma^2 J^T (y - f) / P for `Linearised(model, mode=mode)`, in float64.

    With K = gamma^2 J J^T over all P C outputs and K(X, X) / P = V diag(lambda) V^T,

        f(x, t) = f(x, 0) + K(x, X) V [(1 - exp(-lambda t)) / (P lambda)] V^T (y - f(X, 0)).

    At t = inf that is the interpolant of least |d| (least squares where none exists). Eigenvalues
    below P C eps lambda_max are rounding and count as zero.

    Args:
        model: the network, at the weights to linearise at, in any precision; run in evaluation
            mode.
        task: squared error, with or without test points.
        times: flow times from 0 to inf.
        mode: as in `Linearised`.
        memory: budget in bytes of the kernels, see `ntk.gram`.
        progress: called with blocks of each kernel done and their total.

    Raises:
        ValueError: an `Ensemble`, a loss other than mse, a negative time, an unknown mode; what
            `ntk.gram` refuses.

    Cost: the kernels with all outputs, (P + Q) x P x C^2 numbers, and about 9 (P C)^3
    multiply-adds.

    Source: Lee et al. 2019 (arXiv 1902.06720), section 2.2, with all outputs coupled.
    """
    if task.loss != "mse":
        raise ValueError(
            f"the exact flow is known for the mse alone, the task has {task.loss}: train a "
            "Linearised network instead."
        )
    frozen = Linearised(model, mode=mode)  # a copy, checked
    names = list(frozen.displacements)
    network = frozen.network.double()
    scale = float(frozen.gamma) ** 2
    task = task.to(next(network.parameters()).device, torch.float64)
    grid = torch.as_tensor(times, dtype=torch.float64, device=task.inputs.device)
    if grid.ndim != 1 or not bool((grid >= 0).all()):
        raise ValueError("times must be a list of flow times, none below 0.")

    def start(inputs: Tensor) -> Tensor:
        outputs = outputs_on(network, inputs)
        return outputs if mode == "linear" else torch.zeros_like(outputs)

    points, outputs = task.targets.shape
    kernel = ntk.gram(
        network, task.inputs, output="full", params=names, memory=memory, progress=progress
    )
    values, vectors = torch.linalg.eigh(scale * _flat(kernel) / points)
    decay, learned = _modes(values, grid)
    along = vectors.T @ (task.targets - start(task.inputs)).reshape(-1)
    residuals = (decay * along) @ vectors.T
    mse = residuals.square().sum(1) / points
    residuals = residuals.reshape(len(grid), points, outputs)
    if task.test_inputs is None or task.test_targets is None:
        return LinearisedFlow(grid, mse, residuals, None, None)
    across = ntk.gram(
        network, task.test_inputs, task.inputs, output="full", params=names, memory=memory,
        progress=progress,
    )  # fmt: skip
    change = (learned * along) @ (scale * _flat(across) @ vectors).T / points
    tested = start(task.test_inputs) + change.reshape(len(grid), -1, outputs)
    test_mse = (task.test_targets - tested).square().sum((1, 2)) / len(task.test_targets)
    return LinearisedFlow(grid, mse, residuals, test_mse, tested)


def _modes(
    values: Float[Tensor, "m"], times: Float[Tensor, "T"]
) -> tuple[Float[Tensor, "T m"], Float[Tensor, "T m"]]:
    """exp(-lambda t) and (1 - exp(-lambda t)) / lambda, which is t where lambda is zero."""
    rounding = len(values) * torch.finfo(values.dtype).eps * values.max().clamp_min(1e-200)
    values = torch.where(values > rounding, values, 0.0)
    clock = times[:, None]
    unknown = (values == 0) & (clock * rounding > 1)
    decay = torch.exp(-clock * values).masked_fill(unknown, 1.0)
    learned = torch.where(values > 0, -torch.expm1(-clock * values) / values, clock)
    return decay, learned.masked_fill(unknown, 0.0)


def _flat(kernel: Float[Tensor, "n m C C"]) -> Float[Tensor, "nC mC"]:
    rows, columns, outputs, _ = kernel.shape
    return kernel.permute(0, 2, 1, 3).reshape(rows * outputs, columns * outputs)
