"""The kernel as a linear operator: products and spectrum without the n x n matrix."""

import torch
from torch import Tensor, nn

from ntkscale.ntk.forward import Choice, Model, as_function, unwrap
from ntkscale.ntk.inputs import Batch, prepared
from ntkscale.ntk.kernel_operator import KernelOperator, OperatorOutput
from ntkscale.ntk.products import products

MEMORY = 1 << 30
"""Default budget on a processor; on a CUDA device, an eighth of its memory. Neither depends on what
happens to be free, so that equal runs cut the work equally, to the last bit."""


@torch.inference_mode(mode=False)
def operator(
    model: Model,
    x: Batch,
    *,
    output: OperatorOutput = "trace",
    params: Choice | None = None,
    memory: int | None = None,
) -> KernelOperator:
    """The kernel on `x` as an operator: its products are computed, the matrix never.

    A product is J (J^T v): one reverse pass over all samples and one forward-mode pass, for each
    output that is summed over. An operation without a forward-mode rule is differentiated in
    reverse twice.

    Args:
        model: as for :func:`gram`.
        x: inputs, samples first: a tensor, a tuple for `model(*x)`, or a dict for `model(**x)`.
        output: "trace" sums over outputs, size n; "full" keeps them apart, size n C, entry i C + c
            for output c of sample i; an integer is that output alone; a callable picks a tensor
            with samples first out of what the model returns, whose entries are then traced.
        params: names of parameters, or a predicate of name and parameter over the trainable ones;
            None is every trainable parameter.
        memory: budget in bytes for directions in parameter space and activations, and once more
            for the basis of :meth:`~KernelOperator.top_eigenvalues`; None is 1 GiB, or an eighth of
            a CUDA device's memory. Too small a budget costs time, never an error: at least one
            direction and the activations of one sample are held.

    Returns:
        An operator on the model's device; float64 for a float64 model and float32 otherwise, with
        sums over samples and outputs in float64.

    Cost: this call, a few passes of four samples; a product, for each output, one forward, one
    backward and one forward-mode pass over all samples, about six times a forward pass (less for
    each of several vectors). With C outputs "trace" takes C times that, "full" does not.

    Raises:
        ValueError: the forward is random or mixes the samples of a batch; an operation can be
            differentiated neither forward nor twice; an output or parameter that does not exist;
            empty inputs.
        TypeError: `model` is not a module.
    """
    if not callable(output) and output not in ("trace", "full") and not _is_index(output):
        raise ValueError(
            f"there is no operator for output {output!r}; pass 'trace', 'full', an integer, or a "
            "callable."
        )
    select = output if callable(output) else None
    frozen = _copied(model)
    forward = as_function(frozen, params=params, select=select, attached=False)
    x = prepared(x, "x", forward.device, attached=False)
    if memory is None:
        cuda = forward.device.type == "cuda"
        memory = torch.cuda.mem_get_info(forward.device)[1] // 8 if cuda else MEMORY
    linear = products(
        forward,
        x,
        output=output if isinstance(output, int) else None,
        full=output == "full",
        memory=memory,
    )
    return KernelOperator(linear, frozen, output, params, memory)


def _is_index(output: object) -> bool:
    return isinstance(output, int) and not isinstance(output, bool)


def _copied(model: Model) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module under its wrappers, and copies of all its values."""
    module, given = model if isinstance(model, tuple) else (model, {})
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"the model is a {type(module).__name__}, not an nn.Module; wrap it in a module that "
            "holds its parameters."
        )
    module = unwrap(module)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers()), **given}
    return module, {name: value.detach().clone() for name, value in own.items()}
