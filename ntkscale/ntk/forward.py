"""A model seen as a function of chosen parameters, one row of outputs a sample.

Everything the kernel needs to know about a model is settled here: which module lies under the
wrappers of `torch.compile` and data parallelism, which parameters count, and which part of what
the model returns is differentiated.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module

from ntkscale.ntk.inputs import Batch, arguments, count

Model = nn.Module | tuple[nn.Module, Mapping[str, Tensor]]
"""A module, or a module with the values its parameters and buffers are to take (by name)."""

Choice = Iterable[str] | Callable[[str, nn.Parameter], bool]
"""Names of parameters, or a predicate of name and parameter."""


@dataclass(frozen=True)
class Forward:
    """A model with fixed values, as a function of the chosen parameters and a batch.

    Attributes:
        module: the module under every wrapper.
        chosen: the parameters the kernel is taken over, in named order, detached.
        rest: all other parameters, detached, and copies of all buffers, so that a forward that
            writes into its buffers leaves the model as it was.
        select: picks the output out of what the model returns; None where it returns a tensor.
        unfused: run recurrent layers as the operations they are made of, not as one.
    """

    module: nn.Module
    chosen: dict[str, Tensor]
    rest: dict[str, Tensor]
    select: Callable[[Any], Any] | None
    unfused: bool = False

    def __call__(self, chosen: Mapping[str, Tensor], x: Batch) -> Float[Tensor, "n C"]:
        """Outputs of a batch with values for the chosen parameters: see `run`."""
        with self.holding(chosen):
            return self.run(x)

    @contextmanager
    def holding(self, chosen: Mapping[str, Tensor]) -> Iterator[None]:
        """The module with these values for its chosen parameters, and its own values afterwards.

        A backward pass belongs inside: what is checkpointed runs the module once more.
        """
        with ExitStack() as stack:
            if self.unfused:
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            values = {**self.rest, **chosen}
            stack.enter_context(_reparametrize_module(self.module, values, tie_weights=True))
            yield

    def run(self, x: Batch) -> Float[Tensor, "n C"]:
        """Outputs of a batch, every axis behind the first flattened into one of size C.

        Raises:
            ValueError: the output is not a real floating-point tensor with one row a sample.
        """
        positional, named = arguments(x)
        returned = self.module(*positional, **named)
        y = returned if self.select is None else self.select(returned)
        if not isinstance(y, Tensor):
            raise ValueError(_not_a_tensor(y))
        if y.ndim == 0 or y.shape[0] != count(x):
            raise ValueError(
                f"the model's output has shape {tuple(y.shape)} on {count(x)} samples; its first "
                "axis must be the samples, so pass output=<callable> that arranges it so."
            )
        if not y.is_floating_point():
            raise ValueError(
                f"the model's output is {y.dtype}, which has no real derivative; pass "
                "output=<callable> that returns real floating-point numbers."
            )
        return y.reshape(y.shape[0], -1)

    @property
    def device(self) -> torch.device:
        """Where the chosen parameters are, and therefore where the kernel is computed."""
        return next(iter(self.chosen.values())).device


def _not_a_tensor(y: object) -> str:
    what = type(y).__name__
    if isinstance(y, Mapping):
        return (
            f"the model returns a {what} with the keys {sorted(map(str, y))}; pick one with "
            "output=lambda returned: returned[key]."
        )
    return (
        f"the model returns a {what}, not a tensor; pick the tensor with "
        "output=lambda returned: returned[0], or another entry."
    )


def unwrap(model: nn.Module) -> nn.Module:
    """The module under `torch.compile`, `DataParallel` and `DistributedDataParallel`, in any order.

    The kernel needs per-sample derivatives, which compiled graphs and gradient hooks only hinder.
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        original = getattr(model, "_orig_mod", None)
        if isinstance(original, nn.Module):
            model = original
        elif isinstance(model, parallel):
            model = model.module
        else:
            return model


def as_function(
    model: Model, *, params: Choice | None, select: Callable[[Any], Any] | None, attached: bool
) -> Forward:
    """Settle module, parameters and output.

    Args:
        model: a module, or a module with values by name for its parameters and buffers.
        params: names (frozen parameters too, when named), or a predicate over the trainable ones;
            None is every trainable parameter. A parameter used under several names counts once.
        select: picks the output out of what the model returns.
        attached: keep the parameters in the autograd graph.

    Raises:
        TypeError: `model` is not a module.
        ValueError: an unknown name, or nothing chosen.
    """
    given: Mapping[str, Tensor] = {}
    if isinstance(model, tuple):
        model, given = model
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the model is a {type(model).__name__}, not an nn.Module; wrap it in a module that "
            "holds its parameters."
        )
    module = unwrap(model)
    canonical = {id(p): name for name, p in module.named_parameters()}
    aliases = {
        name: canonical[id(p)] for name, p in module.named_parameters(remove_duplicate=False)
    }
    buffers = dict(module.named_buffers(remove_duplicate=False))
    known = aliases | {name: name for name in buffers}
    values = {_canonical(name, known): value for name, value in given.items()}
    chosen: dict[str, Tensor] = {}
    for name in _choose(module, aliases, params):
        value = values.pop(name, None)
        value = module.get_parameter(name) if value is None else value
        chosen[name] = value if attached else value.detach()
    rest = {name: values.get(name, buffer).detach().clone() for name, buffer in buffers.items()}
    rest |= {name: value.detach() for name, value in values.items() if name not in buffers}
    for name, p in module.named_parameters():
        if name not in chosen and name not in rest:
            rest[name] = p if attached else p.detach()
    return Forward(module, chosen, rest, select)


def _canonical(name: str, known: Mapping[str, str]) -> str:
    """The first name of what goes by `name`; a wrapper's prefix is dropped where it is one."""
    for stripped in (name, name.removeprefix("module."), name.removeprefix("_orig_mod.")):
        if stripped in known:
            return known[stripped]
    close = difflib.get_close_matches(name, list(known), n=3) or list(known)[:3]
    raise ValueError(f"the model has no parameter named {name!r}; did you mean one of {close}?")


def _choose(module: nn.Module, aliases: Mapping[str, str], params: Choice | None) -> list[str]:
    if params is None or callable(params):
        names = [
            name
            for name, p in module.named_parameters()
            if p.requires_grad and (params is None or params(name, p))
        ]
        if not names:
            raise ValueError(
                "no parameter is trainable; name those the kernel is taken over with params=[...]."
                if params is None
                else "the predicate params= accepts no trainable parameter; let it accept some."
            )
        return names
    if isinstance(params, str):
        params = [params]
    wanted = {_canonical(name, aliases) for name in params}
    if not wanted:
        raise ValueError("params= is empty; name at least one parameter, or leave it out for all.")
    return [name for name, _ in module.named_parameters() if name in wanted]
