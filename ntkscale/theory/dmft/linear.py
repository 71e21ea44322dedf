"""Deep linear networks of infinite width, exactly: kernels and losses by algebra alone."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft.linear_march import March
from ntkscale.theory.dmft.linear_test_points import with_test_points
from ntkscale.theory.dmft.problem import Array, Loss, Problem, pose
from ntkscale.theory.dmft.solution import Cost, Fields, Solution


def solve_linear(
    x: Array | None,
    y: Array,
    *,
    depth: int,
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
    start: Solution | None = None,
    memory: int = 16 << 30,
    progress: Callable[[int, int], object] | None = None,
) -> Solution:
    """Solve the mean-field equations of a deep linear network (`linear_march` has them).

    Steps of gradient descent are exact at any learning rate, as rounding allows. Flow is of second
    order in `learning_rate`, of third at late times.

    Args:
        x: (P, D) training inputs; None when `kernel` is given.
        y: (P,) or (P, C) targets; with cross-entropy (P, C) probabilities.
        depth: L, the number of hidden layers.
        gamma0: feature learning; 0 is lazy, 1 rich.
        learning_rate: eta; see `Solution.times` for the time that a step takes.
        steps: of the optimiser; T = steps + 1 times come back.
        x_test, y_test: (P_test, D) further inputs, and their targets if known.
        kernel: K^x = x x^T / D over training and test points, in place of inputs.
        momentum: mu of the heavy ball.
        loss: ``"mse"`` or ``"cross-entropy"``.
        flow: gradient flow, read every `learning_rate`.
        responses: False takes weights and their transposes as independent (A = B = 0), exact for
            one hidden layer. Outputs of deeper ones
            are then sums of tangent kernel times Delta.
        start: an earlier solution of the same problem with fewer steps, to go on from.
        memory: bytes that kernels and responses may take, some 8 L (T All)^2.
        progress: called with the times done and T.

    Returns:
        Solution. Responses are those of training points, without a sample index on the backward
        side: A is (T, P, T), B is (T, T, P), for several outputs (T, P, T, C) and (T, C, T, P).
        If the loss diverges it ends there, `converged` is False and `message` says what to change.

    Raises:
        ValueError: see `pose`; more memory than allowed; a `start` of another problem.

    Cost: some L (T^3 P^2 + 3 T^3 P) multiply-adds, T = steps + 1; L T^3 P P_test more with test
    points.
    """
    began = time.perf_counter()
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
    needed = _peak_bytes(problem)
    if needed > memory:
        raise ValueError(
            f"{problem.num_times} times and {len(problem.kernel)} points need "
            f"{needed / 2**30:.1f} GiB of kernels, above memory = {memory / 2**30:.1f} GiB: take "
            "fewer steps or points, or allow more memory."
        )
    march = March(problem, responses)
    if start is not None:
        _take_up(march, start)
    while march.reached < march.times and march.advance():
        if progress is not None:
            progress(march.reached, march.times)
    solution = _solution(march)
    cost = Cost(time.perf_counter() - began, sweeps=1, peak_bytes=needed)
    return replace(solution, cost=cost)


def draw(
    solution: Solution, samples: int, *, times: list[int] | None = None, seed: int = 0
) -> Fields:
    """Fields of a linear network's neurons, which are Gaussian with the kernels as covariances.

    Layers are drawn one by one, h apart from z: for densities, not for products of the two.

    Args:
        solution: of `solve_linear`.
        samples: S.
        times: indices of times to draw (jointly); all by default. Factorising takes (T All)^3.
        seed: of the draw.
    """
    chosen = list(range(len(solution.times))) if times is None else times
    generator = torch.Generator(device=solution.times.device).manual_seed(seed)

    def gaussian(covariance: Float[Tensor, "n n"]) -> Float[Tensor, "n S"]:
        values, vectors = torch.linalg.eigh(covariance)
        noise = torch.randn(
            len(values),
            samples,
            dtype=covariance.dtype,
            device=covariance.device,
            generator=generator,
        )
        return (vectors * values.clamp_min(0).sqrt()) @ noise

    h, z = [], []
    for phi, g in zip(solution.phi, solution.g, strict=True):
        points = phi.shape[1]
        h.append(gaussian(phi[chosen][:, :, chosen].reshape([len(chosen) * points] * 2)))
        h[-1] = h[-1].view(len(chosen), points, samples)
        g = g.select(g.ndim // 2 + 1, 0).select(1, 0)  # no dependence on the points
        g = g[chosen][..., chosen] if g.ndim == 2 else g[chosen][:, :, chosen]
        outputs = g.shape[1] if g.ndim == 4 else 1
        each = gaussian(g.reshape([len(chosen) * outputs] * 2))
        shape = (len(chosen), 1, samples) if g.ndim == 2 else (len(chosen), 1, outputs, samples)
        z.append(each.view(shape))
    return Fields(tuple(h), tuple(z))


def _peak_bytes(problem: Problem) -> int:
    train = problem.num_times * problem.num_train
    every = problem.num_times * len(problem.kernel)
    back = problem.num_times * problem.num_outputs
    march = train**2 + 5 * train * back + 2 * back**2
    return 8 * problem.depth * (march + (every**2 if every > train else 0))


def _take_up(march: March, start: Solution) -> None:
    """Fill the march with a solution's rows."""
    problem, t = march.problem, min(len(start.times), march.times)
    p, o, n, m = march.p, march.o, t * march.p, t * march.o
    outputs = start.outputs[:t, :p].to(problem.kernel.device).reshape(t, p, o)
    same = (
        start.depth == march.depth
        and start.num_train == p
        and start.gamma0 == problem.gamma0
        and torch.allclose(start.times[:t], problem.times[:t])
        and torch.allclose(start.phi[0][0, :p, 0, :p], march.kx)
        and torch.allclose(start.loss[:1], problem.losses(march.outputs[0]))
        and len(start.forward_responses) == (march.depth - 1) * march.responses
    )
    if not same:
        raise ValueError(
            "start is a solution of another problem: depth, gamma0, inputs, targets, times and "
            "responses must be those of the call."
        )
    march.outputs[:t] = outputs
    march.delta[:t] = problem.delta(outputs)
    if t > 1:  # in flow the first step's outputs are reported better than they are gone on from
        march.change[0] = (problem.depth + 1) * march.kx @ march.delta[0]
        march.outputs[1] = march.w[1, 0] * march.change[0]
        march.delta[1] = problem.delta(march.outputs[1])
    for layer in range(march.depth):
        march.h[layer][:n, :n] = start.phi[layer][:t, :p, :t, :p].reshape(n, n)
        g = start.g[layer].reshape(
            len(start.times), -1, o, len(start.times), start.phi[0].shape[1], o
        )
        march.g[layer][:m, :m] = g[:t, 0, :, :t, 0].reshape(m, m)
    march.resume(t, start.forward_responses, start.backward_responses)


def _solution(march: March) -> Solution:
    problem, t = march.problem, march.reached
    p, o, depth = march.p, march.o, march.depth
    points = len(problem.kernel)
    tangent = march.tangent_kernel(0, t)
    forward = [
        (march.c[layer][: t * p, : t * o] @ march.y[layer][: t * o, : t * o]).view(t, p, t, o)
        for layer in range(depth - 1)
    ]
    backward = [each[: t * o, : t * p].reshape(t, o, t, p) for each in march.b[1:]]
    g = [
        each[: t * o, : t * o].reshape(t, 1, o, t, 1, o).expand(t, points, o, t, points, o)
        for each in march.g
    ]
    phi, outputs = with_test_points(march)
    if problem.one_output:
        forward, backward = [a[..., 0] for a in forward], [b[:, 0] for b in backward]
        g, tangent = [each[:, :, 0, :, :, 0] for each in g], tangent[..., 0, 0]
    done = t == march.times
    zeros = problem.kernel.new_zeros
    return Solution(
        times=problem.times[:t].clone(),
        num_train=p,
        phi=tuple(phi),
        g=tuple(g),
        ntk=tangent,
        forward_responses=tuple(forward) if march.responses else (),
        backward_responses=tuple(backward) if march.responses else (),
        gamma0=problem.gamma0,
        standard_error={"mse": zeros(t), "phi": zeros(depth), "g": zeros(depth)},
        converged=done,
        message="" if done else problem.diverged(t),
        **problem.curves(outputs),
    )
