"""Several networks of one shape trained in one process as one batched model."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from ntkscale.training.precision import wide

_PREFIX = "stacked/"


class Ensemble(nn.Module):
    """E networks with equal shapes and their own parameters and buffers, evaluated together.

    Parameters and buffers of the members are stacked along a new first axis and become those of the
    ensemble. The networks given stay alive as *views*: their parameters are rows of the stack, so
    training the ensemble trains them in place, and anything that works on a network works on
    `member(i)`. Members may differ in seed and in gamma0 (a buffer), not in shape or options.

    Attributes:
        members: E.

    Raises:
        ValueError: no network, or networks that differ in kind or shape.
    """

    _gamma: Tensor

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        models = tuple(models)
        _check_alike(models)
        parameters, buffers = stack_module_state(list(models))
        for name, value in parameters.items():
            wanted = models[0].get_parameter(name).requires_grad
            stacked = nn.Parameter(value.detach(), requires_grad=wanted)
            self.register_parameter(_stacked(name), stacked)
        for name, value in buffers.items():
            self.register_buffer(_stacked(name), value)
        gammas = [torch.as_tensor(getattr(model, "gamma", 1.0)) for model in models]
        self.register_buffer("_gamma", torch.stack([wide(gamma.detach()) for gamma in gammas]))
        self.members = len(models)
        self._names = (*parameters, *buffers)
        self._models = models  # a tuple, so that the members' tensors are not registered twice
        self._share_storage()

    @property
    def gamma(self) -> Float[Tensor, "E"]:
        """Gamma of every member; 1 for networks without one."""
        return self._gamma

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "E n C"]:
        """Outputs of every member on the same inputs."""
        stacks = self._parameters | self._buffers
        named = {name: stacks[_stacked(name)] for name in self._names}
        tensors = {name: value for name, value in named.items() if value is not None}
        template = self._models[0]

        def one(tensors: dict[str, Tensor]) -> Tensor:
            return functional_call(template, tensors, (x,))

        return torch.vmap(one)(tensors)

    def member(self, index: int) -> tuple[nn.Module, dict[str, Tensor]]:
        """One member as an ordinary network, with its parameters by name.

        Both are views of the stack and follow training; moving the ensemble to another device or
        dtype moves them along (the mapping has to be asked for again).
        """
        model = self._models[index]
        return model, {name: value.detach() for name, value in model.named_parameters()}

    def train(self, mode: bool = True) -> "Ensemble":
        """Set training or evaluation mode, of the members too."""
        for model in self._models:
            model.train(mode)
        return super().train(mode)

    def stack(self, name: str) -> Float[Tensor, "E ..."]:
        """All members' values of the parameter or buffer that a member calls `name`; a view.

        Raises:
            KeyError: the members have none of that name.
        """
        value = self._parameters.get(_stacked(name))
        value = self._buffers.get(_stacked(name)) if value is None else value
        if value is None:
            raise KeyError(f"the members have no parameter or buffer {name!r}.")
        return value.detach()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Ensemble":
        super()._apply(fn, recurse)
        self._share_storage()
        return self

    def _share_storage(self) -> None:
        for index, model in enumerate(self._models):
            named = (*model.named_parameters(), *model.named_buffers())
            for name, tensor in named:
                tensor.data = self.stack(name)[index]


def _stacked(name: str) -> str:
    """Name in the ensemble: dots are not allowed, and `gamma` or `members` must stay free."""
    return _PREFIX + name.replace(".", "/")


def _check_alike(models: tuple[nn.Module, ...]) -> None:
    if not models:
        raise ValueError("an ensemble needs at least one network.")
    kinds = {type(model) for model in models}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"an ensemble needs networks of one kind, got {names}.")
    shapes = [{name: tuple(v.shape) for name, v in m.state_dict().items()} for m in models]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"network {index} of the ensemble has other shapes than network 0: train networks "
                "of another shape in an ensemble of their own."
            )
