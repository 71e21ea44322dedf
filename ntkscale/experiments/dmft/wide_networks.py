"""Networks of finite width, trained and recorded in the form of the theory of infinite width.

A trained network is a `theory.dmft.Solution` like any other: outputs and kernels

    Phi^l = c^2 phi(h^l) . phi(h^l) / N,    G^l = g^l . g^l / N,    g^l = gamma0 N df / dh^l

over pairs of points and times (arXiv 2205.09653, eqs 2 and 4). So whatever compares, draws or saves
solutions does so with networks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.networks import MLP
from ntkscale.theory.dmft import Fields, Problem, Solution, pose
from ntkscale.theory.dmft.problem import Array, Loss

SINGLE = 0.05
"""Least gamma0 for float32.

From there on kernels are within 4e-7 of float64's and outputs within 1e-6, relative (36 networks of
1 to 4 layers and 600 neurons, 30 steps; 1e-5 in one deep and rich one). Below, outputs are off by
up to 5e-8 / gamma0. Theory differs from networks by percents.
"""
_BYTES = 2**26
"""Weights of the networks that are trained as one batch."""


@dataclass(frozen=True)
class Descent:
    """What networks learn and how; the arguments of the solvers, which it is made from.

    Attributes:
        x: (P, D) training inputs.
        y: (P,) or (P, C) targets.
        depth: L, hidden layers.
        activation: a name.
        gamma0: feature learning, above 0.
        learning_rate: eta, flow time of a step without momentum.
        momentum: mu of the heavy ball.
        loss: ``"mse"`` or ``"cross-entropy"``.
        x_test, y_test: further inputs, and their targets if known.
        normalised: phi is scaled to c^2 E phi^2 = 1, see `networks.MLP`. Theory has to be solved
            with the same c phi.
        dtype: of the weights; float32 is precise enough from gamma0 = `SINGLE` on.
    """

    x: Array
    y: Array
    depth: int
    activation: str
    gamma0: float
    learning_rate: float
    momentum: float = 0.0
    loss: Loss = "mse"
    x_test: Array | None = None
    y_test: Array | None = None
    normalised: bool = False
    dtype: torch.dtype = torch.float64

    def problem(self, steps: int) -> Problem:
        """The checked arguments, as solvers take them."""
        return pose(
            self.x,
            self.y,
            depth=self.depth,
            gamma0=self.gamma0,
            learning_rate=self.learning_rate,
            steps=steps,
            x_test=self.x_test,
            y_test=self.y_test,
            momentum=self.momentum,
            loss=self.loss,
        )


def train_networks(
    descent: Descent,
    *,
    width: int,
    seeds: Sequence[int],
    looks: Sequence[int],
    fields: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[Solution]:
    """Train networks without biases by full-batch gradient descent, one for every seed.

    Several small ones are trained as one batch.

    Args:
        descent: what they learn and how.
        width: N.
        seeds: of the initial weights.
        looks: steps at which outputs and kernels are recorded, rising, the first 0 or more.
        fields: of how many networks, the first ones, h and z of all neurons are kept too.
        progress: called with steps done and their number, over all seeds.

    Yields:
        One solution a seed, in order, on the times of `looks`.

    Raises:
        ValueError: see `dmft.pose`; gamma0 = 0, as no network of finite width has; looks that do
            not rise.

    Cost: some 8 passes over the weights a step, and T All C N numbers a layer.
    """
    looks = [int(look) for look in looks]
    if not looks or looks[0] < 0 or any(b <= a for a, b in pairwise(looks)):
        raise ValueError(f"looks must be steps in rising order, got {looks}.")
    if descent.gamma0 == 0:
        raise ValueError("gamma0 = 0 is the limit of no network; give a small one, such as 0.01.")
    problem = descent.problem(max(looks[-1], 1))
    nbytes = max(1, descent.depth * width**2 * torch.finfo(descent.dtype).bits // 8)
    batch = max(1, _BYTES // nbytes)
    total = len(seeds) * (looks[-1] + 1)
    for first in range(0, len(seeds), batch):
        own = seeds[first : first + batch]
        done = first * (looks[-1] + 1)
        kept = min(max(fields - first, 0), len(own))
        networks = _Batch(descent, problem, width, own, kept)
        for step in range(looks[-1] + 1):
            networks.step(record=step in looks, last=step == looks[-1])
            if progress is not None:
                progress(done + len(own) * (step + 1), total)
        times = problem.times[looks].cpu()
        for index in range(len(own)):
            yield networks.solution(index, times)


def average(networks: Sequence[Solution]) -> Solution:
    """The mean of losses, outputs and kernels over networks, each averaged by itself."""
    first, count = networks[0], len(networks)

    def mean(name: str, layer: int | None = None) -> Tensor:
        parts = [getattr(one, name) for one in networks]
        parts = parts if layer is None else [part[layer] for part in parts]
        return torch.stack(parts).sum(0) / count

    return replace(
        first,
        loss=mean("loss"),
        mse=mean("mse"),
        test_mse=None if first.test_mse is None else mean("test_mse"),
        outputs=mean("outputs"),
        phi=tuple(mean("phi", layer) for layer in range(first.depth)),
        g=tuple(mean("g", layer) for layer in range(first.depth)),
        ntk=mean("ntk"),
        fields=None,
    )


class _Batch:
    """Networks of one width, side by side, with what was recorded of them."""

    def __init__(
        self,
        descent: Descent,
        problem: Problem,
        width: int,
        seeds: Sequence[int],
        fields: int,
    ) -> None:
        self.descent, self.problem, self.width = descent, problem, width
        parts = [torch.as_tensor(descent.x)]
        parts += [] if descent.x_test is None else [torch.as_tensor(descent.x_test)]
        self.inputs = torch.cat([part.to(torch.float64) for part in parts]).to(descent.dtype)
        device = self.inputs.device

        def network(seed: int) -> MLP:
            return MLP(
                self.inputs.shape[1],
                problem.num_outputs,
                width=width,
                depth=descent.depth,
                activation=descent.activation,
                gamma0=descent.gamma0,
                normalised=descent.normalised,
                centered=False,  # subtracted here, from the one pass that there is
                seed=seed,
                dtype=descent.dtype,
            )

        self.network = network(seeds[0])
        drawn = [dict(network(seed).named_parameters()) for seed in seeds]
        self.weights = {
            name: torch.stack([one[name].detach() for one in drawn]).to(device).requires_grad_()
            for name in drawn[0]
        }
        self.velocity: list[Tensor] | None = None
        self.start: Tensor | None = None
        self.scale = self.network.activation.scale if descent.normalised else 1.0
        self.fields = fields
        self.outputs: list[Tensor] = []
        self.phi: list[list[Tensor]] = []
        self.g: list[list[Tensor]] = []
        self.h: list[list[Tensor]] = []
        self.z: list[list[Tensor]] = []

    def step(self, *, record: bool, last: bool) -> None:
        """Look at the networks if asked to, and move them unless it is the last time."""
        hidden, readout = torch.vmap(lambda own: self.network.features(self.inputs, own))(
            self.weights
        )
        self.start = readout.detach() if self.start is None else self.start
        outputs = (readout - self.start) / (self.descent.gamma0 * self.width)
        if record:
            self.outputs.append(outputs.detach().double())
            self._record(list(hidden.values()), readout)
        if last:
            return
        targets = self.problem.targets.to(outputs)
        train = outputs[:, : len(targets)]
        if self.descent.loss == "mse":
            losses = (targets - train).square().sum(-1).mean(-1) / 2
        else:
            losses = -(targets * train.log_softmax(-1)).sum(-1).mean(-1)
        slopes = torch.autograd.grad(losses.sum(), list(self.weights.values()))
        # gamma^2 = gamma0^2 N
        rate = self.descent.learning_rate * self.descent.gamma0**2 * self.width
        if self.descent.momentum:
            old = [torch.zeros_like(s) for s in slopes] if self.velocity is None else self.velocity
            slopes = [s + self.descent.momentum * v for s, v in zip(slopes, old, strict=True)]
            self.velocity = slopes
        with torch.no_grad():
            for weight, slope in zip(self.weights.values(), slopes, strict=True):
                weight.sub_(slope, alpha=rate)

    def _record(self, hidden: list[Tensor], sums: Float[Tensor, "E n C"]) -> None:
        each = [
            torch.autograd.grad(sums[..., c].sum(), hidden, retain_graph=True)
            for c in range(sums.shape[-1])
        ]
        g = [torch.stack(layer, dim=2) for layer in zip(*each, strict=True)]  # (E, n, C, N)
        self.g.append(g)
        self.phi.append([self.scale * self.network.activation(h.detach()) for h in hidden])
        if not self.fields:
            return
        few = slice(self.fields)
        self.h.append([h.detach()[few].clone() for h in hidden])
        z = []
        for layer in range(1, len(hidden)):
            weight = self.weights[f"hidden{layer + 1}"].detach()[few]
            z.append(torch.einsum("encN,eNM->encM", g[layer][few], weight) / self.width**0.5)
        readout = self.weights["readout"].detach()[few].clone()  # it goes on moving
        z.append(readout[:, None].expand(-1, len(self.inputs), -1, -1))
        self.z.append(z)

    def solution(self, index: int, times: Float[Tensor, "T"]) -> Solution:
        """What was recorded of one network."""
        problem, depth = self.problem, self.descent.depth
        looks, points, outputs = len(self.outputs), len(self.inputs), problem.num_outputs
        one = problem.one_output

        def gram(history: list[list[Tensor]], layer: int, rows: int) -> Tensor:
            part = torch.stack([look[layer][index] for look in history]).reshape(rows, -1)
            return (part @ part.T).double() / self.width

        phi = [
            gram(self.phi, layer, looks * points).view(looks, points, looks, points)
            for layer in range(depth)
        ]
        shape = (looks, points, outputs) * 2
        g = [gram(self.g, layer, looks * points * outputs).view(shape) for layer in range(depth)]
        ntk = self._tangent_kernel(phi, g)
        fields = None
        if index < self.fields:
            # Points before neurons, outputs between them where there are several.
            z = [torch.stack([look[layer][index] for look in self.z]) for layer in range(depth)]
            fields = Fields(
                tuple(
                    torch.stack([look[layer][index] for look in self.h]).double()
                    for layer in range(depth)
                ),
                tuple((layer[:, :, 0] if one else layer).double() for layer in z),
            )
        return Solution(
            times=times,
            num_train=problem.num_train,
            phi=tuple(phi),
            g=tuple(kernel[:, :, 0, :, :, 0] if one else kernel for kernel in g),
            ntk=ntk[..., 0, 0] if one else ntk,
            forward_responses=(),
            backward_responses=(),
            gamma0=self.descent.gamma0,
            fields=fields,
            **problem.curves(torch.stack([look[index] for look in self.outputs])),
        )

    def _tangent_kernel(self, phi: list[Tensor], g: list[Tensor]) -> Float[Tensor, "T P P C C"]:
        """sum_l G^(l+1) Phi^l, which holds at any width: gradients are outer products."""
        p, outputs = self.problem.num_train, self.problem.num_outputs
        look = torch.arange(len(phi[0]))
        low = [self.problem.kernel[:p, :p].expand(len(look), p, p)]
        low += [kernel[:, :p, :, :p][look, :, look] for kernel in phi]
        high = [kernel[:, :p, :, :, :p][look, :, :, look] for kernel in g]
        eye = torch.eye(outputs, dtype=torch.float64, device=phi[0].device)
        high.append(eye[None, None, :, None].expand(len(look), p, outputs, p, outputs))
        both = [a[:, :, None, :, None] * b for a, b in zip(low, high, strict=True)]
        return torch.stack(both).sum(0).transpose(2, 3)
