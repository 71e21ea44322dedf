"""The published way to solve the mean-field equations of deep networks, batched in torch.

Alternating Monte Carlo (arXiv 2205.09653, appendix B; Pehlevan-Group/dmft_wide_networks): guess
kernels and responses over all times; sample Gaussian fields of these kernels by eigenvectors; find
fields of all times by fixed-point sweeps; average kernels from them, and responses from Jacobians
(full TP x TP inverses); damp; repeat. Outputs follow from the tangent kernel by Euler steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ntkscale.theory.activations import Activation


@dataclass
class Alternating:
    """Kernels Phi^1 ... and G^1 ... over (T P)."""

    phi: list[Tensor]
    g: list[Tensor]


def gaussian(kernel: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Samples (n, S) of N(0, kernel)."""
    values, vectors = torch.linalg.eigh(kernel)
    noise = torch.randn(len(values), samples, generator=generator, dtype=kernel.dtype)
    return vectors @ (values.clamp_min(0).sqrt()[:, None] * noise)


def alternating(
    kernel: Tensor,
    y: Tensor,
    phi: Activation,
    *,
    depth: int,
    gamma0: float,
    learning_rate: float,
    times: int,
    samples: int = 1000,
    jacobian_samples: int = 300,
    iterations: int = 12,
    damping: float = 0.7,
    field_tolerance: float = 1e-6,
    seed: int = 0,
) -> Alternating:
    """Solve as the notebooks do; defaults are theirs (500 field sweeps at most)."""
    generator = torch.Generator().manual_seed(seed)
    p, n = len(y), times * len(y)
    strict = torch.ones(times, times, dtype=torch.float64).tril(-1)
    theta = strict.repeat_interleave(p, 0).repeat_interleave(p, 1)
    ones = torch.ones(n, n, dtype=torch.float64)
    inputs = kernel.repeat(times, times)
    phis, gs = _lazy(inputs, phi, depth, p, times, generator)
    forward = [torch.zeros(n, n, dtype=torch.float64) for _ in range(depth)]
    backward = [torch.zeros(n, n, dtype=torch.float64) for _ in range(depth)]
    rate = learning_rate * gamma0 / p
    for _ in range(iterations):
        delta = _descent(inputs, y, phis, gs, learning_rate, times)
        new_phi, new_g, new_a, new_b = [], [], [], []
        for layer in range(depth):
            below = phis[layer - 1] if layer else inputs
            above = gs[layer + 1] if layer + 1 < depth else ones
            c = rate * theta * below * delta.reshape(-1)
            d = rate * theta * above * delta.reshape(-1)
            if layer:
                c = c + forward[layer - 1]
            if layer + 1 < depth:
                d = d + backward[layer]
            if layer:
                u = gaussian(below, samples, generator)
            else:
                u = gaussian(kernel, samples, generator).repeat(times, 1)
            if layer + 1 < depth:
                r = gaussian(above, samples, generator)
            else:
                r = torch.randn(1, samples, generator=generator, dtype=torch.float64).expand(n, -1)
            h, z = _fields(u, r, c, d, phi, field_tolerance)
            f, g = phi(h), phi.first(h) * z
            new_phi.append(f @ f.T / samples)
            new_g.append(g @ g.T / samples)
            if depth > 1:
                a, b = _jacobians(h, z, c, d, phi, min(jacobian_samples, samples))
                new_a.append(a)
                new_b.append(b)
        mix = damping
        phis = [mix * new + (1 - mix) * old for new, old in zip(new_phi, phis, strict=True)]
        gs = [mix * new + (1 - mix) * old for new, old in zip(new_g, gs, strict=True)]
        for layer in range(depth - 1):
            forward[layer] = mix * new_a[layer] + (1 - mix) * forward[layer]
            backward[layer] = mix * new_b[layer + 1] + (1 - mix) * backward[layer]
    return Alternating(phis, gs)


def _lazy(
    inputs: Tensor, phi: Activation, depth: int, p: int, times: int, generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor]]:
    below, phis, slopes = inputs[:p, :p], [], []
    for _ in range(depth):
        h = gaussian(below, 1000, generator)
        below = phi(h) @ phi(h).T / 1000
        phis.append(below)
        slopes.append(phi.first(h) @ phi.first(h).T / 1000)
    above, gs = torch.ones(p, p, dtype=torch.float64), []
    for slope in reversed(slopes):
        above = above * slope
        gs.insert(0, above)
    return [k.repeat(times, times) for k in phis], [k.repeat(times, times) for k in gs]


def _descent(
    inputs: Tensor, y: Tensor, phis: list[Tensor], gs: list[Tensor], rate: float, times: int
) -> Tensor:
    p = len(y)
    tangent = phis[-1].clone()
    for low, high in zip((inputs, *phis[:-1]), gs, strict=True):
        tangent += low * high
    delta = [y]
    for t in range(times - 1):
        now = slice(t * p, (t + 1) * p)
        delta.append(delta[-1] - rate / p * tangent[now, now] @ delta[-1])
    return torch.stack(delta)


def _fields(
    u: Tensor, r: Tensor, c: Tensor, d: Tensor, phi: Activation, tolerance: float
) -> tuple[Tensor, Tensor]:
    h, z = u, r
    for _ in range(500):
        old = h
        h = u + c @ (phi.first(h) * z)
        z = r + d @ phi(h)
        if float((h - old).abs().max()) < tolerance * float(h.abs().max()):
            break
    return h, z


def _jacobians(
    h: Tensor, z: Tensor, c: Tensor, d: Tensor, phi: Activation, samples: int
) -> tuple[Tensor, Tensor]:
    """Means over samples of dphi(h)/dr and dg/du, in batches of 50."""
    n = len(h)
    one = torch.eye(n, dtype=h.dtype)
    a, b = torch.zeros_like(c), torch.zeros_like(c)
    for start in range(0, samples, 50):
        hs, zs = h.T[start : start + 50], z.T[start : start + 50]
        slope = phi.first(hs)
        own = slope[:, :, None] * (d * slope[:, None]) + torch.diag_embed(_second(phi, hs) * zs)
        hu = torch.linalg.inv(one - c @ own)
        a += (slope[:, :, None] * (hu @ c) * slope[:, None]).sum(0)
        b += (own @ hu).sum(0)
    return a / samples, b / samples


def _second(phi: Activation, h: Tensor) -> Tensor:
    """phi'' almost everywhere: a kink's delta function is not in it."""
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        slope = phi.first(h)
        if not slope.requires_grad:  # piecewise linear
            return torch.zeros_like(h)
        return torch.autograd.grad(slope.sum(), h, materialize_grads=True)[0]
