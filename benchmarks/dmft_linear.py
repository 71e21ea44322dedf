"""Deep linear mean-field theory: one march through time against sweeps over the whole history.

    OMP_NUM_THREADS=1 python -m benchmarks.dmft_linear [--limit]

The peer is the algorithm of the reference notebooks, in torch, float64: all kernels are guessed at
once and improved by sweeps with inverses of size T P, until no kernel changes by more than 1e-6.
Outputs are Euler steps with the tangent kernel, which is why the two differ by some eta; the march
follows the network's own steps. Seconds are of this process's CPU, one thread. `--limit` solves
T P = 4,000 by the march instead and prints the memory it took.
"""

import argparse
import resource
import time

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft import Problem, Solution, pose, solve_linear

TOLERANCE = 1e-6
GIVE_UP = 60


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", action="store_true", help="T P = 4,000, march only")
    torch.set_num_threads(1)
    if parser.parse_args().limit:
        return limit()
    print("depth gamma0    T   P | march s | sweeps s number ratio | differences: mse, kernels")
    # The figure's settings (arXiv 2205.09653, figure 2), shorter and longer, and a richer one.
    for depth, gamma0, times, num in (
        (3, 0.3, 50, 10),
        (3, 0.3, 50, 20),
        (3, 0.3, 100, 20),
        (3, 1.4, 50, 20),
        (5, 1.4, 50, 20),
        (5, 3.0, 50, 20),
    ):
        x, y = task(num)
        call = {"depth": depth, "gamma0": gamma0, "learning_rate": 2.5 / times, "steps": times - 1}
        began = time.process_time()
        found = solve_linear(x, y, **call)
        march = time.process_time() - began
        began = time.process_time()
        kernels, outputs, sweeps, change = sweep(pose(x, y, **call))
        swept = time.process_time() - began
        row = f"{depth:5d} {gamma0:6.1f} {times:4d} {num:3d} | {march:7.2f} | "
        row += f"{swept:8.2f} {sweeps:6d} "
        if not change <= TOLERANCE:
            print(row + f"      | no solution: the last sweep changed a kernel by {change:.1e}")
            continue
        wrong = [error(found, h, layer) for layer, h in enumerate(kernels)]
        lost = float(((y - outputs).square().mean(1) - found.mse).abs().max())
        print(row + f"{swept / march:5.0f} | {lost:.1e} {max(wrong):.1e}")
    return None


def task(num: int) -> tuple[Float[Tensor, "P D"], Float[Tensor, "P"]]:
    """Gaussian inputs in 2 P dimensions, two classes."""
    x = torch.randn(num, 2 * num, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.where(torch.arange(num) < num // 2, 1.0, -1.0).double()


def error(found: Solution, h: Float[Tensor, "TP TP"], layer: int) -> float:
    """Relative distance of two kernels."""
    mine = found.phi[layer].reshape(h.shape)
    return float((mine - h).norm() / mine.norm())


def sweep(
    problem: Problem,
) -> tuple[list[Float[Tensor, "TP TP"]], Float[Tensor, "T P"], int, float]:
    """The notebooks' algorithm: kernels, outputs, sweeps and the last change."""
    t, p, depth = problem.num_times, problem.num_train, problem.depth
    n, scale = t * p, problem.gamma0 / p
    weights, y = problem.weights, problem.targets[:, 0]
    one, small = torch.eye(n, dtype=torch.float64), torch.eye(t, dtype=torch.float64)
    start, flat = problem.kernel.repeat(t, t), torch.ones(t, t, dtype=torch.float64)
    h, g = [start] * depth, [flat] * depth
    a, b = [torch.zeros_like(start[:, :t])] * depth, [torch.zeros_like(start[:t])] * depth
    outputs, change, count = euler(problem, h, g), 1.0, 0
    while count < GIVE_UP and TOLERANCE < change < 1e12:
        delta = (y - outputs).flatten()
        new_h, new_g, new_a, new_b = list(h), list(g), list(a), list(b)
        for layer in range(depth):
            below = h[layer - 1] if layer else start
            above = g[layer + 1] if layer + 1 < depth else flat
            seen = (below * delta).view(n, t, p).sum(-1)
            c = scale * seen * weights.repeat_interleave(p, 0)
            d = scale * (above * weights).repeat_interleave(p, 1) * delta
            c = c + a[layer - 1] if layer else c
            d = d + b[layer + 1] if layer + 1 < depth else d
            left, right = torch.linalg.inv(one - c @ d), torch.linalg.inv(small - d @ c)
            new_a[layer], new_b[layer] = left @ c, right @ d
            new_h[layer] = left @ (below + c @ above @ c.T) @ left.T
            new_g[layer] = right @ (above + d @ below @ d.T) @ right.T
        changes = [(i - j).norm() / i.norm() for i, j in zip(new_h + new_g, h + g, strict=True)]
        h, g, a, b, count = new_h, new_g, new_a, new_b, count + 1
        outputs = euler(problem, h, g)
        change = float(torch.stack(changes).max())
    return h, outputs, count, change


def euler(problem: Problem, h: list[Tensor], g: list[Tensor]) -> Float[Tensor, "T P"]:
    """Outputs by f(t + 1) = f(t) + eta / P K(t, t) Delta(t)."""
    t, p = problem.num_times, problem.num_train
    layers = [problem.kernel.expand(t, p, p)]
    layers += [each.view(t, p, t, p).diagonal(dim1=0, dim2=2).permute(2, 0, 1) for each in h]
    scales = [each.diagonal()[:, None, None] for each in g] + [torch.ones(1, 1, 1).double()]
    ntk = torch.stack([i * j for i, j in zip(layers, scales, strict=True)]).sum(0)
    outputs = torch.zeros(t, p, dtype=torch.float64)
    for s in range(t - 1):
        delta = problem.targets[:, 0] - outputs[s]
        outputs[s + 1] = outputs[s] + problem.learning_rate / p * ntk[s] @ delta
    return outputs


def limit() -> None:
    """T P = 4,000 in three shapes, each beside what the process has taken so far."""
    print("depth    T    P | CPU s | kernels GiB | process GiB")
    for times, num in ((100, 40), (200, 20), (400, 10)):
        x, y = task(num)
        began = time.process_time()
        found = solve_linear(x, y, depth=3, gamma0=1.0, learning_rate=5 / times, steps=times - 1)
        spent = time.process_time() - began
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        held = found.cost.peak_bytes / 2**30
        print(f"    3 {times:4d} {num:4d} | {spent:5.1f} | {held:11.2f} | {size:11.2f}")


if __name__ == "__main__":
    main()
