"""Feature learning to leading order: deep linear networks up to gamma0^2.

With lazy Delta, v(t) = sum_s w(t, s) Delta(s) / P, V(t) = sum_s w(t, s) Delta(s) v(s)^T / P (these
are integrals in flow), K = K^x, and odd orders vanishing,

    H^l(t, s) = K + gamma0^2 {a_l (K v(t)) (K v(s))^T + b_l [K V(t) K + (K V(s) K)^T]}
    G^l(t, s) = 1 + gamma0^2 {a'_l v(t) . K v(s) + b'_l [K . V(t) + K . V(s)]}
    K^NTK(t, t) = (L + 1) K + gamma0^2 c {K (2 K . V + v . K v) + K V K + (K V K)^T + K v (K v)^T}

    a_l = sum_(k <= l) k^2,             b_l = sum_(k <= l) k (L - k + 1)
    a'_l = sum_(k >= l) (L - k + 1)^2,  b'_l = sum_(k >= l) k (L - k + 1)
    c = L (L + 1)^2 (L + 2) / 12

The paper prints a_l = b_l = l, a'_l = b'_l = L - l + 1 and c = L (L + 1) / 2 (arXiv 2205.09653, eq
13): the expansion of the equations without responses. Finite differences of the full equations in
gamma0^2 give the coefficients above; the two agree for one hidden layer.
"""

import time

import torch

from ntkscale.theory.arguments import Array
from ntkscale.theory.dmft.problem import pose
from ntkscale.theory.dmft.solution import Cost, Solution
from ntkscale.theory.dmft.static import descend


def leading_order(
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
    flow: bool = False,
    corrected: bool = True,
) -> Solution:
    """Train a deep linear network whose kernels move to order gamma0^2 only.

    Outputs are sum_s w(t, s) K^NTK(s, s) Delta(s) / P with that kernel, not expanded again. In flow
    they are right to order gamma0^2; in discrete steps their gamma0^2 term is off by a share of
    order eta, while the kernels' is exact.

    Args:
        x, y, depth, gamma0, learning_rate, steps, x_test, y_test, kernel, momentum, flow: see
            `pose`. One output, mean squared error.
        corrected: coefficients of the full equations; False: those printed in the paper.

    Raises:
        ValueError: see `pose`; several outputs.

    Cost: T^2 P^2 multiply-adds, memory of the two-time kernels, 8 L (T All)^2 bytes.
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
        flow=flow,
    )
    if not problem.one_output:
        raise ValueError(
            f"the expansion is for one output, y has shape {tuple(problem.targets.shape)}; give y "
            "as (P,), or solve_linear for several."
        )
    p, scale = problem.num_train, gamma0**2
    rows = problem.kernel[:, :p]  # K of all points against those for training
    v, reached = descend(problem, (depth + 1) * rows[:p])
    v = v[:reached, :, 0]
    delta = problem.delta((depth + 1) * (v @ rows[:p])[..., None])[..., 0]
    weights = problem.weights[:reached, :reached] / p
    both = torch.tensordot(weights, delta[:, :, None] * v[:, None], 1)
    moved = v @ rows.T
    turned = rows @ both @ rows.T
    size, power = (both * rows[:p]).sum((1, 2)), v @ rows[:p] @ v.T
    _, _, _, _, c = coefficients(depth, 1, corrected)
    bracket = problem.kernel * (2 * size + power.diagonal())[:, None, None]
    bracket = bracket + turned + turned.mT + moved[:, :, None] * moved[:, None]
    ntk = (depth + 1) * problem.kernel + scale * c * bracket

    pair = moved[:, :, None, None] * moved
    drift = turned[:, :, None] + turned.permute(2, 0, 1)
    phi, g = [], []
    for layer in range(1, depth + 1):
        a, b, c, d, _ = coefficients(depth, layer, corrected)
        phi.append(problem.kernel[:, None] + scale * (a * pair + b * drift))
        two_time = 1 + scale * (c * power + d * (size[:, None] + size))
        g.append(two_time[:, None, :, None].expand_as(phi[0]))

    outputs, last = descend(problem, ntk[:, :p, :p], reached)
    outputs = torch.tensordot(weights, ntk[:, :, :p] @ problem.delta(outputs[:reached]), 1)
    done, zeros = last == problem.num_times, problem.kernel.new_zeros
    return Solution(
        times=problem.times[:last].clone(),
        num_train=p,
        phi=tuple(each[:last, :, :last] for each in phi),
        g=tuple(each[:last, :, :last] for each in g),
        ntk=ntk[:last, :p, :p],
        forward_responses=(),
        backward_responses=(),
        gamma0=problem.gamma0,
        standard_error={
            "mse": zeros(last),
            "phi": zeros(depth),
            "g": zeros(depth),
            "phi_at": zeros(depth, last),
            "g_at": zeros(depth, last),
        },
        converged=done,
        message="" if done else problem.diverged(last),
        cost=Cost(time.perf_counter() - began),
        linear=True,
        **problem.curves(outputs[:last]),
    )


def coefficients(
    depth: int, layer: int, corrected: bool
) -> tuple[float, float, float, float, float]:
    """a_l, b_l, a'_l, b'_l and c; see above."""
    if not corrected:
        up, down = layer, depth - layer + 1
        return up, up, down, down, depth * (depth + 1) / 2
    below, above = range(1, layer + 1), range(layer, depth + 1)
    return (
        sum(k**2 for k in below),
        sum(k * (depth - k + 1) for k in below),
        sum((depth - k + 1) ** 2 for k in above),
        sum(k * (depth - k + 1) for k in above),
        depth * (depth + 1) ** 2 * (depth + 2) / 12,
    )
