"""The equations of deep linear networks, marched through time.

Fields are vectors over (time, point) forward and (time, output) backward; gamma0 is written out, so
that zero is no special case. With u^l of covariance H^(l-1), r^l of covariance G^(l+1):

    h^l = u^l + gamma0 C^l g^l,   g^l = r^l + gamma0 D^l h^l
    C^l = A^(l-1) + w o (H^(l-1) Delta) / P      D^l = B^l + w o (G^(l+1) Delta) / P
    Y^l = (I - gamma0^2 D^l C^l)^-1              A^l = C^l Y^l,  B^(l-1) = Y^l D^l
    Q^l = <g u^T> / gamma0 = B^(l-1) H^(l-1)     G^l = Y^l G^(l+1) Y^l^T + gamma0^2 Q^l B^(l-1)^T
    R^l = <g h^T> / gamma0 = Q^l + G^l C^l^T     H^l = H^(l-1) + gamma0^2 (C^l R^l + Q^l^T C^l^T)
    f(t) = R^L(t, t) = <z^L(t) h^L(t)> / gamma0,  H^0 = K^x, G^(L+1) = 1, A^0 = B^L = 0

These are the paper's (arXiv 2205.09653, eqs 11-12) with (I - CD)^-1 = I + C (I - DC)^-1 D put in,
so that what is inverted is of size T. Outputs are the network's own and not integrals of the
tangent kernel, which makes finite learning rates exact.

w is strictly lower triangular in time, and so are C, D, A and B. What happens at time t then
follows from what happened before: backward through the layers, forward again, and out. One march
over the times solves the equations to rounding, at any gamma0. Sweeps over the whole history, which
guess kernels and improve them, need some ten passes at small gamma0 and diverge at large.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.theory.dmft.problem import Problem


class March:
    """Rows of the equations for the times before `reached`. h^1 has index 0.

    Attributes:
        h: H^1 ... H^L, (TP, TP) each.
        g: G^1 ... G^L, (TC, TC).
        c, d, y, q, r: as above; c is (TP, TC), y is (TC, TC), d, q and r are (TC, TP).
        b: b[l] is the B that layer l passes down, also where responses are left out.
        above: G^(l+1) of each layer.
        outputs, delta: f and Delta at training points, (T, P, C).
        change: ntk Delta at equal times, (T, P, C): df/dt P in flow.
        reached: how many times are solved.
    """

    def __init__(self, problem: Problem, responses: bool = True) -> None:
        # One hidden layer has no responses to leave out.
        self.problem, self.responses = problem, responses or problem.depth == 1
        t, p, o = problem.num_times, problem.num_train, problem.num_outputs
        self.times, self.p, self.o, self.depth = t, p, o, problem.depth
        self.scale = problem.gamma0**2
        self.w = problem.weights / p
        self.kx = problem.kernel[:p, :p]

        def zeros(*shape: int) -> list[Tensor]:
            return [problem.kernel.new_zeros(shape) for _ in range(self.depth)]

        self.h, self.g, self.y = zeros(t * p, t * p), zeros(t * o, t * o), zeros(t * o, t * o)
        self.c, self.d, self.b = zeros(t * p, t * o), zeros(t * o, t * p), zeros(t * o, t * p)
        self.q, self.r = zeros(t * o, t * p), zeros(t * o, t * p)
        self.one = torch.eye(o, dtype=torch.float64, device=self.kx.device)
        self.above = [*self.g[1:], self.one.repeat(t, t)]
        self.outputs = problem.kernel.new_zeros(t, p, o)
        self.delta, self.change = torch.zeros_like(self.outputs), torch.zeros_like(self.outputs)
        self.reached = 0

    def advance(self) -> bool:
        """Solve the next time; False when the loss has diverged there, which adds nothing."""
        t = self.reached
        for layer in reversed(range(self.depth)):
            self._backward(layer, t)
        for layer in range(self.depth):
            self._forward(layer, t)
        if self.responses:
            now = self.r[-1][t * self.o : (t + 1) * self.o, t * self.p : (t + 1) * self.p]
            self.outputs[t] = now.T
        else:
            # Fields without responses are no network's, so their <z h> is no output that the
            # tangent kernel would move; the approximation is made in the kernel.
            self.outputs[t] = torch.tensordot(self.w[t], self.change, 1)
        if self.problem.has_diverged(self.outputs[t]):
            return False
        self.delta[t] = self.problem.delta(self.outputs[t])
        self.change[t] = torch.einsum(
            "uvab,vb->ua", self.tangent_kernel(t, t + 1)[0], self.delta[t]
        )
        self.reached = t + 1
        return True

    def resume(self, t: int, forward: tuple[Tensor, ...], backward: tuple[Tensor, ...]) -> None:
        """Take up after `t` times whose H, G, f and Delta are filled in.

        Args:
            t: times that are solved.
            forward, backward: A^1 ... A^(L-1), with rows (time, point) and columns (time, output),
                and B^1 ... B^(L-1), the other way round, of at least `t` times and in any shape
                that splits into these.
        """
        o, p, m, n = self.o, self.p, t * self.o, t * self.p
        for layer in reversed(range(self.depth)):
            d = torch.cat(
                [
                    weigh(above.view(o, t, o), self.delta[:t], self.w[time, :t])
                    for time, above in enumerate(self.above[layer][:m, :m].split(o))
                ]
            )
            if self.responses and layer + 1 < self.depth:
                d += (
                    backward[layer].reshape(-1, o, len(backward[layer]), p)[:t, :, :t].reshape(m, n)
                )
            self.d[layer][:m, :n] = d
        for layer in range(self.depth):
            d, one = self.d[layer][:m, :n], torch.eye(m, dtype=torch.float64, device=self.w.device)
            under = self.h[layer - 1][:n, :n] if layer else self.kx.repeat(t, t)
            c = torch.cat(
                [
                    weigh(rows.view(p, t, p), self.delta[:t].mT, self.w[time, :t])
                    for time, rows in enumerate(under.split(p))
                ]
            )
            if self.responses and layer:
                a = forward[layer - 1]
                c += a.reshape(-1, p, len(a), o)[:t, :, :t].reshape(n, m)
            self.c[layer][:n, :m] = c
            y = torch.linalg.solve_triangular(
                one - self.scale * (d @ c), one, upper=False, unitriangular=True
            )
            self.y[layer][:m, :m], self.b[layer][:m, :n] = y, y @ d
            self.q[layer][:m, :n] = self.b[layer][:m, :n] @ under
            self.r[layer][:m, :n] = self.q[layer][:m, :n] + self.g[layer][:m, :m] @ c.T
        kernels = self.tangent_kernel(0, t)
        self.change[:t] = torch.einsum("tuvab,tvb->tua", kernels, self.delta[:t])
        self.reached = t

    def _backward(self, layer: int, t: int) -> None:
        """Row t of D, Y, B and G, and of Q and R as far as the columns before t."""
        o, s, d, b = self.o, self.scale, self.d[layer], self.b[layer]
        now, past, back = slice(t * o, (t + 1) * o), slice(t * o), slice((t + 1) * o)
        front = slice(t * self.p)
        above, c, y = self.above[layer], self.c[layer], self.y[layer]
        row = weigh(above[now, past].view(o, t, o), self.delta[:t], self.w[t, :t])
        if self.responses and layer + 1 < self.depth:
            row += self.b[layer + 1][now, front]
        d[now, front] = row
        y[now, past] = s * (row @ c[front, past]) @ y[past, past]
        y[now, now] = self.one
        b[now, front] = y[now, past] @ d[past, front] + row
        q = self.under(layer, b[now, front], t)
        g = (y[now, back] @ above[back, back]) @ y[back, back].T + s * (q @ b[back, front].T)
        self.g[layer][now, back] = g
        self.g[layer][back, now] = g.T
        self.q[layer][now, front] = q
        self.r[layer][now, front] = q + g[:, past] @ c[front, past].T

    def _forward(self, layer: int, t: int) -> None:
        """Row t of C and H, column t of Q and R."""
        p, s, h = self.p, self.scale, self.h[layer]
        now, front, past = slice(t * p, (t + 1) * p), slice((t + 1) * p), slice(t * self.o)
        back = slice((t + 1) * self.o)
        under = self.h[layer - 1][now, front] if layer else self.kx.repeat(1, t + 1)
        c = weigh(under.view(p, t + 1, p)[:, :t], self.delta[:t].mT, self.w[t, :t])
        if self.responses and layer:
            c += self.c[layer - 1][now, past] @ self.y[layer - 1][past, past]
        self.c[layer][now, past] = c
        q = self.b[layer][back, front] @ under.T
        r = q + self.g[layer][back, past] @ c.T
        self.q[layer][back, now], self.r[layer][back, now] = q, r
        row = under + s * (c @ self.r[layer][past, front])
        row += s * (q.T @ self.c[layer][front, back].T)
        h[now, front] = row
        h[front, now] = row.T

    def under(self, layer: int, left: Float[Tensor, "N front"], t: int) -> Float[Tensor, "N front"]:
        """left @ H^(l-1) over times before `t`."""
        if layer:
            return left @ self.h[layer - 1][: t * self.p, : t * self.p]
        return (left.reshape(len(left), t, self.p).sum(1) @ self.kx).repeat(1, t)

    def tangent_kernel(self, start: int, stop: int) -> Float[Tensor, "t P P C C"]:
        """sum_l G^(l+1)(t, t) H^l(t, t) of the training points, times `start` to `stop`."""
        time = torch.arange(start, stop, device=self.kx.device)
        inputs = self.kx.expand(len(time), -1, -1)
        h = [inputs, *(each.view(self.times, self.p, self.times, self.p) for each in self.h)]
        g = [each.view(self.times, self.o, self.times, self.o) for each in self.g]
        h[1:] = [each[time, :, time] for each in h[1:]]
        g = [*(each[time, :, time] for each in g), self.one.expand(len(time), -1, -1)]
        terms = zip(h, g, strict=True)
        return sum(
            (under[..., None, None] * above[:, None, None] for under, above in terms),
            start=self.kx.new_zeros(()),
        )


def weigh(
    kernel: Float[Tensor, "N s K"], delta: Float[Tensor, "s M K"], weights: Float[Tensor, "s"]
) -> Float[Tensor, "N s_M"]:
    """sum over K of kernel[n, s, k] delta[s, m, k], times the weight of s; columns (s, m)."""
    seen = kernel.transpose(0, 1) @ delta.mT
    return (weights[:, None, None] * seen).transpose(0, 1).reshape(len(kernel), -1)
