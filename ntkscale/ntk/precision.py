"""Whole float32 products on a GPU: TensorFloat-32 keeps 10 of 23 bits, a kernel asks for all."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.backends.cudnn

_CUDNN: Any = torch.backends.cudnn  # a module with properties, which type checkers do not see


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """TensorFloat-32 off, and afterwards as it was.

    PyTorch has it on for the convolutions and recurrent layers of every GPU; kernels of such
    networks would be off by 5e-4. Off by the old switches, which set the new ones with them: code
    that reads the old ones refuses states that only the new ones can say.
    """
    products = torch.get_float32_matmul_precision()
    convolutions, recurrent = _CUDNN.conv.fp32_precision, _CUDNN.rnn.fp32_precision
    try:
        if products != "highest":
            torch.set_float32_matmul_precision("highest")
        if "tf32" in (convolutions, recurrent):
            _CUDNN.allow_tf32 = False
        yield
    finally:
        if products != "highest":
            torch.set_float32_matmul_precision(products)
        if "tf32" in (convolutions, recurrent):
            _CUDNN.allow_tf32 = True
            _CUDNN.conv.fp32_precision, _CUDNN.rnn.fp32_precision = convolutions, recurrent
