"""What a snapshot of the kernel costs, in training steps of the same network, without a clock.

Work is counted on one sample and turned into time by the rates of one nominal processor core. Only
ratios matter, and the same network gets the same answer everywhere.
`python benchmarks/tracker_cost.py` measures how near the count comes; wide dense networks are
dearer than counted.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ntkscale import ntk
from ntkscale.tracking.evaluation import evaluating

# Nominal rates, in work a millisecond.
MULTIPLY_ADDS = 3e7
BYTES = 5e6

# Nominal overheads of Python and the optimiser, in milliseconds.
STEP = 0.2
SNAPSHOT = 25.0

PASSES = 6
"""Times a training step moves the bytes autograd keeps: written and read, forward and backward."""

COPIES = 3
"""Times a snapshot moves a gradient: written, copied into its row, read by the product."""

TRIANGLE = 0.7
"""Share of the symmetric product that is computed."""

EIGENVALUES = 10.0
"""Multiply-adds of the eigenvalues of a kernel on n points, over n^3, at the rate of a product."""


def snapshot_in_steps(
    model: nn.Module, inputs: Float[Tensor, "n ..."], *, batch: int, probe: int, outputs: int
) -> float:
    """Cost of one kernel on `probe` points, `outputs` traced, in steps of `batch` samples.

    Runs one forward pass of one sample; the model and the random states are left as they were.
    """
    module = ntk.unwrap(model)
    multiply_adds, kept = _work(module, inputs[:1])
    trained = [p for p in module.parameters() if p.requires_grad]
    entries = sum(p.numel() for p in trained)
    size = max((p.element_size() for p in trained), default=4)
    # A backward pass does twice the work of the forward pass.
    step = STEP + batch * (3 * multiply_adds / MULTIPLY_ADDS + PASSES * kept / BYTES)
    rows = probe * outputs
    gradients = rows * (2 * multiply_adds / MULTIPLY_ADDS + COPIES * entries * size / BYTES)
    product = TRIANGLE * rows * probe * entries / MULTIPLY_ADDS
    spectrum = EIGENVALUES * probe**3 / MULTIPLY_ADDS
    return (SNAPSHOT + gradients + product + spectrum) / step


def _work(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """Multiply-adds of a forward pass of one sample, and the bytes autograd keeps of it."""
    own = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
    kept = 0

    def pack(saved: Tensor) -> Tensor:
        nonlocal kept
        pointer = saved.untyped_storage().data_ptr()
        if pointer not in own:
            own.add(pointer)
            kept += saved.numel() * saved.element_size()
        return saved

    first = next(module.parameters(), x)
    counter = FlopCounterMode(display=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved)
    with evaluating(module), torch.random.fork_rng(), torch.enable_grad(), hooks, counter:
        module(x.to(first.device, first.dtype) if x.is_floating_point() else x.to(first.device))
    return counter.get_total_flops() // 2, kept
