"""Infinitely wide networks with one hidden layer: independent neurons, marched through time.

With one hidden layer there are no random weights between layers, and no responses. A neuron is its
inputs u ~ N(0, K^x) and its read-out weights r_c ~ N(0, 1). It moves in the mean field of all
others (arXiv 2205.09653, eqs 5-7 with A = B = 0):

    h_mu(t) = u_mu + gamma0 / P sum_(s < t) w(t, s) sum_(al, c) K^x_(mu al) (Delta g)_(al c)(s)
    z_c(t) = r_c + gamma0 / P sum_(s < t) w(t, s) sum_al Delta_(al c)(s) phi(h_al(s))
    g_(mu c) = phi'(h_mu) z_c        f_(mu c) = <z_c phi(h_mu)> / gamma0

Nothing is approximated but the average, over S independent neurons.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.activations import Activation, Pointwise
from ntkscale.theory.activations import activation as nonlinearity
from ntkscale.theory.arguments import Array, whole
from ntkscale.theory.dmft.averages import (
    BATCHES,
    SMALLEST_GAMMA0,
    Averages,
    check_sampling,
)
from ntkscale.theory.dmft.problem import Loss, Problem, pose
from ntkscale.theory.dmft.resumption import Resumption
from ntkscale.theory.dmft.solution import Solution


def solve_two_layer(
    x: Array | None,
    y: Array,
    *,
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
    samples: int = 16384,
    seed: int = 0,
    fields: int = 0,
    memory: int = 16 << 30,
    progress: Callable[[int, int], object] | None = None,
    checkpoint: str | Path | None = None,
) -> Solution:
    """Train an infinitely wide network with one hidden layer.

    Neurons are independent samples in eight batches, each marched through time once. The error
    falls as samples^(-1/2) for any activation. `solve` at depth 1 draws its neurons with less
    scatter, and leaves out what its `tolerance` allows.

    Args:
        x, y, gamma0, learning_rate, steps, x_test, y_test, kernel, momentum, loss, flow: see
            `pose`. A gamma0 below 1e-3 is solved at 1e-3, and kernels differ by 1e-6 at most.
        activation: a name, an `Activation` or an elementwise torch function.
        samples: neurons of all batches together.
        seed: of the neurons.
        fields: neurons whose h and z are returned, at all times and points.
        memory: bytes that kernels and responses may take, see below.
        progress: called with times done and their number, over all batches.
        checkpoint: file in which finished batches are kept until all are; the same call goes on
            after them, with the same result. It is as large as the solution.

    Returns:
        The solution; `standard_error` is the scatter of batches.

    Raises:
        ValueError: see `pose`; too few samples for the inputs; kernels above `memory`; a
            checkpoint that is damaged or of other arguments.

    Cost:
        S T^2 (n + n_g) / 2 multiply-adds for n points with n_g = n C gradients, S T^2 (n^2 + n_g^2)
        for the kernels; memory 2 S T (n + n_g) bytes (two copies of a batch, an eighth of all).
        Kernels take 8 T^2 (n^2 + n_g^2) bytes, which must be within `memory`.
    """
    problem = pose(
        x,
        y,
        depth=1,
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
    root = check_sampling(problem, samples, fields, responses=False, memory=memory)
    size, points = samples // BATCHES, len(problem.kernel)
    generator = torch.Generator(root.device).manual_seed(seed)
    averages = Averages(problem)
    kept = Resumption(checkpoint, problem, phi, samples=samples, seed=seed, fields=fields)
    kept.load(averages, generator)
    for batch in range(kept.done, BATCHES):
        started = time.perf_counter()
        neurons = fields // BATCHES + (batch < fields % BATCHES)
        particles = _Particles(problem, phi, root, size, generator, neurons)
        while particles.reached < averages.reached:
            if not particles.advance():
                kept.why = problem.diverged(particles.reached)
                break
            if progress is not None:
                done = batch * problem.num_times + particles.reached
                progress(done, BATCHES * problem.num_times)
        t = particles.reached
        averages.add(
            particles.outputs[:t],
            [particles.phi[:, :t].transpose(0, 1).flatten(0, 1) / size**0.5],
            [particles.g[:, :t].transpose(0, 1).flatten(0, 2) / size**0.5],
            fields=([particles.h], [particles.z]) if fields else None,
        )
        kept.done, kept.seconds = batch + 1, kept.seconds + time.perf_counter() - started
        if kept.done < BATCHES:
            kept.save(averages, generator)
    found = averages.solution(
        samples=size * BATCHES,
        seconds=kept.seconds,
        nbytes=16 * size * problem.num_times * points * (1 + problem.num_outputs),
        bias=0.0,
        why=kept.why,
    )
    kept.clear()
    return found


class _Particles:
    """A batch of neurons and their history: phi (All, T, S), g (All, T, C, S)."""

    def __init__(
        self,
        problem: Problem,
        phi: Activation,
        root: Float[Tensor, "All r"],
        size: int,
        generator: torch.Generator,
        kept: int,
    ) -> None:
        self.problem, self.activation = problem, phi
        self.gamma0 = max(problem.gamma0, SMALLEST_GAMMA0)
        times, points, outputs = problem.num_times, len(problem.kernel), problem.num_outputs

        def normal(rows: int) -> Tensor:
            return torch.randn(
                rows, size, generator=generator, device=generator.device, dtype=torch.float64
            )

        self.u, self.r = root @ normal(root.shape[1]), normal(outputs)
        new = problem.kernel.new_zeros
        self.phi, self.g = new(points, times, size), new(points, times, outputs, size)
        self.h, self.z = new(times, points, kept), new(times, points, outputs, kept)
        self.outputs = new(times, points, outputs)
        self.delta = new(times, problem.num_train, outputs)
        self.start: Tensor | None = None
        self.reached = 0

    def advance(self) -> bool:
        """The next time; False when the loss has diverged there."""
        time, problem = self.reached, self.problem
        train = problem.num_train
        # (al, s, c): how much of the past's g and phi is in the weights now.
        past = problem.weights[time, :time, None, None] * self.delta[:time] * (self.gamma0 / train)
        past = past.transpose(0, 1)
        pull = torch.bmm(past.flatten(1)[:, None], self.g[:train, :time].flatten(1, 2))[:, 0]
        h = self.u + problem.kernel[:, :train] @ pull
        z = self.r + torch.bmm(past.mT, self.phi[:train, :time]).sum(0)
        phi = self.activation(h)
        self.phi[:, time] = phi
        self.g[:, time] = self.activation.first(h)[:, None] * z
        kept = self.h.shape[-1]
        self.h[time], self.z[time] = h[:, :kept], z[:, :kept]
        # <z phi> at the start is of order S^(-1/2) in a batch, zero with infinitely many neurons.
        signals = phi @ z.T / (h.shape[1] * self.gamma0)
        self.start = signals if self.start is None else self.start
        self.outputs[time] = signals - self.start
        outputs = self.outputs[time, :train]
        self.delta[time] = problem.delta(outputs)
        if problem.has_diverged(outputs):
            return False
        self.reached += 1
        return True
