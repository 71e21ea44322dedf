"""Deep linear networks of infinite width, exactly: kernels and losses by algebra alone."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.arguments import Array
from ntkscale.theory.dmft.linear_march import March
from ntkscale.theory.dmft.linear_test_points import with_test_points
from ntkscale.theory.dmft.problem import Loss, Problem, pose
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
            one hidden layer. Outputs of deeper ones are then sums of tangent kernel times Delta.
        start: an earlier solution of the same problem with fewer steps, to go on from. Its last
            time is solved once more, which tells whether problem and optimiser are the same.
        memory: bytes that kernels, responses and what is computed of test points may take, some
            8 L (T All)^2 and 32 T^2 P_test All.
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
    problem.check_memory(needed, memory)
    march = March(problem, responses)
    if start is not None:
        _take_up(march, start)
    while march.reached < march.times and march.advance():
        if progress is not None:
            progress(march.reached, march.times)
    solution = _solution(march)
    cost = Cost(time.perf_counter() - began, peak_bytes=needed)
    return replace(solution, cost=cost)


def draw(
    solution: Solution, samples: int, *, times: list[int] | None = None, seed: int = 0
) -> Fields:
    """Fields of a linear network's neurons, which are Gaussian with the kernels as covariances.

    Layers are drawn one by one, h apart from z: for densities, not for products of the two.

    Args:
        solution: of a linear network, by algebra: `solve_linear`, `leading_order`, `white_data`.
        samples: S.
        times: indices of times to draw (jointly); all by default. Factorising takes (T All)^3.
        seed: of the draw.

    Raises:
        ValueError: the network is not linear, or the solution is of samples.
    """
    if not solution.linear:
        raise ValueError(
            "draw takes solutions of solve_linear, whose fields are Gaussian; give the solver "
            "fields= to have those of its neurons."
        )
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
    back, held = problem.num_times * problem.num_outputs, every - train
    march = train**2 + 6 * train * back + 2 * back**2
    if not held:
        return 8 * problem.depth * march
    # Layers are assembled one by one, beside four matrices over test points and some of responses.
    beside = 4 * held * every + 6 * held * back
    return 8 * (problem.depth * (march + every**2) + beside)


def _take_up(march: March, start: object) -> None:
    """Fill the march with all of a solution's rows but the last, and solve that one again."""
    if not isinstance(start, Solution):
        raise ValueError(
            f"start must be a Solution, got {type(start).__name__}; Solution.load reads a file."
        )
    problem, depth = march.problem, march.depth
    p, o, last = march.p, march.o, min(len(start.times), march.times) - 1
    times, points = start.outputs.shape[:2]
    several = () if problem.one_output else (o,)
    fits = (
        start.depth == depth
        and start.num_train == p
        and start.gamma0 == problem.gamma0
        and start.outputs.shape == (times, points, *several)
        and all(each.shape == (times, points, times, points) for each in start.phi)
        and all(each.shape == (times, points, *several) * 2 for each in start.g)
        and [a.shape for a in start.forward_responses]
        == [(times, p, times, *several)] * ((depth - 1) * march.responses)
        and [b.shape for b in start.backward_responses]
        == [(times, *several, times, p)] * ((depth - 1) * march.responses)
    )
    if not (fits and _same(start, march, last)):
        raise ValueError(
            "start is a solution of another problem: depth, gamma0, inputs, targets, loss, "
            "optimiser, times and responses must be those of the call."
        )


def _same(start: Solution, march: March, last: int) -> bool:
    """Fill the march up to the last time and solve it: does what the start has come out?"""
    problem, p, o = march.problem, march.p, march.o
    n, m, device = last * p, last * o, problem.kernel.device
    outputs = start.outputs[: last + 1, :p].to(device).reshape(last + 1, p, o)
    march.outputs[:last], march.delta[:last] = outputs[:last], problem.delta(outputs[:last])
    if last > 1:  # in flow the first step's outputs are reported better than they are gone on from
        march.change[0] = (problem.depth + 1) * march.kx @ march.delta[0]
        march.outputs[1] = march.w[1, 0] * march.change[0]
        march.delta[1] = problem.delta(march.outputs[1])
    h = [each[: last + 1, :p, : last + 1, :p].to(device) for each in start.phi]
    shape = (len(start.times), -1, o)
    g = [each.reshape(*shape, *shape[:1], start.phi[0].shape[1], o) for each in start.g]
    g = [each[: last + 1, 0, :, : last + 1, 0].to(device) for each in g]
    for layer in range(march.depth):
        march.h[layer][:n, :n] = h[layer][:last, :, :last].reshape(n, n)
        march.g[layer][:m, :m] = g[layer][:last, :, :last].reshape(m, m)
    if last:
        march.resume(last, start.forward_responses, start.backward_responses)
    known = [
        (start.times[: last + 1].to(device), problem.times[: last + 1]),
        (h[0][0, :, 0], march.kx),
    ]
    if not march.advance():
        return False
    if not (problem.flow and last == 1):  # these are interpolated, see `Problem.curves`
        known.append((outputs[last], march.outputs[last]))
    for layer in range(march.depth):
        row, back = slice(n, n + p), slice(m, m + o)
        known.append((h[layer][last].reshape(p, -1), march.h[layer][row, : n + p]))
        known.append((g[layer][last].reshape(o, -1), march.g[layer][back, : m + o]))
    return all(bool((a - b).norm() <= 1e-8 * b.norm()) for a, b in known)


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
        standard_error={
            "mse": zeros(t),
            "phi": zeros(depth),
            "g": zeros(depth),
            "phi_at": zeros(depth, t),
            "g_at": zeros(depth, t),
        },
        converged=done,
        message="" if done else problem.diverged(t),
        linear=True,
        **problem.curves(outputs),
    )
