"""Sums and factors are kept in float64 wherever the device has it."""

from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64; as it is on Apple's GPUs, which have no float64."""
    return tensor if tensor.device.type == "mps" else tensor.double()
