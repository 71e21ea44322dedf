"""Discrete-time simulation of the solvable model: stochastic gradient descent on (w, A), exactly.

The steps are in `descent.py`; here they are asked for, bounded in memory and recorded.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from ntkscale.theory.scaling_model.descent import Descent
from ntkscale.theory.scaling_model.features import (
    Features,
    check_limits,
    draw,
    draw_unprojected,
)
from ntkscale.theory.scaling_model.solution import check_gamma
from ntkscale.theory.scaling_model.spectrum import Spectrum

MEMORY = 2**30
"""Bytes for the metrics of the seeds that run together."""
CHECK_EVERY = 10
"""Steps between checks of stability, after fifty that are checked one by one. An unstable step ends
in a flatter place that is stable again, with another curve: it must not be missed."""


@dataclass(frozen=True)
class Simulation:
    """Curves of S seeds; times = learning rate x steps. See `Solution` for the rest.

    Attributes:
        mean_mse: mean mse over the steps from the record before (or the start) to this one, where
            data are unlimited and come in batches: a loss that jumps from step to step is read off
            it, at no cost. The first step of a stretch counts, its last does not.
    """

    times: Float[ndarray, "T"]
    mse: Float[ndarray, "S T"]
    kernel_scale: Float[ndarray, "S T"]
    train_mse: Float[ndarray, "S T"] | None
    mean_mse: Float[ndarray, "S T"] | None


def simulate(
    spectrum: Spectrum,
    gamma: float,
    steps: Sequence[int],
    *,
    learning_rate: float,
    width: int | None = None,
    num_data: int | None = None,
    batch_size: int | None = None,
    noise: float = 0.0,
    projected: bool = True,
    exact: bool = True,
    seeds: Sequence[int] = (0,),
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> Simulation:
    """Projected (stochastic) gradient descent on (w, A), arXiv 2409.17858, section 2.

    With g the gradient of the loss by v, averaged over a batch,

        w' = w + eta A g,   A' = A + eta gamma w g^T (A_0^T A_0 / N)

    and without the bracket where not `projected` (its appendix on linear networks).

    Args:
        spectrum: rows of single modes.
        gamma: ratio of the learning rates of the features and the read-out, gamma0^2.
        steps: where to record, in increasing order, 0 being the start.
        learning_rate: eta of the read-out.
        width: N; None: infinite.
        num_data: P fixed training points; None: fresh data at every step (one pass).
        batch_size: B; None: all data, that is the population's gradient or all P points.
        noise: standard deviation of the labels' noise.
        projected: whether A moves within the span of A_0 only.
        exact: False replaces the metric G by its value in gradient flow, 1 + gamma c^T (1 + gamma
            Z)^-1 c, and a step costs O(r) instead of O(r^2); it differs at O(eta).
        seeds: one curve each; see `features.draw` for what a seed fixes.
        dtype, device: of the simulation; the draw itself is made in float64 on the CPU.
        progress: called with steps done and their total over chunks of seeds.

    Raises:
        ValueError: the learning rate times the kernel's largest eigenvalue, which is at most
            (1 + 2 gamma z) lambda_1, reaches 2 at the start or at the
            step that is named; steps are not increasing; `exact` is switched off for a network that
            is not projected; or `features.draw` refuses.

    Cost: for each seed a draw, then O(r^2) a step (exact) or O(r), r = min(N, M, P); fixed data in
    batches O(B r) more. Memory: seeds run together in at most 1 GiB of metrics.
    """
    gamma = check_gamma(gamma)
    check_limits(spectrum, width=width, num_data=num_data, noise=noise)
    recorded = [int(step) for step in steps]
    if not recorded or recorded[0] < 0 or any(b < a for a, b in pairwise(recorded)):
        raise ValueError("steps must be whole numbers from 0 on, in increasing order; sort them.")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}.")
    if width is None and num_data is None and learning_rate * spectrum.eigenvalues[0] >= 2:
        raise ValueError(
            f"unstable at step 0: learning_rate lambda_1 = "
            f"{learning_rate * spectrum.eigenvalues[0]:.3g} must stay below 2; use a smaller one."
        )
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if not projected and not exact:
        raise ValueError("without the projection the metric does not close on c; use exact=True.")
    if not projected and width is None:
        raise ValueError("an unprojected network needs a width; its infinite limit is a flow.")
    if not seeds:
        raise ValueError("seeds is empty; give at least one.")
    rank = len(spectrum.eigenvalues)
    if projected:
        rank = min(rank, width or rank, num_data or rank)
    size = rank * rank * torch.empty((), dtype=dtype).element_size()
    if exact and size > MEMORY:
        raise ValueError(
            f"the metric of {rank:,} features exceeds 1 GiB; use exact=False or a smaller width."
        )
    together = max(1, MEMORY // size) if exact else len(seeds)
    if width is not None or num_data is not None:  # their read-outs
        together = min(together, max(1, MEMORY // (8 * rank * rank)))
    parts = [list(seeds[i : i + together]) for i in range(0, len(seeds), together)]
    curves = []
    for number, part in enumerate(parts):

        def share(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, len(parts) * total)

        metrics = None
        if projected:
            drawn = [
                draw(spectrum, width=width, num_data=num_data, noise=noise, seed=seed)
                for seed in part
            ]
        else:
            pairs = [
                draw_unprojected(
                    spectrum, width=width or 1, num_data=num_data, noise=noise, seed=seed
                )
                for seed in part
            ]
            drawn, metrics = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        descent = Descent(
            spectrum,
            drawn,
            metrics,
            gamma=gamma,
            learning_rate=learning_rate,
            batch_size=batch_size,
            noise=noise,
            exact=exact,
            seeds=part,
            dtype=dtype,
            device=torch.device(device),
        )
        curves.append(_record(spectrum, drawn, descent, recorded, share))
    mse, scale, train, mean = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    times = learning_rate * np.array(recorded, dtype=np.float64)
    online = num_data is None and batch_size is not None and projected
    return Simulation(
        times, mse, scale, train if num_data is not None else None, mean if online else None
    )


def _record(
    spectrum: Spectrum,
    drawn: list[Features],
    descent: Descent,
    recorded: list[int],
    progress: Callable[[int, int], object],
) -> Float[ndarray, "4 S T"]:
    """mse, kernel scale, train mse at the recorded steps, mean mse since the one before."""
    mse, scale, train, mean = found = np.empty((4, len(drawn), len(recorded)))
    for i, step in enumerate(recorded):
        before = descent.step
        while descent.step < step:
            pause = 1 if descent.step < 5 * CHECK_EVERY else CHECK_EVERY
            descent.advance(min(pause, step - descent.step))
            progress(descent.step, recorded[-1])
        coefficients, growth = descent.coefficients(), descent.kernel_scale()
        passed = descent.losses_passed()
        for j, features in enumerate(drawn):
            mse[j, i] = features.mse(spectrum, coefficients[j])
            scale[j, i] = growth[j]
            mean[j, i] = passed[j] / (step - before) if step > before else mse[j, i]
            train[j, i] = np.nan
            if features.samples is not None and features.labels is not None:
                missed = features.labels - features.samples @ coefficients[j]
                train[j, i] = np.square(missed).sum() / len(missed)
    return found
