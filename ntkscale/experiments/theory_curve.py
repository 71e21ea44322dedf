"""The curve that theory expects of a cell: the lazy flow of its own initial kernel."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ntkscale.networks import Network
from ntkscale.tasks import Task
from ntkscale.training import lazy_flow

_MOST = 4096  # points: above it one eigendecomposition is no longer nothing


def lazy_curve(
    start: Mapping[str, Tensor], network: Network, task: Task, times: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Times and training mse of a lazy network, as far as the kept kernel at the start tells.

    That of all training points is exact, and so is the linearised network; the spectrum on fewer
    points is an estimate from them.

    Args:
        start: the tensors kept at step 0.
        network: that was trained; one whose output does not begin at zero has no curve.
        task: that it learns; only mean squared error has one.
        times: flow times that are looked at, ascending.

    Returns:
        Two empty lists where nothing is known.

    Cost: an eigendecomposition of the P points' kernel, where there is neither spectrum nor
    linearised network.
    """
    if task.loss != "mse" or not network.centered:
        return [], []
    if "linearised_mse" in start:
        return start["linearised_times"].tolist(), start["linearised_mse"].tolist()
    grid = torch.as_tensor([0.0, *times], dtype=torch.float64)
    if "spectrum_eigenvalues" in start:
        rates = start["spectrum_eigenvalues"].clamp_min(0)
        power = start["spectrum_coefficients"].square().sum(1)
        mse = torch.exp(-2 * grid[:, None] * rates) @ power
    elif len(start["kernel"]) == len(task.inputs) <= _MOST:
        mse = lazy_flow(start["kernel"].cpu(), task.targets.cpu(), grid).mse
    else:
        return [], []
    return grid.tolist(), mse.tolist()
