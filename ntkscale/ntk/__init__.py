"""The empirical neural tangent kernel of any ``nn.Module``, and what one measures on a kernel.

The kernel is the plain ``J J^T`` of the outputs' Jacobian with respect to the parameters; no
factor of width, richness or number of outputs is put in.

Kernels
    gram                 the kernel on one or two sets of inputs: traced, diagonal, full
    gram_by_parameter    the kernel of every parameter in one pass; their sum is the kernel
    verify               the damaged blocks of a kernel on disk (`gram(out=path)`)
    unwrap               the module under the wrappers of compilation and data parallelism

Measures (plain arrays in, plain numbers out; autograd goes through them)
    kernel_distance      1 - <K1, K2> / (|K1| |K2|), the distance S between two kernels' shapes
    kernel_change        |K2 - K1| / |K1|
    alignment            <K, Y Y^T> / (|K| |Y Y^T|)
    effective_rank       (tr K)^2 / tr K^2
    trace                sum of the diagonal
    eigensystem          eigenvalues, largest first, and eigenvectors with a fixed sign
    fix_signs            that sign, for eigenvectors from elsewhere
    target_power         squared target coefficient on each eigenvector, per sample
"""

from ntkscale.ntk.eigen import eigensystem, fix_signs, target_power
from ntkscale.ntk.forward import unwrap
from ntkscale.ntk.kernel import gram, gram_by_parameter
from ntkscale.ntk.measures import (
    alignment,
    effective_rank,
    kernel_change,
    kernel_distance,
    trace,
)
from ntkscale.ntk.tiles import verify

__all__ = [
    "alignment",
    "effective_rank",
    "eigensystem",
    "fix_signs",
    "gram",
    "gram_by_parameter",
    "kernel_change",
    "kernel_distance",
    "target_power",
    "trace",
    "unwrap",
    "verify",
]
