"""One training over several processes started by `torchrun`, each taking a share of every batch.

    torchrun --nproc-per-node 2 train.py ...

Every process holds the whole network and data set; the mean gradient over all shares equals that of
one process, up to the order of summation. Only rank 0 records.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def process_group(device: torch.device | str = "cpu") -> Iterator[torch.device]:
    """Join the other processes, if `torchrun` started any; yields the device of this one.

    Uses NCCL on CUDA (device number LOCAL_RANK) and gloo elsewhere. Without torchrun, or when a
    group is there already, it does nothing and yields `device`.
    """
    device = torch.device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 records."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def data_parallel(model: nn.Module) -> nn.Module:
    """The model with gradients averaged over all processes; the model itself if there is only one.

    Buffers are not broadcast in each step: they are constants of the network, and equal already.
    """
    if ranks() == 1 or isinstance(model, DistributedDataParallel):
        return model
    return DistributedDataParallel(model, broadcast_buffers=False)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile` and `DistributedDataParallel`, in any order."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place."""
    if ranks() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
