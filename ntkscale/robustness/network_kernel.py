"""The empirical tangent kernel of a network, with the functions it learns and their gradient in x.

No kernel is needed for f(x) = sum_j K(x, x_j) alpha_j = gamma^2 J(x) J(X)^T alpha: it is J(x) theta
for one vector theta over the parameters. S(x, v) = theta . J(x)^T v is linear in v, so one reverse
pass through its graph gives either f = dS/dv, or with v a cotangent the gradient of v . f in x.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntkscale import ntk
from ntkscale.robustness.expansion import Pull

_AT_ONCE = 250  # samples in one graph


class NetworkKernel:
    """K(x, x') = gamma^2 df(x)/dtheta . df(x')/dtheta of all outputs, at the present weights.

    The network is copied, in evaluation mode; what happens to it later changes nothing. Parameters
    are those that require gradients. gamma is that of the project's networks, 1 for other modules.

    Args:
        model: a module x -> (n, C) or (n,).

    Raises:
        ValueError: nothing to train; at a call, as `ntk.gram`.
    """

    def __init__(self, model: nn.Module) -> None:
        model = ntk.unwrap(model)
        self._model = copy.deepcopy(model).eval()
        for parameter in self._model.parameters():
            parameter.grad = None
        self._names = [n for n, p in self._model.named_parameters() if p.requires_grad]
        if not self._names:
            raise ValueError("the model has no parameter that requires a gradient: unfreeze one.")
        self._square = float(getattr(model, "gamma", 1.0)) ** 2

    def __call__(
        self, x1: Float[Tensor, "n1 ..."], x2: Float[Tensor, "n2 ..."] | None = None
    ) -> Float[Tensor, "n1C n2C"]:
        """The kernel, sample-major, in the model's dtype; with a graph if x1 asks for one."""
        graph = torch.is_grad_enabled() and x1.requires_grad
        full = ntk.gram(self._model, x1, x2, output="full", create_graph=graph)
        return self._square * full.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)

    def expansion(
        self, points: Float[Tensor, "P ..."], alpha: Float[Tensor, "P C"]
    ) -> "NetworkExpansion":
        """f(x) = K(x, X) alpha, by one vector over the parameters."""
        held = self._leaves()
        theta = [torch.zeros_like(p, dtype=torch.float64) for p in held.values()]
        for rows in _pieces(len(points)):
            outputs = self.outputs(points[rows], held)
            pulled = torch.autograd.grad(
                outputs, list(held.values()), alpha[rows].to(outputs), allow_unused=True
            )
            for total, part in zip(theta, pulled, strict=True):
                if part is not None:
                    total += part
        return NetworkExpansion(self, [self._square * t for t in theta])

    def outputs(self, x: Tensor, held: dict[str, Tensor]) -> Float[Tensor, "n C"]:
        """The network's own outputs with those parameters, with their graph."""
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            # Attention as the operations it is made of: fused, it has no second derivative.
            outputs = functional_call(self._model, held, (x,))
            return outputs.reshape(len(x), -1)

    def _leaves(self) -> dict[str, Tensor]:
        own = dict(self._model.named_parameters())
        return {name: own[name].detach().requires_grad_() for name in self._names}


class NetworkExpansion:
    """J(x) theta of a network's outputs.

    Args:
        kernel: of the network.
        theta: one tensor for each of its trained parameters.

    Cost: outputs and gradients take a forward and two reverse passes each, at most 250 samples at
    a time.
    """

    def __init__(self, kernel: NetworkKernel, theta: Sequence[Tensor]) -> None:
        self._kernel = kernel
        self.theta = theta

    def __call__(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        graph = torch.is_grad_enabled() and x.requires_grad
        found = []
        for rows in _pieces(len(x)):
            v, total = self._sum(x[rows] if graph else x[rows].detach(), None)
            (outputs,) = torch.autograd.grad(total, v, create_graph=graph, materialize_grads=True)
            found.append(outputs)
        return torch.cat(found)

    def pullback(self, x: Float[Tensor, "n ..."]) -> tuple[Float[Tensor, "n C"], Pull]:
        """See `Expansion`."""
        x = x.detach()

        def pull(cotangent: Tensor) -> Tensor:
            found = []
            for rows in _pieces(len(x)):
                moved = x[rows].requires_grad_()
                _, total = self._sum(moved, cotangent[rows])
                found += torch.autograd.grad(total, moved, materialize_grads=True)
            return torch.cat(found)

        return self(x), pull

    def jacobian(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C ..."]:
        """See `Expansion`; one gradient an output."""
        outputs, pull = self.pullback(x)
        unit = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        return torch.stack([pull(row.expand_as(outputs)) for row in unit], dim=1)

    def own(self, x: Float[Tensor, "n C ..."]) -> Float[Tensor, "n C"]:
        """See `Expansion`."""
        outputs = [self(x[:, c])[:, c] for c in range(x.shape[1])]
        return torch.stack(outputs, dim=1)

    def _sum(self, x: Tensor, cotangent: Tensor | None) -> tuple[Tensor, Tensor]:
        """v and theta . J(x)^T v, with the graph in both."""
        held = self._kernel._leaves()
        outputs = self._kernel.outputs(x, held)
        v = torch.zeros_like(outputs) if cotangent is None else cotangent.detach().to(outputs)
        v.requires_grad_(cotangent is None)
        with torch.enable_grad():
            pulled = torch.autograd.grad(
                outputs, list(held.values()), v, create_graph=True, materialize_grads=True
            )
            pairs = zip(pulled, self.theta, strict=True)
            return v, torch.stack([(p * t.to(p)).sum() for p, t in pairs]).sum()


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE))
