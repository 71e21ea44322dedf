"""Deep infinitely wide networks of any activation, by sampled neurons marched through time."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.activations import activation as nonlinearity
from ntkscale.theory.arguments import Array, number, whole
from ntkscale.theory.dmft.averages import BATCHES, Averages, check_sampling
from ntkscale.theory.dmft.deep_march import March
from ntkscale.theory.dmft.problem import Loss, pose
from ntkscale.theory.dmft.resumption import Resumption
from ntkscale.theory.dmft.solution import Solution
from ntkscale.theory.dmft.span import ExhaustedError


def solve(
    x: Array | None,
    y: Array,
    *,
    depth: int,
    activation: str | Activation | Pointwise,
    gamma0: float,
    learning_rate: float,
    steps: int,
    x_test: Array | None = None,
    y_test: Array | None = None,
    kernel: Array | None = None,
    momentum: float = 0.0,
    loss: Loss = "mse",
    flow: bool = False,
    responses: bool = True,
    samples: int = 16384,
    seed: int = 0,
    tolerance: float | None = None,
    fields: int = 0,
    memory: int = 16 << 30,
    progress: Callable[[int, int], object] | None = None,
    checkpoint: str | Path | None = None,
) -> Solution:
    """Train an infinitely wide network (arXiv 2205.09653, eqs 5-10).

    Neurons are sampled in eight independent batches, each marched through all times once; see
    `deep_march`. There is no fixed point to iterate to, so nothing diverges unless training itself
    does. The error falls as samples^(-1/2), down to what `tolerance` leaves out.

    Args:
        x, y, depth, gamma0, learning_rate, steps, x_test, y_test, kernel, momentum, loss, flow: see
            `pose`. A gamma0 below 1e-3 is solved at 1e-3, and kernels differ by 1e-6 at most.
        activation: a name, an `Activation` or an elementwise torch function.
        responses: False takes W and W^T for independent (gradient independence, A = B = 0).
        samples: neurons of all batches together.
        seed: of the neurons.
        tolerance: mean square, relative to a field's, of what spans of fields may leave out;
            1 / samples unless given, so that both errors fall as samples^(-1/2). A smaller one
            means more directions and time. ReLU's gradients jump, so their spans have nearly as
            many directions as fields, T (P + P_test) C; more than samples / 11 cannot be had.
        fields: neurons whose h and z are returned, at all times and points.
        memory: bytes that kernels and responses may take, see below.
        progress: called with times done and their number, over all batches.
        checkpoint: file in which finished batches are kept until all are; the same call goes on
            after them, with the same result. It is as large as the solution.

    Returns:
        The solution. `standard_error` has the scatter of batches and, in quadrature, an estimate of
        what `tolerance` leaves out: .4 sqrt(tolerance) of a kernel, and of the log of how far the
        mse has fallen .6 sqrt(tolerance). Linear networks are off by .39 and .31 (root mean squares
        over depths 1 to 4; single kernels by up to 1.3, at depth 4, more at the edge of stability:
        `python -m benchmarks.dmft_sampled --tolerance`). Responses act on fields within the span of
        directions of share above 16 / samples: sums against g and phi are meaningful, single
        entries where fields at neighbouring times are nearly equal are not.

    Raises:
        ValueError: see `pose`; too few samples for the inputs; kernels above `memory`; numbers
            out of range; a checkpoint that is damaged or of other arguments.

    Cost:
        Some 12 S r n L T multiply-adds for n points (train and test, times outputs) and spans of r
        directions; memory 8 L S / 8 (6 r) bytes a batch. Kernels of All = P + P_test points take
        8 L (T All)^2 (1 + C^2) bytes and responses 16 (L - 1) (T P)^2 C, which must be within
        `memory`.
    """
    problem = pose(
        x,
        y,
        depth=depth,
        gamma0=gamma0,
        learning_rate=learning_rate,
        steps=steps,
        x_test=x_test,
        y_test=y_test,
        kernel=kernel,
        momentum=momentum,
        loss=loss,
        flow=flow,
    )
    phi = nonlinearity(activation)
    samples, fields = whole(samples, "samples"), whole(fields, "fields", 0)
    root = check_sampling(problem, samples, fields, responses=responses, memory=memory)
    size = samples // BATCHES
    tolerance = 1 / samples if tolerance is None else tolerance
    if not 0 < number(tolerance) < 0.1:
        raise ValueError(f"tolerance must be above 0 and below 0.1, got {tolerance!r}.")
    generator = torch.Generator(problem.kernel.device).manual_seed(seed)
    averages = Averages(problem)
    kept = Resumption(
        checkpoint, problem, phi, samples=samples, seed=seed, tolerance=tolerance, fields=fields,
        responses=responses,
    )  # fmt: skip
    kept.load(averages, generator)
    for batch in range(kept.done, BATCHES):
        started = time.perf_counter()
        march = March(
            problem,
            root,
            phi,
            size,
            responses=responses,
            tolerance=tolerance,
            generator=generator,
            kept=fields // BATCHES + (batch < fields % BATCHES),
        )
        while march.reached < averages.reached:
            try:
                if not march.advance():
                    kept.why = problem.diverged(march.reached)
                    break
            except ExhaustedError as short:
                kept.why = (
                    f"Stopped at time {float(problem.times[march.reached]):.4g}: {short}; raise "
                    f"samples (now {samples}) or tolerance (now {tolerance:g})."
                )
                break
            if progress is not None:
                progress(batch * problem.num_times + march.reached, BATCHES * problem.num_times)
        if not march.reached:
            raise ValueError(kept.why)
        reached = march.reached
        products = None
        if responses and depth > 1:
            products = [*march.forward_responses(), *march.backward_responses()]
        averages.add(
            march.outputs[:reached],
            march.phi_factors(),
            march.g_factors(),
            responses=products,
            fields=(march.h, march.z) if fields else None,
        )
        kept.done, kept.nbytes = batch + 1, max(kept.nbytes, march.nbytes())
        kept.seconds += time.perf_counter() - started
        if kept.done < BATCHES:
            kept.save(averages, generator)
    found = averages.solution(
        samples=size * BATCHES,
        seconds=kept.seconds,
        nbytes=kept.nbytes,
        bias=0.4 * tolerance**0.5,
        why=kept.why,
    )
    kept.clear()
    return found
