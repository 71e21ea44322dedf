"""What an attack is compared with: a change of equal size that knows nothing of the model."""

import torch
from jaxtyping import Float
from torch import Tensor

from ntkscale.robustness.checks import check_batch, check_range
from ntkscale.robustness.threat import Threat


def random_signs(
    x: Float[Tensor, "n ..."], threat: Threat, *, seed: int = 0
) -> Float[Tensor, "n ..."]:
    """x + eps s with independent signs s, or x + eps s / sqrt(D) under l2, clipped to the range.

    Returns:
        (n, ...) in dtype and device of x; eps = 0 gives x bit for bit.

    Source: the control of Tsilivis & Kempe 2022 (arXiv 2210.05577).

    Raises:
        ValueError: inputs that are not a batch of finite floats inside the range.
    """
    check_batch(x, torch.empty(x.shape[:1]))
    check_range(x, threat)
    start = x.detach()
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, x.shape, generator=generator)
    return threat.project(start + threat.eps * threat.steepest((2.0 * bits - 1).to(start)), start)
