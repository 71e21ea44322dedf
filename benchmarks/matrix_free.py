"""The top of a kernel's spectrum without the kernel, against the dense kernel made by hand.

    python benchmarks/matrix_free.py [--samples 10000] [--width 512] [--top 50] [--threads 1]

A ReLU network of three hidden layers in float32, on Gaussian inputs of 784 features whose variance
falls as 1 / i. The reference is the float64 kernel sum_l (A_l A_l^T) o (B_l B_l^T) of a layer's
inputs A and output gradients B, and its dense eigenvalues. Other solvers are given that matrix, and
their products are counted.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from scipy.sparse import linalg
from torch import Tensor, nn

from ntkscale.ntk.kernel_operator import KernelOperator
from ntkscale.ntk.matrix_free import operator
from ntkscale.ntk.spectrum.lanczos import EigenPairs, largest_eigenvalues

T = TypeVar("T")


def mlp(width: int) -> nn.Sequential:
    """784 - width - width - width - 1, biases included."""
    return nn.Sequential(
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
    )


def clocked(work: Callable[[], T]) -> tuple[T, str]:
    """What it returns, and what it took; a busy machine lengthens the first of the two times."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return result, f"{wall:.1f} s ({processor:.1f} s of processor)"


def top(model: nn.Module, x: Tensor, k: int) -> tuple[KernelOperator, EigenPairs]:
    """The operator, made and asked."""
    made = operator(model, x)
    return made, made.top_eigenvalues(k)


@torch.no_grad()
def dense_kernel(model: nn.Sequential, x: Tensor) -> Tensor:
    """The kernel (n, n) in float64, layer by layer."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    inputs, h = [], x.double()
    for i, layer in enumerate(layers):
        inputs.append(h)
        h = h @ layer.weight.double().T + layer.bias.double()
        h = h.relu() if i + 1 < len(layers) else h
    gradient = torch.ones_like(h)
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)
    for a, layer in zip(reversed(inputs), reversed(layers), strict=True):
        # The bias is a weight on an input of one.
        kernel += (a @ a.T + 1) * (gradient @ gradient.T)
        gradient = (gradient @ layer.weight.double()) * (a > 0)
    return kernel


def compare(kernel: Tensor, k: int, exact: Tensor) -> None:
    """Products that ways to a residual of 1e-4 of each eigenvalue take, and what they reach."""
    n = len(kernel)
    spent = 0

    class Counted(linalg.LinearOperator):
        """The kernel, with its products counted."""

        def _matmat(self, X: np.ndarray) -> np.ndarray:
            nonlocal spent
            spent += X.shape[1]
            return (kernel @ torch.from_numpy(np.ascontiguousarray(X))).numpy()

    def report(name: str, values: np.ndarray, vectors: np.ndarray) -> None:
        order = np.argsort(-values)
        u, lam = torch.from_numpy(vectors[:, order].copy()), torch.from_numpy(values[order].copy())
        own = torch.linalg.vector_norm(kernel @ u - u * lam, dim=0) / lam
        wrong = ((lam - exact[:k]) / exact[:k]).abs().max()
        print(f"{name:34} {spent:5} products, own residual {own.max():.1e}, values {wrong:.1e}")

    for block in (1, 2, 4, 8):
        found = largest_eigenvalues(lambda v: kernel @ v, n, k, block=block)
        spent = found.products
        report(f"Lanczos, block of {block}", found.values.numpy(), found.vectors.numpy())
    product = Counted(np.float64, (n, n))
    spent = 0
    values, vectors = linalg.eigsh(product, k, tol=1e-4)  # pyright: ignore[reportArgumentType]
    report("scipy eigsh, default basis", values, vectors)
    start = np.random.default_rng(0).standard_normal((n, k))
    for iterations in (10, 20):
        spent = 0
        with warnings.catch_warnings(action="ignore"):
            found = linalg.lobpcg(product, start, tol=1e-12, maxiter=iterations)
        values, vectors = found[:2]
        report(f"scipy lobpcg, {iterations} iterations", values, vectors)


def main() -> None:
    """Print products, residuals and seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--top", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = mlp(args.width)
    x = torch.randn(args.samples, 784) * torch.arange(1, 785) ** -0.5

    (k, found), spent = clocked(lambda: top(model, x, args.top))
    print(
        f"{args.samples} samples, top {args.top}: {found.products} products, {found.passes} VJPs "
        f"and JVPs, {spent}, all converged: {bool(found.converged.all())}"
    )
    print(
        f"residual over lambda_1 {found.residuals.max():.1e}, over its own eigenvalue "
        f"{found.own_residuals.max():.1e}; lambda_1 / lambda_{args.top} = "
        f"{found.values[0] / found.values[-1]:.0f}"
    )
    diagonal, spent = clocked(k.diagonal)
    print(f"diagonal: {spent}")
    trace, spent = clocked(k.trace)
    print(
        f"Hutch++: {trace.value:.6g} [{trace.interval[0]:.6g}, {trace.interval[1]:.6g}], "
        f"{trace.products} products, {spent}; exact {diagonal.double().sum():.6g}"
    )
    density, spent = clocked(lambda: k.density(probes=4, steps=40, known=found))
    print(f"density: {density.products} products, {spent}")

    kernel, made = clocked(lambda: dense_kernel(model, x))
    exact, spent = clocked(lambda: torch.linalg.eigvalsh(kernel).flip(0))
    print(f"dense: kernel {made}, eigenvalues {spent}")
    u, values = found.vectors, found.values
    gaps = torch.linalg.vector_norm(kernel @ u - u * values, dim=0)
    wrong = ((values - exact[: args.top]) / values).abs().max()
    off = ((diagonal - kernel.diagonal()) / kernel.diagonal()).abs().max()
    print(
        f"against it: eigenvalues differ by {wrong:.1e} of their own, residual "
        f"{(gaps / values).max():.1e} of their own; diagonal {off:.1e}"
    )
    inside = (exact[None] >= density.grid[:, None]).sum(1)
    within = ((density.low <= inside) & (inside <= density.high)).double().mean()
    print(f"counting function: exact one within the interval at {within:.0%} of the grid")
    for i in range(0, len(density.grid), 18):
        print(
            f"  at {density.grid[i]:9.3e}: {density.count[i]:7.1f} "
            f"[{density.low[i]:7.1f}, {density.high[i]:7.1f}], exact {inside[i]}"
        )
    compare(kernel, args.top, exact)


if __name__ == "__main__":
    main()
