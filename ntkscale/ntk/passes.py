"""J^T v and J u of one block of samples, by whichever differentiation the model allows.

``J^T v`` is plain reverse mode. ``J u`` is forward mode, several vectors at once where a batching
rule exists. An operation without a forward-mode rule is differentiated in reverse twice: ``J^T w``
is linear in ``w``, so its own reverse pass is ``J u``. Recurrent layers in fused kernels may have
neither, so the last routes take those kernels apart. A route is used only after it has agreed with
reverse mode on two samples.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.inputs import Batch, rows
from ntkscale.ntk.suitability import gradient_of, tolerance, undisturbed

Route = Literal["batched", "forward", "double"]


@dataclass(frozen=True)
class Passes:
    """How one model is differentiated.

    Attributes:
        forward: the model.
        together: whether several vectors are pulled back at once.
        route: how ``J u`` is computed: forward mode for several vectors at once, forward mode for
            one at a time, or reverse mode twice.
        fused: whether fused kernels of recurrent layers and convolutions stay in use.
    """

    forward: Forward
    together: bool
    route: Route
    fused: bool = True

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The modes both passes run in; the caller's come back afterwards."""
        fast = torch.backends.mha.get_fastpath_enabled()
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(undisturbed(self.forward.device))
            # torch itself calls what it deprecates, when forward mode is first used.
            warnings.filterwarnings("ignore", message="`torch.jit.script`")
            if not self.fused:
                warnings.filterwarnings("ignore", message="TF32 acceleration")
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            # Taken where no tensor asks for a gradient, as in forward mode, for which it has no
            # rule.
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
            torch.backends.mha.set_fastpath_enabled(False)
            yield

    def pull_back(
        self, x: Batch, cotangents: Iterable[Float[Tensor, "t s C"]]
    ) -> Iterator[list[Float[Tensor, "t ..."]]]:
        """For each stack of t cotangents their J^T v: t gradients of every chosen parameter.

        One forward pass serves all stacks; each costs t backward passes.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in self.forward.chosen.items()}
        parameters = list(leaves.values())
        with self.forward.holding(leaves):
            y = self.forward.run(x)
            for stack in cotangents:
                yield self._back(y, parameters, stack.to(y.dtype))

    def _back(self, y: Tensor, parameters: list[Tensor], stack: Tensor) -> list[Tensor]:
        if not y.requires_grad:
            return [p.new_zeros(stack.shape[0], *p.shape) for p in parameters]
        if self.together and stack.shape[0] > 1:
            found = torch.autograd.grad(
                y,
                parameters,
                stack,
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
            return [
                p.new_zeros(stack.shape[0], *p.shape) if g is None else g
                for p, g in zip(parameters, found, strict=True)
            ]
        single = [_gradients(y, parameters, v) for v in stack]
        return [torch.stack(parts) for parts in zip(*single, strict=True)]

    def push_forward(
        self, x: Batch, tangents: Iterable[list[Float[Tensor, "t ..."]]]
    ) -> Iterator[Float[Tensor, "t s C"]]:
        """For each stack of t directions in parameter space their J u."""
        if self.route == "double":
            yield from self._twice_back(x, tangents)
            return
        names = list(self.forward.chosen)
        for stack in tangents:
            if self.route == "batched":
                yield torch.func.vmap(lambda u: self._along(x, u))(
                    dict(zip(names, stack, strict=True))
                )
            else:
                single = zip(*stack, strict=True)
                yield torch.stack([self._dual(x, dict(zip(names, u, strict=True))) for u in single])

    def _along(self, x: Batch, u: dict[str, Tensor]) -> Tensor:
        chosen = {name: p.detach() for name, p in self.forward.chosen.items()}
        return torch.func.jvp(lambda p: self.forward(p, x), (chosen,), (u,))[1]

    def _dual(self, x: Batch, u: dict[str, Tensor]) -> Tensor:
        # Plain dual numbers, which also go through functions that torch.func refuses.
        with forward_ad.dual_level():
            chosen = {
                name: forward_ad.make_dual(p.detach(), u[name])
                for name, p in self.forward.chosen.items()
            }
            y, tangent = forward_ad.unpack_dual(self.forward(chosen, x))
            return torch.zeros_like(y) if tangent is None else tangent

    def _twice_back(self, x: Batch, tangents: Iterable[list[Tensor]]) -> Iterator[Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in self.forward.chosen.items()}
        with self.forward.holding(leaves):
            y = self.forward.run(x)
            w = torch.zeros_like(y, requires_grad=True)
            gradients: list[Tensor | None] = [None] * len(leaves)
            if y.requires_grad:
                chosen = list(leaves.values())
                gradients = list(
                    torch.autograd.grad(y, chosen, w, create_graph=True, allow_unused=True)
                )
            heads = {i: g for i, g in enumerate(gradients) if g is not None and g.requires_grad}
            for stack in tangents:
                single = [torch.zeros_like(y)] * stack[0].shape[0]
                for j in range(len(single) if heads else 0):
                    (found,) = torch.autograd.grad(
                        list(heads.values()),
                        w,
                        [stack[i][j] for i in heads],
                        retain_graph=True,
                        allow_unused=True,
                    )
                    single[j] = single[j] if found is None else found
                yield torch.stack(single).detach()


def choose(forward: Forward, x: Batch) -> Passes:
    """The fastest passes that agree with plain reverse mode on the first two samples.

    Costs a few passes of two samples.

    Raises:
        ValueError: no route gives ``J u`` for this model.
    """
    head = rows(x, slice(2))
    with undisturbed(forward.device):
        y = forward(forward.chosen, head).detach()
        v = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        v = v.to(y)
        gradient, _ = gradient_of(forward, head, v)
    direction = _damped(gradient)
    passes = Passes(forward, together=True, route="double")
    if not _pulls_back(passes, head, v, gradient):
        passes = replace(passes, together=False)
    for fused in (True, False):
        for route in ("batched", "forward", "double"):
            candidate = replace(passes, route=route, fused=fused)
            if _pushes_forward(candidate, head, v, gradient, direction):
                return candidate
    raise ValueError(
        "an operation of the model has neither a forward-mode rule nor a second derivative, so "
        "products with its kernel cannot be formed; compute the kernel itself with ntk.gram."
    )


def _pulls_back(passes: Passes, x: Batch, v: Tensor, gradient: list[Tensor]) -> bool:
    try:
        with passes.ready():
            (found,) = passes.pull_back(x, [torch.stack([v, -3 * v])])
    except RuntimeError:
        return False
    gaps = [torch.linalg.vector_norm(f[1] + 3 * g) for f, g in zip(found, gradient, strict=True)]
    gaps += [torch.linalg.vector_norm(f[0] - g) for f, g in zip(found, gradient, strict=True)]
    norms = [torch.linalg.vector_norm(g) for g in gradient]
    gap, norm = (float(torch.stack(s).double().square().sum()) ** 0.5 for s in (gaps, norms))
    return _within(gap, norm, v)


def _pushes_forward(
    passes: Passes, x: Batch, v: Tensor, gradient: list[Tensor], direction: list[Tensor]
) -> bool:
    """Whether v . (J u) = (J^T v) . u, along one direction and three times its opposite."""
    try:
        with passes.ready():
            (found,) = passes.push_forward(x, [[torch.stack([u, -3 * u]) for u in direction]])
    except RuntimeError:
        return False
    expected = sum(_inner(g, u) for g, u in zip(gradient, direction, strict=True))
    first, second = ((found.double() * v.double()).sum((1, 2))).tolist()
    return _within(abs(first - expected) + abs(second + 3 * expected), abs(expected), v)


def _within(gap: float, norm: float, v: Tensor) -> bool:
    # A diverged network is nan on every route; its products say so by themselves.
    return gap != gap or norm != norm or gap <= 4 * tolerance(v.dtype, v.device) * norm


def _damped(gradient: list[Tensor]) -> list[Tensor]:
    """A direction in which all parameters count alike, but those whose gradient is rounding."""
    norms = [float(torch.linalg.vector_norm(g)) for g in gradient]
    least = 1e-3 * max(norms)
    return [
        g / (norm * max(norm, least)) if norm > 0 else g
        for g, norm in zip(gradient, norms, strict=True)
    ]


def _inner(a: Tensor, b: Tensor) -> float:
    a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (a, b))
    return float((a.double() * b.double()).sum())


def _gradients(y: Tensor, parameters: list[Tensor], v: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(y, parameters, v, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
        for p, g in zip(parameters, found, strict=True)
    ]
