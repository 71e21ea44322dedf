"""The empirical neural tangent kernel, J J^T, of any module on one or two sets of inputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.ntk.accumulate import Kind, Plan, panels
from ntkscale.ntk.differentiable import differentiable_kernel
from ntkscale.ntk.forward import Choice, Forward, Model, as_function
from ntkscale.ntk.jacobian import CACHE, Columns, Jacobian
from ntkscale.ntk.suitability import probe, pulls_back_alike, undisturbed

Output = Literal["trace", "diagonal", "full"] | int | Callable[[Any], Tensor]
Progress = Callable[[int, int], object]

MEMORY = 1 << 30
"""Default budget for Jacobian rows on a processor; on a CUDA device, an eighth of its memory:
not of what happens to be free, so that equal runs cut the work equally, to the last bit."""


def gram(
    model: Model,
    x1: Float[Tensor, "n1 ..."],
    x2: Float[Tensor, "n2 ..."] | None = None,
    *,
    output: Output = "trace",
    params: Choice | None = None,
    method: Literal["auto", "jacobian"] = "auto",
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
        x1: inputs, samples first; moved to the parameters' device.
        x2: a second set of inputs; None computes the symmetric kernel on `x1` at half the cost.
        output: "trace" sums over outputs, (n1, n2); "diagonal" keeps c = d, (n1, n2, C); "full"
            keeps all, (n1, n2, C, C); an integer is the kernel of that output alone, (n1, n2); a
            callable picks a tensor with samples first out of whatever the model returns, whose
            entries are then traced. Axes of the output behind the first are flattened into C.
        params: names of parameters, or a predicate of name and parameter over the trainable ones;
            None is every trainable parameter. A tied parameter counts once, under any of its names.
        method: "jacobian" is the one method there is; "auto" picks it.
        create_graph: keep the autograd graph, so that the kernel can be differentiated with respect
            to the inputs and the parameters. The whole Jacobian is then held, whatever `memory` is.
        memory: budget in bytes for the Jacobian rows held at a time; None is 1 GiB, or an eighth
            of a CUDA device's memory. The kernel itself and one panel of it come on top.
            Too small a budget costs time, never an error: rows are computed again.
        out: path of a `.npy` file the kernel is written to panel by panel through a memory map;
            the returned tensor is that map. The file appears under its name once it is complete.
        progress: called with the Jacobian rows (one output of one sample) done and their total.

    Returns:
        The kernel on the parameters' device (in main memory with `out`), float64 for a float64
        model and float32 otherwise; sums are taken in float64. Bitwise symmetric if `x2` is None.

    Cost: C backward passes of single samples for each sample, C n1 n2 multiply-adds for each
    parameter (half if symmetric). The model's training flags, gradients, buffers and the random
    states are left as they were.

    Raises:
        ValueError: the forward is random or mixes the samples of a batch; an output, method or
            parameter that does not exist; empty inputs; inputs of unequal shape.
        TypeError: `model` is not a module.
    """
    if method not in ("auto", "jacobian"):
        raise ValueError(f"there is no method {method!r}; pass method='auto' or 'jacobian'.")
    if create_graph and out is not None:
        raise ValueError(
            "a kernel on disk has no autograd graph; leave out either out= or create_graph."
        )
    kernels = _kernels(
        model, x1, x2, output, params, create_graph, memory, out, progress, apart=False
    )
    return next(iter(kernels.values()))


def gram_by_parameter(
    model: Model,
    x1: Float[Tensor, "n1 ..."],
    x2: Float[Tensor, "n2 ..."] | None = None,
    *,
    output: Output = "trace",
    params: Choice | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "n1 n2 ..."]]:
    """The kernel of every parameter by name, in named order; their sum is :func:`gram`.

    One pass, at the cost of the one kernel. Arguments and errors as for :func:`gram`.
    """
    return _kernels(model, x1, x2, output, params, False, memory, None, progress, apart=True)


@torch.inference_mode(mode=False)
def _kernels(
    model: Model,
    x1: Tensor,
    x2: Tensor | None,
    output: Output,
    params: Choice | None,
    create_graph: bool,
    memory: int | None,
    out: str | Path | None,
    progress: Progress | None,
    *,
    apart: bool,
) -> dict[str, Tensor]:
    select = output if callable(output) else None
    forward = as_function(model, params=params, select=select, attached=create_graph)
    x1 = _inputs(x1, "x1", forward, create_graph)
    if x2 is not None:
        x2 = _inputs(x2, "x2", forward, create_graph)
        if x1.shape[1:] != x2.shape[1:]:
            raise ValueError(
                f"samples of x1 have shape {tuple(x1.shape[1:])} and those of x2 "
                f"{tuple(x2.shape[1:])}; give both the shape the model takes."
            )
    if memory is None:
        memory = MEMORY
        if forward.device.type == "cuda":
            memory = torch.cuda.mem_get_info(forward.device)[1] // 8
    with undisturbed(forward.device):
        v, gradient, count, sample_bytes = probe(forward, x1.detach())
        kind, outputs = _outputs(output, count)
        columns = Columns.of(forward.chosen, apart=apart)
        jacobian = _choose_route(forward, x1, columns, sample_bytes, memory, v, gradient)
        names = columns.names if apart else ("",)
        if create_graph:
            return {"": differentiable_kernel(jacobian, x1, x2, kind, outputs)}
        plan = Plan.fit(
            x1.shape[0],
            None if x2 is None else x2.shape[0],
            len(outputs),
            kind,
            columns.row_bytes,
            memory,
        )
        n2 = x1.shape[0] if x2 is None else x2.shape[0]
        tail = {"trace": (), "diagonal": (count,), "full": (count, count)}[kind]
        store = _Store((x1.shape[0], n2, *tail), columns.dtype, forward.device, len(names), out)
        for first, last, panel in panels(
            jacobian, x1, x2, outputs=outputs, kind=kind, plan=plan, progress=progress
        ):
            store.write(first, last, panel, mirror=x2 is None)
        return dict(zip(names, store.close(), strict=True))


def _inputs(x: Tensor, name: str, forward: Forward, create_graph: bool) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[0] == 0:
        what = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{name} is {what}; pass a tensor with at least one sample along its first axis."
        )
    x = x if create_graph else x.detach()
    x = x.to(forward.device)
    # A tensor made in inference mode cannot be saved for a backward pass.
    return x.clone() if x.is_inference() else x


def _outputs(output: Output, count: int) -> tuple[Kind, Sequence[int]]:
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


def _choose_route(
    forward: Forward,
    x: Tensor,
    columns: Columns,
    sample_bytes: int,
    memory: int,
    v: Tensor,
    gradient: list[Tensor],
) -> Jacobian:
    """The vectorised route where it gives autograd's gradient on the first samples."""
    step = min(CACHE, memory) if forward.device.type == "cpu" else memory // 4
    fast = Jacobian(forward, columns, sample_bytes, vectorised=True, step_bytes=step)
    # No batching rule, a branch on data, an operation torch.func gets wrong: the other route.
    try:
        rows = fast.rows(x[: v.shape[0]].detach(), range(v.shape[1]))
        if pulls_back_alike(rows, v, gradient, forward.device):
            return fast
    except RuntimeError:
        pass
    return Jacobian(forward, columns, sample_bytes, vectorised=False)


class _Store:
    """Where panels go: tensors on the device, or one file through a memory map."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        count: int,
        out: str | Path | None,
    ):
        self.path = None if out is None else Path(out)
        if self.path is None:
            self.kernels = [torch.empty(shape, dtype=dtype, device=device) for _ in range(count)]
            return
        if self.path.suffix != ".npy":
            raise ValueError(f"out is {str(out)!r}; give the path of a .npy file.")
        self.partial = self.path.with_suffix(".npy.partial")
        numbers = np.float64 if dtype == torch.float64 else np.float32
        self.map = np.lib.format.open_memmap(self.partial, mode="w+", dtype=numbers, shape=shape)
        self.kernels = [torch.from_numpy(self.map)]

    def write(self, first: int, last: int, panels: list[Tensor], *, mirror: bool) -> None:
        for kernel, panel in zip(self.kernels, panels, strict=True):
            kernel[first:last, : panel.shape[1]] = panel
            if mirror:
                above = panel[:, :first].transpose(0, 1)
                # K_cd(x, x') = K_dc(x', x).
                kernel[:first, first:last] = above.transpose(2, 3) if above.ndim == 4 else above

    def close(self) -> list[Tensor]:
        if self.path is not None:
            self.map.flush()
            self.partial.replace(self.path)
        return self.kernels
