"""The empirical neural tangent kernel, J J^T, of any module on one or two sets of inputs."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk import tiles
from ntkscale.ntk.accumulate import Kind
from ntkscale.ntk.by_products import kernel_by_products
from ntkscale.ntk.differentiable import differentiable_kernel
from ntkscale.ntk.engine import Engine, Method, Progress
from ntkscale.ntk.forward import Choice, Model, as_function
from ntkscale.ntk.inputs import Batch, count, each, prepared, same_form, tensors
from ntkscale.ntk.jacobian import Columns, choose_route
from ntkscale.ntk.memory import default_budget, filled
from ntkscale.ntk.suitability import look, probe, undisturbed

METHODS = ("auto", "structured", "jacobian", "products")

BLOCK = 4_096
"""Rows and columns of a block on disk: 64 MiB of float32 for one output."""

Output = Literal["trace", "diagonal", "full"] | int | Callable[[Any], Tensor]


def gram(
    model: Model,
    x1: Batch,
    x2: Batch | None = None,
    *,
    output: Output = "trace",
    params: Choice | None = None,
    method: Method = "auto",
    create_graph: bool = False,
    memory: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "n1 n2 ..."]:
    """Kernel entries sum over parameters of df_c(x) / dtheta . df_d(x') / dtheta.

    Args:
        model: any module, also wrapped by `torch.compile` or data parallelism, with one row of
            outputs for each sample; or a pair (module, values by name for its parameters and
            buffers), such as one member of an ensemble.
        x1: inputs, samples first: a tensor for model(x), a tuple for model(*x), a dict for
            model(**x); moved to the parameters' device.
        x2: a second set of inputs; None computes the symmetric kernel on `x1` at half the cost.
        output: "trace" sums over outputs, (n1, n2); "diagonal" keeps c = d, (n1, n2, C); "full"
            keeps all, (n1, n2, C, C); an integer is the kernel of that output alone, (n1, n2); a
            callable picks a tensor with samples first out of whatever the model returns, whose
            entries are then traced. Axes of the output behind the first are flattened into C.
        params: names of parameters, or a predicate of name and parameter over the trainable ones;
            None is every trainable parameter. A tied parameter counts once, under any of its names.
        method: "auto" takes rules where operations have them and gradients sample by sample for
            the other parameters; "structured" allows rules alone, "jacobian" gradients alone;
            "products" multiplies by unit vectors, with one direction in parameter space in memory.
        create_graph: keep the autograd graph, so that the kernel can be differentiated with respect
            to the inputs and the parameters. The whole Jacobian is then held, whatever `memory` is.
        memory: budget in bytes for what is held beside the kernel; None is a quarter of what is
            free. Too small a budget costs time, never an error: work is cut and repeated, and cut
            again where memory runs out all the same.
        out: path of a `.npy` file the kernel is written to block by block, see `ntk.tiles`: a job
            that is killed goes on when it is called again, `torchrun` spreads it over processes,
            and `ntk.verify` checks the file. The returned tensor is a memory map of it.
        progress: called with what is done and the total, in pairs of samples.

    Returns:
        The kernel on the parameters' device (in main memory with `out`), float64 for a float64
        model and float32 otherwise. Bitwise symmetric if `x2` is None. A view for "diagonal" and
        "full", whose squares (n1, n2) lie together in memory.

    Cost: a forward pass and C backward passes over all samples, without gradients of weights, and
    for each parameter what `ntk.plan` says. Two samples are held against plain autograd. The
    model's training flags, gradients, buffers and the random states are left as they were.

    Raises:
        ValueError: the forward is random or mixes the samples of a batch; an output, method or
            parameter that does not exist; empty inputs; inputs of unequal shape; with
            method="structured", a parameter without a rule.
        TypeError: `model` is not a module.
        OSError: with `out`, no room on disk, found out before anything is computed.

    Source: Jacot, Gabriel, Hongler 2018; the two Gram matrices of a linear map: Goodfellow 2015,
    "Efficient per-example gradient computations"; Novak et al. 2022, "Fast finite width NTK".
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; pass one of {', '.join(METHODS)}.")
    if method == "products" and (create_graph or out is not None):
        raise ValueError(
            "method='products' gives a plain kernel in memory; leave out out= and create_graph, or "
            "pass method='auto'."
        )
    if out is not None and Path(out).suffix != ".npy":
        raise ValueError(f"out is {str(out)!r}; give the path of a .npy file.")
    if create_graph and out is not None:
        raise ValueError(
            "a kernel on disk has no autograd graph; leave out either out= or create_graph."
        )
    kernels = _kernels(
        model, x1, x2, output, params, method, create_graph, memory, out, progress, apart=False
    )
    return next(iter(kernels.values()))


def gram_by_parameter(
    model: Model,
    x1: Batch,
    x2: Batch | None = None,
    *,
    output: Output = "trace",
    params: Choice | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "n1 n2 ..."]]:
    """The kernel of every parameter by name, in named order; their sum is :func:`gram`.

    One pass, at the cost of the one kernel. Arguments and errors as for :func:`gram`.
    """
    return _kernels(
        model, x1, x2, output, params, "auto", False, memory, None, progress, apart=True
    )


@torch.inference_mode(mode=False)
def _kernels(
    model: Model,
    x1: Batch,
    x2: Batch | None,
    output: Output,
    params: Choice | None,
    method: Method,
    create_graph: bool,
    memory: int | None,
    out: str | Path | None,
    progress: Progress | None,
    *,
    apart: bool,
) -> dict[str, Tensor]:
    select = output if callable(output) else None
    forward = as_function(model, params=params, select=select, attached=create_graph)
    x1 = prepared(x1, "x1", forward.device, attached=create_graph)
    if x2 is not None:
        x2 = prepared(x2, "x2", forward.device, attached=create_graph)
        same_form(x1, x2)
    if memory is None:
        memory = default_budget(forward.device)
    with undisturbed(forward.device):
        if create_graph:
            detached = each(torch.Tensor.detach, x1)
            outputs_count, sample_bytes = probe(forward, detached)
            kind, outputs = outputs_of(output, outputs_count)
            jacobian = choose_route(
                forward, detached, Columns.of(forward.chosen, apart=False), sample_bytes, memory
            )
            return {"": differentiable_kernel(jacobian, x1, x2, kind, outputs)}
        kind, outputs = outputs_of(output, look(forward, x1))
        if method == "products":
            k = kernel_by_products(
                forward,
                x1,
                x2,
                kind=kind,
                outputs=tuple(outputs),
                memory=memory,
                progress=progress,
            )
            return {"": _shaped(k.to(Columns.of(forward.chosen, apart=False).dtype), kind)}
        engine = Engine(forward, kind, tuple(outputs), memory, method, x1, x2)
        if out is not None:
            return {"": _on_disk(engine, out, progress)}
        kernels = engine.compute(apart=apart, progress=progress)
        names = tuple(forward.chosen) if apart else ("",)
        return {name: _shaped(k, kind) for name, k in zip(names, kernels, strict=True)}


def _on_disk(engine: Engine, out: str | Path, progress: Progress | None) -> Tensor:
    """The kernel in a file, block by block."""
    forward, kind = engine.forward, engine.kind
    c = len(engine.outputs)
    tail = {"trace": (), "diagonal": (c,), "full": (c, c)}[kind]
    n1 = count(engine.x1)
    n2 = n1 if engine.x2 is None else count(engine.x2)
    engine.align(BLOCK)

    def compute(rows: slice, columns: slice) -> Tensor:
        shape = (engine.squares, rows.stop - rows.start, columns.stop - columns.start)
        block = filled(shape, engine.dtype, forward.device)
        engine.add_block(rows, columns, dict.fromkeys(forward.chosen, block))
        return _shaped(block, kind)

    made_of = tiles.fingerprint(
        f"{type(forward.module).__qualname__} {forward.module}",
        {name: p.detach() for name, p in (forward.rest | forward.chosen).items()},
        sorted(forward.chosen),
        *(tensors(x) for x in (engine.x1, engine.x2) if x is not None),
        kind,
        list(engine.outputs),
        # How the work is cut shows in the last bits.
        engine.chunk_rows,
        torch.__version__,
    )
    found = tiles.stream(
        out,
        shape=(n1, n2, *tail),
        dtype=np.dtype(np.float64 if engine.dtype == torch.float64 else np.float32),
        block=BLOCK,
        symmetric=engine.x2 is None,
        fingerprint=made_of,
        compute=compute,
        progress=progress,
    )
    return torch.from_numpy(found)


def _shaped(k: Float[Tensor, "G n1 n2"], kind: Kind) -> Tensor:
    if kind == "trace":
        return k[0]
    if kind == "diagonal":
        return k.permute(1, 2, 0)
    c = math.isqrt(k.shape[0])
    return k.view(c, c, *k.shape[1:]).permute(2, 3, 0, 1)


def outputs_of(output: Output, count: int) -> tuple[Kind, Sequence[int]]:
    """What becomes of a model's outputs, and which of them count.

    Raises:
        ValueError: there is no such output.
    """
    if callable(output) or output == "trace":
        return "trace", range(count)
    if output == "diagonal":
        return "diagonal", range(count)
    if output == "full":
        return "full", range(count)
    if isinstance(output, int) and not isinstance(output, bool):
        if not -count <= output < count:
            raise ValueError(
                f"output {output} does not exist; the model has {count}, counted from 0."
            )
        return "trace", [output % count]
    raise ValueError(
        f"there is no output {output!r}; pass 'trace', 'diagonal', 'full', an integer, a callable."
    )
