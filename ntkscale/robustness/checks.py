"""What an attack refuses before it begins: inputs out of range, models that are still training."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from ntkscale.ntk import unwrap
from ntkscale.robustness.loss_gradient import Model
from ntkscale.robustness.threat import Threat

_CURE = "; call model.eval() before the attack."


def check_attack(
    model: Model, x: Float[Tensor, "n ..."], labels: Int[Tensor, "n"], threat: Threat
) -> None:
    """Refuse what no attack can start from.

    Raises:
        ValueError: inputs that are not a batch of finite floats inside the threat's range, labels
            of another number, or a model in training mode (`check_evaluating`).
    """
    check_batch(x, labels)
    check_range(x, threat)
    check_evaluating(model, x)


def check_batch(x: Float[Tensor, "n ..."], labels: Tensor) -> None:
    """Refuse what is not a batch with its labels.

    Raises:
        ValueError: inputs that are not (n, ...) finite floats, or labels of another number.
    """
    if x.ndim < 2 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(
            f"the inputs have shape {tuple(x.shape)} and {x.dtype}; pass floats with samples along "
            "the first axis, such as pixels / 255 of shape (n, 1, 28, 28)."
        )
    if labels.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"there are labels of shape {tuple(labels.shape)} for {len(x)} inputs; pass one a "
            "sample."
        )
    if not x.isfinite().all():
        raise ValueError("the inputs hold nan or inf; leave those samples out.")


def check_range(x: Float[Tensor, "n ..."], threat: Threat) -> None:
    """Refuse inputs that are not valid themselves.

    Raises:
        ValueError: inputs below `threat.low` or above `threat.high`.
    """
    low, high = x.min(), x.max()
    # Compared in the inputs' dtype: 0.1 in float32 is a valid input of a range that ends at 0.1.
    below = threat.low is not None and bool(low < threat.low)
    above = threat.high is not None and bool(high > threat.high)
    if below or above:
        ends = [math.inf if end is None else end for end in (threat.low, threat.high)]
        lowest = -math.inf if threat.low is None else ends[0]
        raise ValueError(
            f"the inputs run from {low.item():.6g} to {high.item():.6g}, outside the threat's "
            f"range of {lowest:g} to {ends[1]:g}; scale them to it, or pass Threat(low=..., "
            "high=...) with the range they have (None: unbounded)."
        )


def check_evaluating(model: Model, x: Float[Tensor, "n ..."]) -> None:
    """Refuse a module in training mode whose forward depends on it; others pass.

    Layers of PyTorch are known by their type. With modules of other types, the outputs of two
    samples in both modes are compared, which leaves modes, buffers and random states alone.

    Raises:
        ValueError: such a module, or batch norm without running statistics.
    """
    if not isinstance(model, nn.Module):
        return
    module = unwrap(model)
    parts = dict(module.named_modules())
    for name, part in parts.items():
        where = repr(name) if name else "the model"
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise ValueError(
                f"batch norm {where} keeps no running statistics, so that the samples of a batch "
                "change each other's gradient; make it with track_running_stats=True."
            )
        if part.training and _depends_on_mode(part):
            raise ValueError(
                f"{type(part).__name__} {where} is in training mode, so that an attack would see "
                f"another model than the one that is evaluated{_CURE}"
            )
    unknown = any(not type(part).__module__.startswith("torch.nn") for part in parts.values())
    if unknown and any(part.training for part in parts.values()) and _changes(module, x[:2]):
        raise ValueError(f"the model is in training mode and answers differently in it{_CURE}")


def _depends_on_mode(part: nn.Module) -> bool:
    if isinstance(part, _DropoutNd):
        return part.p > 0
    if isinstance(part, nn.MultiheadAttention | nn.RNNBase):
        return part.dropout > 0
    if isinstance(part, _InstanceNorm):
        return part.track_running_stats
    return isinstance(part, _BatchNorm | nn.RReLU)


def _changes(module: nn.Module, x: Tensor) -> bool:
    """Whether the outputs at x differ between the mode it is in and evaluation mode."""
    flags = [(part, part.training) for part in module.modules()]
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            here = functional_call(module, _buffers(module), (x,))
            for part, _ in flags:
                part.training = False
            there = functional_call(module, _buffers(module), (x,))
    finally:
        for part, training in flags:
            part.training = training
    if not isinstance(here, Tensor) or not isinstance(there, Tensor):
        return False  # refused for that where the outputs are used
    tolerance = 1e-8 if here.dtype == torch.float64 else 1e-3
    scale = float(there.abs().max()) if there.numel() else 0.0
    return not torch.allclose(here, there, rtol=0, atol=tolerance * scale, equal_nan=True)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies, so that a forward that writes into them leaves the module's own alone."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}
