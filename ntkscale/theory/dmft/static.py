"""Lazy training: the tangent kernel stays what it is at initialisation (gamma0 = 0)."""

import time

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.arguments import Array
from ntkscale.theory.dmft.problem import Loss, Problem, pose
from ntkscale.theory.dmft.solution import Cost, Solution
from ntkscale.theory.infinite_width import propagate


def static_ntk(
    x: Array | None,
    y: Array,
    *,
    depth: int,
    activation: str | Activation | Pointwise,
    learning_rate: float,
    steps: int,
    x_test: Array | None = None,
    y_test: Array | None = None,
    kernel: Array | None = None,
    momentum: float = 0.0,
    loss: Loss = "mse",
    flow: bool = False,
) -> Solution:
    """Train an infinitely wide network in the lazy limit, where kernels do not move.

    What the other solvers tend to as gamma0 goes to zero, in the same discrete steps (or the same
    quadrature, in flow). All kernels are expanded along time, and take the memory of one.

    Args:
        x, y, depth, learning_rate, steps, x_test, y_test, kernel, momentum, loss, flow: see `pose`.
        activation: a name, an `Activation` or an elementwise torch function.

    Returns:
        The solution; `standard_error` has what a series leaves out of kernels, zero for activations
        with closed forms, and an estimate of what that makes of the mse.

    Raises:
        ValueError: see `pose`; an unknown activation.
    """
    began = time.perf_counter()
    problem = pose(
        x,
        y,
        depth=depth,
        gamma0=0.0,
        learning_rate=learning_rate,
        steps=steps,
        x_test=x_test,
        y_test=y_test,
        kernel=kernel,
        momentum=momentum,
        loss=loss,
        flow=flow,
    )
    limit = propagate(problem.kernel, depth=depth, activation=activation, per_layer=True)
    assert limit.phi is not None and limit.g is not None
    depth = problem.depth
    t, p, o, points = problem.num_times, problem.num_train, problem.num_outputs, len(limit.ntk)
    moved, reached = descend(problem, limit.ntk[:p, :p])
    one = torch.eye(o, dtype=torch.float64, device=problem.kernel.device)
    tangent, g = limit.ntk[:p, :p, None, None] * one, []
    for each in limit.g:
        whole = (each[:, None, :, None] * one[:, None])[None, :, :, None]
        g.append(whole.expand(reached, points, o, reached, points, o))
    if problem.one_output:
        tangent, g = tangent[..., 0, 0], [each[:, :, 0, :, :, 0] for each in g]
    done, count = reached == t, torch.arange(1, depth + 1).to(problem.kernel)
    curves = problem.curves(limit.ntk[:, :p] @ moved[:reached])
    # What a series leaves out of one expectation, as often as expectations follow on each other.
    mse = curves["mse"]
    by_series = depth * limit.error * mse * (mse / mse[0]).log().abs().nan_to_num(0, 0, 0)
    error = {"mse": by_series, "phi": limit.error * count, "g": limit.error * depth + 0 * count}
    error |= {f"{name}_at": error[name][:, None].expand(-1, reached) for name in ("phi", "g")}
    return Solution(
        times=problem.times[:reached].clone(),
        num_train=p,
        phi=tuple(
            each[None, :, None, :].expand(reached, points, reached, points) for each in limit.phi
        ),
        g=tuple(g),
        ntk=tangent.expand(reached, *tangent.shape),
        forward_responses=(),
        backward_responses=(),
        gamma0=0.0,
        standard_error=error,
        converged=done,
        message="" if done else problem.diverged(reached),
        cost=Cost(time.perf_counter() - began),
        **curves,
    )


def descend(
    problem: Problem,
    kernel: Float[Tensor, "P P"] | Float[Tensor, "T P P"],
    times: int | None = None,
) -> tuple[Float[Tensor, "T P C"], int]:
    """Training with a given tangent kernel: v(t) = sum_s w(t, s) Delta(s) / P.

    Args:
        problem: what is learned.
        kernel: K of the training points, with f = K v; given at T times, what was learned at time s
            counts with K(s), and instead of v comes f = sum_s w(t, s) K(s) Delta(s) / P.
        times: how many, all by default.

    Returns:
        v or f at all times, and how many times came before the loss diverged.
    """
    moved = problem.kernel.new_zeros(problem.num_times, problem.num_train, problem.num_outputs)
    kicks = torch.zeros_like(moved)
    weights = problem.weights / problem.num_train
    times = problem.num_times if times is None else times
    for t in range(times):
        moved[t] = torch.tensordot(weights[t, :t], kicks[:t], 1)
        outputs = kernel @ moved[t] if kernel.ndim == 2 else moved[t]
        if problem.has_diverged(outputs):
            return moved, t
        delta = problem.delta(outputs)
        kicks[t] = delta if kernel.ndim == 2 else kernel[t] @ delta
    return moved, times
