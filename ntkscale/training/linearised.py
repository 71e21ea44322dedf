"""A network linearised at its present weights w, as a model that trains like any other.

The parameters are displacements d from w. The output `f(x; w) + J(x; w) d` takes one forward-mode
pass (JVP) at w, its gradient `J^T v` one reverse pass (VJP) at w, and each of the two is the
derivative of the other, so that second derivatives cost no more.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.stateless import _reparametrize_module

from ntkscale.training.distributed import unwrapped
from ntkscale.training.ensemble import Ensemble
from ntkscale.training.precision import wide

Mode = Literal["linear", "centred"]

_PREFIX = "displacement/"
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}


class Linearised(nn.Module):
    """f(x; w) + J(x; w) d, or J(x; w) d alone, with trainable displacements d = 0 at the start.

    J is the Jacobian of the outputs with respect to the parameters that require gradients when this
    is built. The network is copied, so that neither training changes the other. It runs in
    evaluation mode whatever the mode of this module is: batch norm is frozen, dropout off.

    Parameters are ``displacement/<name>``, dots of the name replaced by slashes; those of the copy,
    ``network.<name>``, are frozen. `state_dict` holds both.

    Args:
        model: the network, with or without its wrappers, at the weights to linearise at.
        mode: ``"linear"``: f(x; w) + J d; ``"centred"``: J d.

    Attributes:
        network: the frozen copy.
        mode: as given.

    Raises:
        ValueError: an `Ensemble`, an unknown mode, nothing to train; at the first forward a network
            that returns no tensor, draws random numbers, or has no Jacobian products.

    Cost: a step is one JVP and one VJP, two to three forward and backward passes of the network;
    an evaluation is one JVP. Nothing is kept from the forward to the backward pass but x. Where an
    operation has no forward-mode rule, J d is the derivative of J^T v in v: two reverse passes.
    The first forward tries both on two samples and keeps the first that agrees with J^T.

    Source: Fort et al. 2020 (arXiv 2010.15110), linearised training from a data-dependent NTK
    (figure 8); the centred mode is that of Loo et al. 2022 (arXiv 2210.12030).
    """

    def __init__(self, model: nn.Module, *, mode: Mode = "linear") -> None:
        super().__init__()
        model = unwrapped(model)
        if isinstance(model, Ensemble):
            raise ValueError("an ensemble cannot be linearised: linearise its members one by one.")
        if mode not in ("linear", "centred"):
            raise ValueError(f"unknown mode {mode!r}: choose linear or centred.")
        self._names = tuple(n for n, p in model.named_parameters() if p.requires_grad)
        if not self._names:
            raise ValueError("the model has no parameter that requires a gradient: unfreeze one.")
        self.mode: Mode = mode
        self.network = copy.deepcopy(model).requires_grad_(False).eval()
        for parameter in self.network.parameters():
            parameter.grad = None
        for name in self._names:
            zero = torch.zeros_like(self._weights()[name])
            self.register_parameter(_escaped(name), nn.Parameter(zero))
        self._twice: bool | None = None  # whether J d takes two reverse passes; None: not known

    @property
    def gamma(self) -> Float[Tensor, ""]:
        """Gamma of the network; 1 if it has none."""
        return torch.as_tensor(getattr(self.network, "gamma", 1.0))

    @property
    def displacements(self) -> dict[str, Tensor]:
        """d by the names of the network's parameters."""
        held = dict(self.named_parameters(recurse=False))
        return {name: held[_escaped(name)] for name in self._names}

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n C"]:
        """Output at the present displacements; differentiable in them, and in x if asked for."""
        if self._twice is None:
            self._twice = self._needs_two_passes(x[:2])
        return _Output.apply(self, x, *self.displacements.values())

    def pullback(
        self, x: Float[Tensor, "n ..."]
    ) -> tuple[Float[Tensor, "n C"], Callable[[Tensor], Tensor]]:
        """Outputs, and the map from cotangents (n, C) of them to gradients (n, ...) in x.

        The same numbers as autograd through `forward` gives, in two thirds of the time: attacks
        need one gradient in x a step, and none in the displacements.
        """
        if self._twice is None:
            self._twice = self._needs_two_passes(x[:2].detach())
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            output = self._output(leaf, [d.detach() for d in self.displacements.values()])

        def pull(cotangent: Tensor) -> Tensor:
            if not output.requires_grad:
                return torch.zeros_like(leaf)
            (gradient,) = torch.autograd.grad(
                output, leaf, cotangent, retain_graph=True, allow_unused=True
            )
            return torch.zeros_like(leaf) if gradient is None else gradient

        return output.detach(), pull

    def train(self, mode: bool = True) -> "Linearised":
        """Set the mode of this module; the network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def _output(self, x: Tensor, d: Sequence[Tensor]) -> Tensor:
        value, tangent = self._push_forward(x, d)
        return value + tangent if self.mode == "linear" else tangent

    def _push_forward(self, x: Tensor, d: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """f(x; w) and J d."""
        return self._twice_back(x, d) if self._twice else self._forward_mode(x, d)

    def _forward_mode(self, x: Tensor, d: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        # Plain dual numbers, which also go through functions that torch.func refuses. A custom
        # function switches them off, and they are used in one.
        with forward_ad._set_fwd_grad_enabled(True), forward_ad.dual_level(), self._plain():
            weights = self._weights()
            pairs = zip(weights, weights.values(), d, strict=True)
            at = {name: forward_ad.make_dual(w, u) for name, w, u in pairs}
            with _reparametrize_module(self.network, at, tie_weights=True):
                value, tangent = forward_ad.unpack_dual(self.network(x))
            return value, torch.zeros_like(value) if tangent is None else tangent

    def _twice_back(self, x: Tensor, d: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        keep = torch.is_grad_enabled()
        leaves = self._leaves()
        with (
            torch.enable_grad(),
            self._plain(),
            _reparametrize_module(self.network, leaves, tie_weights=True),
        ):
            value = self.network(x)
            v = torch.zeros_like(value, requires_grad=True)
            pulled = torch.autograd.grad(
                value, list(leaves.values()), v, create_graph=True, allow_unused=True
            )
            pairs = [
                (g, u) for g, u in zip(pulled, d, strict=True) if g is not None and g.requires_grad
            ]
            if not pairs:
                return value if keep else value.detach(), torch.zeros_like(value)
            heads, along = zip(*pairs, strict=True)
            (tangent,) = torch.autograd.grad(heads, v, along, create_graph=keep)
        return (value, tangent) if keep else (value.detach(), tangent.detach())

    def _pull_back(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """J^T v, one tensor for each displacement."""
        leaves = self._leaves()
        chosen = tuple(leaves.values())
        # The backward pass belongs inside: what is checkpointed runs the network once more.
        with (
            torch.enable_grad(),
            self._plain(),
            _reparametrize_module(self.network, leaves, tie_weights=True),
        ):
            value = self.network(x.detach())
            if not value.requires_grad:
                return tuple(torch.zeros_like(w) for w in chosen)
            found = torch.autograd.grad(value, chosen, v, allow_unused=True)
        return tuple(
            torch.zeros_like(w) if g is None else g.to_dense() if g.is_sparse else g
            for w, g in zip(chosen, found, strict=True)
        )

    @staticmethod
    def _plain() -> AbstractContextManager[object]:
        """Attention as the operations it is made of: fused, it has no second derivative."""
        return sdpa_kernel(SDPBackend.MATH)

    def _weights(self) -> dict[str, Tensor]:
        held = dict(self.network.named_parameters())
        return {name: held[name].detach() for name in self._names}

    def _leaves(self) -> dict[str, Tensor]:
        return {name: w.requires_grad_() for name, w in self._weights().items()}

    @torch.no_grad()
    def _needs_two_passes(self, x: Tensor) -> bool:
        """Which way to J d satisfies v . (J u) = (J^T v) . u.

        Raises:
            ValueError: neither, or the network returns no tensor.
        """
        value = self.network(x)
        if not isinstance(value, Tensor):
            raise ValueError(
                f"the network returns a {type(value).__name__}, not a tensor: wrap it in a module "
                "that returns the outputs alone."
            )
        random = torch.Generator().manual_seed(0)
        v = torch.randn(value.shape, generator=random, dtype=torch.float64).to(value)
        gradient = self._pull_back(x, v)
        # All parameters count alike, but those whose gradient is rounding.
        norms = [float(torch.linalg.vector_norm(g)) for g in gradient]
        least = 1e-3 * max(norms) or 1.0
        u = [g / max(norm, least) for g, norm in zip(gradient, norms, strict=True)]
        expected = sum(float((wide(a) * wide(b)).sum()) for a, b in zip(gradient, u, strict=True))
        for twice, route in ((False, self._forward_mode), (True, self._twice_back)):
            try:
                with warnings.catch_warnings():
                    # torch itself calls what it deprecates, when forward mode is first used.
                    warnings.filterwarnings("ignore", message="`torch.jit.script`")
                    _, tangent = route(x, u)
            except RuntimeError:
                continue
            gap = abs(float((wide(tangent) * wide(v)).sum()) - expected)
            # A network of nan is nan on either way; its loss says so by itself.
            if not gap > _TOLERANCE.get(v.dtype, 0.5) * expected:
                return twice
        raise ValueError(
            "the network cannot be linearised, because it draws random numbers in evaluation mode "
            "or an operation has neither a forward-mode rule nor a second derivative: make it "
            "deterministic, or replace that operation."
        )


class _Output(torch.autograd.Function):
    """(x, d) -> output; its derivative in d is J, taken at w and not through the tangent."""

    @staticmethod
    def forward(ctx: Any, model: Linearised, x: Tensor, *d: Tensor) -> Tensor:
        ctx.model = model
        ctx.save_for_backward(x, *d)
        return model._output(x, d)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *d = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return None, None, *_PullBack.apply(ctx.model, x, *grads)
        # x moves J: once more, with the graph of the tangent.
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            output = ctx.model._output(x, d)
            wanted = [t for t in (x, *d) if t.requires_grad]
            found = iter(
                torch.autograd.grad(output, wanted, grads, create_graph=keep, allow_unused=True)
            )
        return None, *(next(found) if t.requires_grad else None for t in (x, *d))


class _PullBack(torch.autograd.Function):
    """(x, v) -> J^T v, linear in v."""

    @staticmethod
    def forward(ctx: Any, model: Linearised, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        ctx.model = model
        ctx.save_for_backward(x)
        return model._pull_back(x, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, _PushForward.apply(ctx.model, *ctx.saved_tensors, *grads)


class _PushForward(torch.autograd.Function):
    """(x, u) -> J u."""

    @staticmethod
    def forward(ctx: Any, model: Linearised, x: Tensor, *u: Tensor) -> Tensor:
        ctx.model = model
        ctx.save_for_backward(x)
        return model._push_forward(x, u)[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *_PullBack.apply(ctx.model, *ctx.saved_tensors, *grads)


def _escaped(name: str) -> str:
    return _PREFIX + name.replace(".", "/")
