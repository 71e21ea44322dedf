"""Is a kernel defined for this model, and is the fast route right for it?

A kernel entry belongs to two samples alone. A forward that mixes the samples of a batch, or draws
random numbers, has no such kernel, and is refused. Gradients are compared, not outputs: the outputs
of a centred network are all rounding at first.
"""

import contextlib
import math
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ntkscale.ntk.forward import Forward
from ntkscale.ntk.inputs import Batch, count, rows
from ntkscale.ntk.precision import full_precision

PROBED = 4
"""Samples in the batch that is compared with its first two."""

_CURE = "; call model.eval() first"


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """Relative difference of two gradients put down to rounding.

    Mixing through batch norm or dropout shows as 0.5 and more; convolutions in TF32, which CUDA
    uses unless told otherwise, differ by 1e-3 between batch sizes.
    """
    if dtype == torch.float64:
        return 1e-7
    if dtype == torch.float32:
        return 1e-2 if device.type == "cuda" else 2e-3
    return 0.2


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Ordinary eager autograd in full precision, whatever the caller's modes are, and random states
    as they were."""
    with contextlib.ExitStack() as stack:
        devices = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(full_precision())
        # The fused attention kernels have no batching rule and no second derivative.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="There is a performance drop")
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        if "torch._dynamo" in sys.modules:
            # Compiled parts inside the model run as they were written.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def look(forward: Forward, x: Batch) -> int:
    """Number of outputs C, from two samples; refuse what is seen at once to have no kernel.

    What else may be wrong shows when the kernel of two samples is held against each by itself.

    Raises:
        ValueError: dropout is on, the forward draws random numbers, or batch norm mixes samples.
    """
    if any(_couples(module) for module in forward.module.modules()):
        return probe(forward, x)[0]
    return _outputs(forward, x).shape[1]


def probe(forward: Forward, x: Batch) -> tuple[int, int]:
    """Refuse a forward for which no kernel is defined; otherwise learn what the work needs.

    Costs two forward and backward passes of at most four samples.

    Returns:
        The number of outputs C, and the bytes autograd keeps for one sample.

    Raises:
        ValueError: the forward draws random numbers, answers differently twice, or mixes samples.
    """
    head = rows(x, slice(2))
    small = _outputs(forward, x)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(small.shape, generator=generator, dtype=torch.float64).to(small)
    alone, kept = gradient_of(forward, head, v)
    again = forward(forward.chosen, head)
    if not _agree(list(again), list(small), small.dtype, forward.device):
        raise ValueError(f"the model answers the same input differently a second time{_CURE}.")
    if count(x) > 2:
        together, _ = gradient_of(forward, rows(x, slice(PROBED)), v)
        agrees = _agree(together, alone, small.dtype, forward.device)
        if not agrees and not _agrees_as_a_whole(forward, x, v):
            raise ValueError(_mixes(forward.module))
    return small.shape[1], kept // count(head)


def _outputs(forward: Forward, x: Batch) -> Tensor:
    """Outputs of two samples.

    Raises:
        ValueError: dropout is on, or the forward draws random numbers.
    """
    for name, module in forward.module.named_modules():
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise ValueError(
                f"dropout {name!r} is in training mode, so the kernel is random{_CURE}."
            )
    before = _random_states(forward.device)
    y = forward(forward.chosen, rows(x, slice(2)))
    if _random_states(forward.device) != before:
        raise ValueError(
            f"the model draws random numbers in its forward{_CURE}, or remove the noise."
        )
    return y


def _couples(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)


def _agrees_as_a_whole(forward: Forward, x: Batch, v: Tensor) -> bool:
    """Whether the gradients over all parameters agree: those of a few may be all rounding."""
    others = {
        name: forward.rest[name]
        for name, _ in forward.module.named_parameters()
        if name in forward.rest and forward.rest[name].is_floating_point()
    }
    if not others:
        return False
    whole = replace(forward, chosen=forward.chosen | others)
    alone, _ = gradient_of(whole, rows(x, slice(2)), v)
    together, _ = gradient_of(whole, rows(x, slice(PROBED)), v)
    return _agree(together, alone, v.dtype, forward.device)


def pulls_back_alike(
    rows: list[Tensor], v: Tensor, gradient: list[Tensor], device: torch.device
) -> bool:
    """Whether rows (m, C, width), contracted with the cotangents, give autograd's gradient."""
    flat = torch.cat([torch.einsum("ncw,nc->w", block.detach(), v.to(block)) for block in rows])
    real = [torch.view_as_real(g) if g.is_complex() else g for g in gradient]
    expected = [g.detach().reshape(-1).to(flat) for g in real]
    found = list(flat.split([g.numel() for g in expected]))
    # A mistake in a small parameter must not hide behind large ones; what cancels is rounding.
    norms = [float(torch.linalg.vector_norm(g)) for g in expected]
    gaps = [float(torch.linalg.vector_norm(f - g)) for f, g in zip(found, expected, strict=True)]
    total = math.hypot(*norms)
    if not math.isfinite(total):
        return True  # A diverged network is nan on every route; its kernel says so by itself.
    relative, rounding = tolerance(v.dtype, device), 100 * torch.finfo(flat.dtype).eps * total
    return all(gap <= max(relative * norm, rounding) for gap, norm in zip(gaps, norms, strict=True))


def gradient_of(forward: Forward, x: Batch, v: Tensor) -> tuple[list[Tensor], int]:
    """Gradient of sum v_ic f_c(x_i) over the first samples, and the bytes autograd kept for it."""
    leaves = {name: p.detach().requires_grad_() for name, p in forward.chosen.items()}
    with forward.holding(leaves):
        with counting_kept(forward) as kept:
            y = forward.run(x)[: v.shape[0]]
        if not y.requires_grad:
            return [torch.zeros_like(p) for p in leaves.values()], kept[0]
        gradients = torch.autograd.grad((y * v).sum(), list(leaves.values()), allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g
        for p, g in zip(leaves.values(), gradients, strict=True)
    ], kept[0]


@contextlib.contextmanager
def counting_kept(forward: Forward) -> Iterator[list[int]]:
    """Counts the bytes autograd keeps for a backward pass, beside parameters and buffers."""
    held = (*forward.chosen.values(), *forward.rest.values())
    seen = {p.untyped_storage().data_ptr() for p in held if p.device.type != "meta"}
    kept = [0]

    def pack(saved: Tensor) -> Tensor:
        plain = not saved.is_sparse and saved.device.type != "meta"
        pointer = saved.untyped_storage().data_ptr() if plain else 0
        if pointer not in seen:
            if pointer:
                seen.add(pointer)
            kept[0] += saved.numel() * saved.element_size()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        yield kept


def _agree(a: list[Tensor], b: list[Tensor], dtype: torch.dtype, device: torch.device) -> bool:
    norms = torch.stack([torch.linalg.vector_norm(t.detach()) for t in b])
    gaps = torch.stack(
        [torch.linalg.vector_norm((s - t).detach()) for s, t in zip(a, b, strict=True)]
    )
    gap, norm = float(torch.linalg.vector_norm(gaps)), float(torch.linalg.vector_norm(norms))
    if gap != gap or norm != norm:
        return True  # A diverged network is nan on every route; its kernel says so by itself.
    return gap <= tolerance(dtype, device) * norm


def _mixes(module: nn.Module) -> str:
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and _couples(part):
            cure = _CURE if part.running_mean is not None else "; give it running statistics"
            return (
                f"batch norm {name!r} mixes the samples of a batch, so no kernel is defined{cure}."
            )
    return (
        "the model's answer for a sample depends on the other samples of the batch, so no kernel "
        "is defined; call model.eval(), or take out what mixes them."
    )


def _random_states(device: torch.device) -> tuple[object, ...]:
    states: tuple[object, ...] = (random.getstate(), torch.get_rng_state().numpy().tobytes())
    if device.type == "cuda":
        states += (torch.cuda.get_rng_state(device).numpy().tobytes(),)
    return states
