"""Memory that runs out."""

import ctypes
import os
import resource
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ntkscale import ntk
from ntkscale.ntk.memory import out_of_memory
from tests.faults.not_finite import failing_batches
from tests.faults.row import Bench, Row, Skipped
from tests.faults.toys import contents, different, ended, images, run_of, whole

_MMAP_THRESHOLD = -3
"""Number of glibc's option: larger pieces are asked of the system."""


def large_pieces_apart() -> None:
    """Have large pieces of memory come from the system and go back to it, so that limits count.

    Must be called before anything large was freed.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        allocator.mallopt(_MMAP_THRESHOLD, 1 << 16)


def held() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def no_more_than(extra: int) -> None:
    """Let this process have so many bytes more than now."""
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "malloc_trim"):
        allocator.malloc_trim(0)
    resource.setrlimit(resource.RLIMIT_AS, (held() + extra, -1))


def forked(work: Callable[[], None]) -> int:
    """Exit code of a forked process that does something: 0, 1 where it raised, 2 out of memory."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except (MemoryError, RuntimeError) as error:
            code = 2 if out_of_memory(error) else 1
            if code == 1:
                raise
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


MODELS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "convolutions": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 256, 4),
        ),
        torch.randn(192, 3, 16, 16),
    ),
    "wide layers": lambda: (
        nn.Sequential(
            nn.Linear(64, 2048), nn.Tanh(), nn.Linear(2048, 2048), nn.Tanh(), nn.Linear(2048, 10)
        ),
        torch.randn(256, 64),
    ),
}


def check_kernel(bench: Bench) -> str:
    """The budget promises more than there is: blocks are halved until they fit, or it says so."""
    if not Path("/proc/self/statm").exists():
        raise Skipped("needs /proc to know how much memory is held")
    fitted = refused = 0
    for name in list(MODELS)[: bench.times(1, 2)]:
        torch.manual_seed(0)
        model, x = MODELS[name]()
        expected = ntk.gram(model, x[:96] if bench.small else x, memory=32 << 20)
        x = x[: len(expected)]
        for megabytes in (160, 64)[: bench.times(1, 2)] if bench.small else (400, 200, 100, 50, 8):

            def compute(
                megabytes: int = megabytes,
                model: nn.Module = model,
                x: torch.Tensor = x,
                expected: torch.Tensor = expected,
            ) -> None:
                no_more_than(megabytes << 20)
                found = ntk.gram(model, x, memory=4 << 30)
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

            code = forked(compute)
            assert code in (0, 2), f"{name} with {megabytes} MB: another error"
            fitted, refused = fitted + (code == 0), refused + (code == 2)
            least = 100 if name == "convolutions" else 200
            assert code == 0 or megabytes < least, f"{name}: {megabytes} MB are not enough"
    return f"{fitted} kernels right in less memory than promised, {refused} say that it ran out"


def check_command(bench: Bench) -> str:
    """A run that has not enough says so, and goes on where there is more."""
    expected = whole(images(bench.folder / "whole"))
    errors = [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ]
    for number, error in enumerate(errors[: bench.times(1, 3)]):
        words = images(bench.folder / f"runs{number}")
        done = ended(words, prepare=failing_batches(bench.draw.randrange(1, 200), error))
        assert done.code == 1, f"exit code {done.code}: {done.said}"
        assert "memory ran out" in done.one_sentence(), done.said
        again = ended(words)
        assert again.code == 0, again.said
        wrong = different(contents(run_of(words)), expected)
        assert not wrong, f"{wrong} differ"
    return "one sentence, exit code 1; with room the same bits"


ROWS = (
    Row(
        "memory runs out in a block of a kernel (limit to the address space)",
        "smaller blocks give the same kernel, or an error says what it is",
        check_kernel,
    ),
    Row(
        "memory runs out in a command (as the allocators say it)",
        "one sentence; with more memory the same bits",
        check_command,
    ),
)
