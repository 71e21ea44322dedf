"""One update of the parameters from their gradients, in flow-time units.

`theta -= eta gamma^2 grad L` in its plain form for gradient flow and SGD; momentum and Adam are
torch's, fed with `gamma^2 grad L`. Weight decay comes first and apart from the gradient,
`theta -= eta weight_decay theta`, so that it does not depend on gamma either.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ntkscale.training.optimisation import Optimisation
from ntkscale.training.precision import wide


class Update:
    """Applies gradients to parameters in place.

    For an ensemble gamma is (E,) and every parameter (E, ...): each member is scaled by its own
    gamma^2, and members that diverged are kept where they are.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        gamma: Float[Tensor, ""] | Float[Tensor, "E"],
        optimisation: Optimisation,
    ) -> None:
        self._parameters = dict(parameters)
        self._decay = optimisation.weight_decay
        self._gamma2 = wide(gamma.detach()).square()
        self._members = gamma.ndim == 1
        self._frozen: Tensor | None = None
        self._scalar = 1.0 if self._members else float(self._gamma2)
        values = list(self._parameters.values())
        self._torch: torch.optim.Optimizer | None = None
        if optimisation.method == "momentum":
            self._torch = torch.optim.SGD(values, lr=1.0, momentum=optimisation.momentum)
        elif optimisation.method == "adam":
            self._torch = torch.optim.Adam(values, lr=1.0)

    @torch.no_grad()
    def apply(self, learning_rate: float) -> None:
        """One step with the gradients in `.grad`, which it uses up."""
        for value in self._parameters.values():
            if value.grad is not None:
                self._update(value, value.grad, learning_rate)
        if self._torch is not None:
            for group in self._torch.param_groups:
                group["lr"] = learning_rate
            self._torch.step()
        for value in self._parameters.values():
            value.grad = None

    def freeze(self, members: Bool[Tensor, "E"]) -> None:
        """Stop these members: no gradient, no decay, no momentum left."""
        self._frozen = members.to(self._gamma2.device)
        if self._torch is not None:
            for state in self._torch.state.values():
                for key, value in state.items():
                    if value.ndim > 0:
                        state[key] = value.masked_fill(_rows(self._frozen, value), 0)

    def state(self) -> dict[str, Tensor]:
        """Momentum and moments as ``<parameter>.<what>``; live tensors, not copies."""
        if self._torch is None:
            return {}
        return {
            f"{name}.{key}": tensor
            for name, parameter in self._parameters.items()
            for key, tensor in self._torch.state.get(parameter, {}).items()
            if isinstance(tensor, Tensor)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over copies of what `state` returned."""
        if self._torch is None:
            return
        self._torch.state.clear()
        for name, parameter in self._parameters.items():
            for key, tensor in state.items():
                if key.rpartition(".")[0] == name:
                    # Adam counts its steps on the CPU, wherever the parameters are.
                    device = "cpu" if key.endswith(".step") else parameter.device
                    copied = tensor.detach().to(device, copy=True)
                    self._torch.state[parameter][key.rpartition(".")[2]] = copied

    def _update(self, value: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Decay, then step; with momentum or Adam the gradient is only scaled for them."""
        if self._decay:
            kept = 1 - learning_rate * self._decay
            if self._frozen is None:
                value.mul_(kept)
            else:
                factors = torch.full_like(self._gamma2, kept, dtype=value.dtype)
                value.mul_(_rows(factors.masked_fill(self._frozen, 1.0), value))
        if self._members:
            if self._frozen is not None:
                gradient.masked_fill_(_rows(self._frozen, gradient), 0)
            gradient.mul_(_rows(self._gamma2.to(gradient.dtype), gradient))
        elif self._torch is not None:
            gradient.mul_(self._scalar)
        if self._torch is None:
            value.add_(gradient, alpha=-learning_rate * self._scalar)


def _rows(values: Float[Tensor, "E"] | Bool[Tensor, "E"], like: Tensor) -> Tensor:
    """One value per member, shaped to act on a stacked tensor (E, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
